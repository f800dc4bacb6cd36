"""Which label map belongs to which image: folders, patterns and lists of files.

A pattern such as `leftImg8bit/train/*/*_leftImg8bit.png` pairs with
`gtFine/train/*/*_gtFine_labelIds.png` where the wildcards stand for the same: what they stand for
is the name of the sample. A folder stands for all images in it and in its folders. A list names
samples, or image and label map of each.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from pydantic.dataclasses import dataclass

from rsseg.common.config import STRICT
from rsseg.common.files import read_text
from rsseg.common.messages import listed

IMAGE_SUFFIXES: Final = (
    *(".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".gif", ".jp2"),
)
_WILD: Final = re.compile(r"\*\*/?|\*|\?")
_SPLIT: Final = (re.compile(r"\t+"), re.compile(r"\s*[,;]\s*"), re.compile(r"\s+"))


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


@dataclass(frozen=True, config=STRICT, kw_only=True)
class SplitConfig:
    """Where the samples of a split are, below `data.root`.

    Args:
        images: Folder of images, or a pattern with * (within a folder) and ** (any folders).
        labels: The same for the label maps.
        list: File of one sample a line: its name, or its image and its label map, which may be
            all that is given. Default: every image.
    """

    images: str | None = None
    labels: str | None = None
    list: str | None = None

    def __post_init__(self) -> None:
        if (self.images is None) != (self.labels is None):
            given, other = ("images", "labels") if self.images else ("labels", "images")
            raise ValueError(f"{given} is given and {other} is not; give both, or a list of pairs")
        if self.images is None and self.list is None:
            raise ValueError("give images and labels, or a list")


def find_pairs(root: Path, split: SplitConfig, *, skip: bool = False) -> tuple[list[Pair], int]:
    """Return the samples of a split, and how many images without label map were left out.

    Args:
        root: Folder that the split's paths are relative to.
        split: Where the samples are.
        skip: Leave out images without label map, instead of refusing them.

    Raises:
        ValueError: If images and label maps do not pair, or a list is faulty.
        FileNotFoundError: If a folder or file is missing.
    """
    if split.images is None or split.labels is None:
        assert split.list is not None
        return _listed_pairs(root, root / split.list, {}, {}), 0
    labels = _label_maps(root, split.labels)
    label_paths = {path for paths in labels.values() for path in paths}
    # Label maps may lie among the images: what the pattern of label maps matches is no image.
    images = {
        name: [path for path in paths if path not in label_paths]
        for name, paths in _matches(root, split.images).items()
    }
    images = {name: paths for name, paths in images.items() if paths}
    if not images or not labels:
        kind, place = ("images", split.images) if not images else ("label maps", split.labels)
        raise ValueError(
            f"{root / place}: no {kind} ({', '.join(IMAGE_SUFFIXES)}) there; correct data.root and "
            "the paths of the split"
        )
    if split.list is not None:
        return _listed_pairs(root, root / split.list, images, labels), 0
    unlabelled = sorted(images.keys() - labels.keys())
    if unlabelled and not (skip and len(unlabelled) < len(images)):
        raise ValueError(_unpaired_message(root, split, images, labels, unlabelled))
    orphans = sorted(labels.keys() - images.keys())
    if orphans:
        raise ValueError(
            f"{len(orphans)} of {len(labels)} label maps in {root / split.labels} have no image in "
            f"{root / split.images} ({listed(orphans, 3)}); add the images or remove the label maps"
        )
    names = sorted(images.keys() & labels.keys())
    return [_pair(name, images, labels) for name in names], len(unlabelled)


def _pair(
    name: str, images: Mapping[str, Sequence[Path]], labels: Mapping[str, Sequence[Path]]
) -> Pair:
    for kind, files in (("images", images[name]), ("label maps", labels[name])):
        if len(files) > 1:
            both = " and ".join(map(str, files[:2]))
            raise ValueError(f"{name} has several {kind}, {both}; keep one for each name")
    return Pair(name, images[name][0], labels[name][0])


def _label_maps(root: Path, place: str) -> dict[str, list[Path]]:
    """Return the label maps of a folder or pattern: the PNGs, where there are any."""
    matches = _matches(root, place)
    pngs = {n: [p for p in paths if p.suffix.lower() == ".png"] for n, paths in matches.items()}
    pngs = {name: paths for name, paths in pngs.items() if paths}
    return pngs or matches  # Files of another kind are refused when they are read, with the reason.


def _matches(root: Path, place: str) -> dict[str, list[Path]]:
    """Return the pictures of a folder or pattern by what its wildcards stand for."""
    folder, pattern = _divide(place)
    base = (root / folder).expanduser()
    if not base.is_dir():
        raise FileNotFoundError(f"{base}: no such folder; correct data.root, or the path '{place}'")
    matches: dict[str, list[Path]] = {}
    rule = _rule(pattern) if pattern else None
    for file in _files(base):
        below = file.relative_to(base).as_posix()
        if file.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        if rule is None:
            matches.setdefault(below[: -len(file.suffix)], []).append(file)
        elif match := rule.fullmatch(below):
            name = "/".join(part.strip("/") for part in match.groups() if part.strip("/"))
            matches.setdefault(name or file.stem, []).append(file)
    return {name: sorted(files) for name, files in matches.items()}


def _divide(place: str) -> tuple[str, str]:
    """Divide a path into the folder before the first wildcard and the pattern below it."""
    parts = place.split("/")
    first = next((i for i, part in enumerate(parts) if _WILD.search(part)), len(parts))
    return "/".join(parts[:first]) or ("/" if place.startswith("/") else "."), "/".join(
        parts[first:]
    )


def _rule(pattern: str) -> re.Pattern[str]:
    """Return a pattern of files as an expression with a group for each wildcard."""
    text, place = "", 0
    for wild in _WILD.finditer(pattern):
        text += re.escape(pattern[place : wild.start()])
        text += {"*": "([^/]*)", "?": "([^/])"}.get(wild.group(), "((?:[^/]+/)*)")
        if wild.group() == "**":  # at the end: the files too
            text += "([^/]+)"
        place = wild.end()
    # The suffix may be written in capitals.
    stem, dot, suffix = pattern[place:].rpartition(".")
    tail = re.escape(stem) + (f"(?i:{re.escape(dot + suffix)})" if dot else re.escape(suffix))
    return re.compile(text + tail)


def _files(base: Path) -> Iterable[Path]:
    """Yield the files below a folder, links followed, hidden ones left out."""
    seen: set[str] = set()
    for folder, folders, files in os.walk(base, followlinks=True):
        if (real := os.path.realpath(folder)) in seen:  # a link back to a folder above
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(files) if not name.startswith("."))


def _unpaired_message(
    root: Path,
    split: SplitConfig,
    images: Mapping[str, object],
    labels: Mapping[str, object],
    unlabelled: Sequence[str],
) -> str:
    places = f"{root / str(split.images)} have no label map in {root / str(split.labels)}"
    reason = "add them, name the samples in a list, or leave them out with data.unlabelled: skip"
    if len(unlabelled) == len(images):
        reason = (
            f"images are named as {listed(images, 2)}, label maps as {listed(labels, 2)}; write "
            "both as patterns whose * stand for the same, such as images: '*.jpg' and labels: "
            "'*_mask.png'"
        )
    examples = listed(unlabelled, 3)
    return f"{len(unlabelled)} of {len(images)} images in {places} ({examples}); {reason}"


def _listed_pairs(
    root: Path,
    path: Path,
    images: Mapping[str, Sequence[Path]],
    labels: Mapping[str, Sequence[Path]],
) -> list[Pair]:
    """Return the samples that a list names."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: missing; expected a list with one sample per line")
    lines = [line.strip() for line in read_text(path).splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    found = _Lookup(root, path.parent, images, labels)
    pairs = [found.pair(line) for line in lines]
    if len(pairs) > 1 and isinstance(pairs[0], str) and not isinstance(pairs[1], str):
        pairs = pairs[1:]  # the names of the columns
    faults = [pair for pair in pairs if isinstance(pair, str)]
    if faults or not pairs:
        reason = (
            f"{len(faults)} of {len(pairs)} lines name no sample: {'; '.join(faults[:3])}"
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
    """The sample that a line of a list names."""

    def __init__(
        self,
        root: Path,
        folder: Path,
        images: Mapping[str, Sequence[Path]],
        labels: Mapping[str, Sequence[Path]],
    ) -> None:
        self.places = tuple(dict.fromkeys((root, folder)))
        self.images, self.labels = images, labels
        self.by_path = {paths[0].resolve(): name for name, paths in images.items()}

    def pair(self, line: str) -> Pair | str:
        """Return the files of a line; or, as text, why there are none."""
        names = [name for name in (line, line.rpartition(".")[0]) if name in self.images]
        if not names and (file := self._file(line)):
            names = [name for name in (self.by_path.get(file.resolve()),) if name is not None]
        if names and names[0] in self.labels:
            return _pair(names[0], self.images, self.labels)
        for separator in _SPLIT:
            parts = separator.split(line)
            if len(parts) >= 2 and (files := self._both(parts[0], parts[1])):
                return Pair(_name_of(parts[0]), *files)
        return f"'{line}' {'has no label map' if names else 'was not found'}"

    def _both(self, image: str, label: str) -> tuple[Path, Path] | None:
        first, second = self._file(image), self._file(label)
        return (first, second) if first and second else None

    def _file(self, text: str) -> Path | None:
        # Lists are often written with the folders of another machine before the path; what is
        # left of it has to be a file in a folder, as a name alone may be of any.
        parts = text.strip("/").split("/")
        ends = ["/".join(parts[start:]) for start in range(max(1, len(parts) - 1))]
        candidates = [place / end for end in ends for place in self.places]
        return next((path for path in (Path(text), *candidates) if path.is_file()), None)


def _name_of(image: str) -> str:
    return image.strip("/").rpartition(".")[0] or image
