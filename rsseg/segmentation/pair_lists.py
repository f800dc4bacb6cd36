"""Lists of samples: a name, or an image and its label map, one sample a line; or images alone.

Paths are relative to the root or to the list. Absolute ones may be of another machine: what stands
before the part that exists is left away, the same for all lines and both columns.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

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


class NamedImage(NamedTuple):
    """An image without a label map, or whose label map is not looked for.

    Attributes:
        name: Its name, as that of a `Pair`.
        image: Its file.
    """

    name: str
    image: Path


S = TypeVar("S", Pair, NamedImage)


def pair_of(
    name: str, images: Mapping[str, Sequence[Path]], labels: Mapping[str, Sequence[Path]]
) -> Pair:
    """Return the sample of a name.

    Raises:
        ValueError: If it has several images or label maps.
    """
    return Pair(*image_of(name, images), _only(name, "label maps", labels))


def image_of(name: str, images: Mapping[str, Sequence[Path]]) -> NamedImage:
    """Return the image of a name.

    Raises:
        ValueError: If it has several.
    """
    return NamedImage(name, _only(name, "images", images))


def _only(name: str, kind: str, files: Mapping[str, Sequence[Path]]) -> Path:
    if len(files[name]) > 1:
        both = " and ".join(map(str, files[name][:2]))
        raise ValueError(f"{name} has several {kind}, {both}; keep one for each name")
    return files[name][0]


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
    lookup = _Lookup(root, path.parent, images, labels, _lines_of(path))
    return _samples(path, lookup.pairs(), "a name, or an image and its label map")


def listed_images(root: Path, path: Path, images: Files) -> list[NamedImage]:
    """Return the images that a list names; label maps in it are not looked for.

    Args:
        root: Folder that paths are relative to.
        path: The list.
        images: Images by name; without any, each line begins with the path of an image.

    Raises:
        ValueError: If the list names an image twice, or a name has several files.
        FileNotFoundError: If the list is missing, or a line names no image; quotes it.
    """
    lookup = _Lookup(root, path.parent, images, None, _lines_of(path))
    return _samples(path, lookup.images(), "a name, or an image")


def _lines_of(path: Path) -> list[str]:
    """Return the lines of a list without comments and names of columns."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: missing; expected a list with one sample per line")
    lines = [line.strip() for line in read_text(path).splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if lines and {word.lower() for word in re.split(r"[\s,;]+", lines[0])} <= _HEAD:
        lines = lines[1:]
    return lines


def _samples(path: Path, results: Iterable[S | str], expected: str) -> list[S]:
    """Return the samples of a list's lines; texts among them say what is wrong with a line."""
    lines = list(results)
    faults = [line for line in lines if isinstance(line, str)]
    if faults or not lines:
        reason = (
            f"{counted(len(faults), 'line')} of {len(lines)} without a sample: "
            f"{'; '.join(faults[:3])}"
            if faults
            else "it is empty"
        )
        raise FileNotFoundError(f"{path}: {reason}; expected {expected}, one sample per line")
    samples = [line for line in lines if not isinstance(line, str)]
    twice = [
        name for name, count in Counter(sample.name for sample in samples).items() if count > 1
    ]
    if twice:
        raise ValueError(f"{path}: names {twice[0]} twice; expected each sample once")
    return samples


class _Lookup:
    """The samples that the lines of a list name; with labels None their images alone."""

    def __init__(
        self, root: Path, folder: Path, images: Files, labels: Files | None, lines: Sequence[str]
    ) -> None:
        self._places = tuple(dict.fromkeys((root, folder)))
        self._images, self._labels, self._lines = images, labels or {}, lines
        self._labelled = labels is not None
        self._by_path = {paths[0].resolve(): name for name, paths in images.items()}
        self._foreign = self._foreign_prefix(lines[0]) if lines else ""

    def pairs(self) -> Iterator[Pair | str]:
        """Yield the files of each line; or, as text, why there are none."""
        for line in self._lines:
            yield self._pair(line)

    def images(self) -> Iterator[NamedImage | str]:
        """Yield the image of each line; or, as text, why there is none."""
        for line in self._lines:
            yield self._image(line)

    def _image(self, line: str) -> NamedImage | str:
        name = self._name(line)
        if name is not None:
            return image_of(name, self._images)
        for text in (line, *(image for image, _ in _columns(line))):
            if path := self._file(text):
                return NamedImage(_name_of(text), path)
        return f"'{line}' was not found"

    def _name(self, line: str) -> str | None:
        """Return which of the images by name a line is of."""
        stem, dot, suffix = line.rpartition(".")
        is_file = f"{dot}{suffix}".lower() in IMAGE_SUFFIXES
        for name in (line, stem if is_file else line):
            if name in self._images:
                return name
        path = self._file(line)
        return self._by_path.get(path.resolve()) if path else None

    def _pair(self, line: str) -> Pair | str:
        name = self._name(line)
        if name is not None:
            if name in self._labels:
                return pair_of(name, self._images, self._labels)
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
        columns = _columns(line) if self._labelled else ((i, i) for i, _ in _columns(line))
        for image, label in (*columns, *(() if self._labelled else [(line, line)])):
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
