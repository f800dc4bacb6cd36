"""Lists of samples: a name, or an image and its label map, one sample a line.

Paths are relative to the root or to the list. Absolute ones may be of another machine: what stands
before the part that exists is left away, the same for all lines and both columns.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from rsseg.common.files import read_text
from rsseg.common.messages import counted
from rsseg.images.reading import IMAGE_SUFFIXES

Files = dict[str, list[Path]]  # by what wildcards stand for
_COLUMNS: Final = (re.compile(r"\t+"), re.compile(r"\s*[,;]\s*"), re.compile(r"\s+"))
# Words of a first line that names the columns.
_HEAD: Final = frozenset(
    [
        *("image", "images", "img", "file", "filename", "file_name", "path", "image_path", "name"),
        *("label", "labels", "mask", "masks", "annotation", "annotations", "segmentation", "gt"),
        *("label_path", "mask_path", "target", "split", "id", "image_id"),
    ]
)
# A folder of one of these names says which samples a path is of: it is not left away.
_TELLING: Final = frozenset(["train", "training", "val", "valid", "validation", "test", "testing"])


class Pair(NamedTuple):
    """The files of a sample.

    Attributes:
        name: Its name, with "/" where it lies in a folder of the folder.
        image: Its image.
        label: Its label map.
    """

    name: str
    image: Path
    label: Path


def pair_of(
    name: str, images: Mapping[str, Sequence[Path]], labels: Mapping[str, Sequence[Path]]
) -> Pair:
    """Return the sample of a name.

    Raises:
        ValueError: If it has several images or label maps.
    """
    for kind, files in (("images", images[name]), ("label maps", labels[name])):
        if len(files) > 1:
            both = " and ".join(map(str, files[:2]))
            raise ValueError(f"{name} has several {kind}, {both}; keep one for each name")
    return Pair(name, images[name][0], labels[name][0])


def listed_pairs(root: Path, path: Path, images: Files, labels: Files) -> list[Pair]:
    """Return the samples that a list names.

    Args:
        root: Folder that paths are relative to.
        path: The list.
        images: Images by name; without any, each line has two paths.
        labels: Label maps by name.

    Raises:
        ValueError: If the list names a sample twice, or a name has several files.
        FileNotFoundError: If the list is missing, or a line names no sample; quotes it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: missing; expected a list with one sample per line")
    lines = [line.strip() for line in read_text(path).splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if lines and {word.lower() for word in re.split(r"[\s,;]+", lines[0])} <= _HEAD:
        lines = lines[1:]
    pairs = list(_Lookup(root, path.parent, images, labels, lines).pairs())
    faults = [pair for pair in pairs if isinstance(pair, str)]
    if faults or not pairs:
        reason = (
            f"{counted(len(faults), 'line')} of {len(pairs)} without a sample: "
            f"{'; '.join(faults[:3])}"
            if faults
            else "it is empty"
        )
        raise FileNotFoundError(
            f"{path}: {reason}; expected a name, or an image and its label map, one sample per line"
        )
    samples = [pair for pair in pairs if isinstance(pair, Pair)]
    twice = [name for name, count in Counter(pair.name for pair in samples).items() if count > 1]
    if twice:
        raise ValueError(f"{path}: names {twice[0]} twice; expected each sample once")
    return samples


class _Lookup:
    """The samples that the lines of a list name."""

    def __init__(
        self, root: Path, folder: Path, images: Files, labels: Files, lines: Sequence[str]
    ) -> None:
        self._places = tuple(dict.fromkeys((root, folder)))
        self._images, self._labels, self._lines = images, labels, lines
        self._by_path = {paths[0].resolve(): name for name, paths in images.items()}
        self._foreign = self._foreign_prefix(lines[0]) if lines else ""

    def pairs(self) -> Iterator[Pair | str]:
        """Yield the files of each line; or, as text, why there are none."""
        for line in self._lines:
            yield self._pair(line)

    def _pair(self, line: str) -> Pair | str:
        stem, dot, suffix = line.rpartition(".")
        is_file = f"{dot}{suffix}".lower() in IMAGE_SUFFIXES
        names = [name for name in (line, stem if is_file else line) if name in self._images]
        if not names and (path := self._file(line)):
            names = [name for name in (self._by_path.get(path.resolve()),) if name is not None]
        if names:
            if names[0] in self._labels:
                return pair_of(names[0], self._images, self._labels)
            return f"'{line}' has no label map"
        for image, label in _columns(line):
            files = self._file(image), self._file(label)
            if files[0] and files[1]:
                return Pair(_name_of(image), files[0], files[1])
        return f"'{line}' was not found"

    def _file(self, text: str) -> Path | None:
        below = text.removeprefix(self._foreign) if self._foreign else text
        candidates = (Path(text), *(place / below for place in self._places))
        return next((path for path in candidates if path.is_file()), None)

    def _foreign_prefix(self, line: str) -> str:
        """Return what stands before the paths of another machine: "/SegNet/CamVid/"."""
        for image, label in _columns(line):
            if not image.startswith("/") or Path(image).is_file():
                continue
            parts = image.split("/")
            for count in range(1, len(parts)):
                prefix = "/".join([*parts[:count], ""])
                if _TELLING & {part.lower() for part in parts[:count]}:
                    break
                rests = [text.removeprefix(prefix) for text in (image, label)]
                if label.startswith(prefix) and all(self._is_below(rest) for rest in rests):
                    return prefix
        return ""

    def _is_below(self, text: str) -> bool:
        return any((place / text).is_file() for place in self._places)


def _columns(line: str) -> Iterator[tuple[str, str]]:
    """Yield the first two columns of a line, by each separator that it may have."""
    for separator in _COLUMNS:
        parts = separator.split(line)
        if len(parts) >= 2:
            yield parts[0], parts[1]


def _name_of(image: str) -> str:
    return image.strip("/").rpartition(".")[0] or image
