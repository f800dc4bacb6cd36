"""Which label map belongs to which image: folders, patterns and lists of files.

A pattern such as `leftImg8bit/train/*/*_leftImg8bit.png` pairs with
`gtFine/train/*/*_gtFine_labelIds.png` where the wildcards stand for the same: what they stand for
is the name of the sample. A folder stands for all images in it and in its folders. A list names
samples, or image and label map of each.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from pydantic.dataclasses import dataclass

from rsseg.common.config import STRICT
from rsseg.common.files import files_below
from rsseg.common.messages import counted, listed
from rsseg.images.reading import IMAGE_SUFFIXES
from rsseg.segmentation.label_files import OTHER_LABELS
from rsseg.segmentation.pair_lists import (
    Files,
    NamedImage,
    Pair,
    image_of,
    listed_images,
    listed_pairs,
    pair_of,
)

_WILD: Final = re.compile(r"\*\*/?|\*|\?")


@dataclass(frozen=True, config=STRICT, kw_only=True)
class SplitConfig:
    """Where the samples of a split are, below `data.root`.

    Args:
        images: Folder of images, or a pattern with * (within a folder) and ** (any folders).
        labels: The same for the label maps; not needed where they are not read, see
            `adapt.labels`.
        list: File of one sample a line: its name, or its image and its label map, which may be
            all that is given. Default: every image.
    """

    images: str | None = None
    labels: str | None = None
    list: str | None = None

    def __post_init__(self) -> None:
        if self.images is None and self.labels is not None:
            raise ValueError("labels is given and images is not; give both, or a list of pairs")
        if self.images is None and self.list is None:
            raise ValueError("give images and labels, or a list")

    @property
    def lacks_labels(self) -> bool:
        """Whether it states images alone."""
        return self.images is not None and self.labels is None


UNLABELLED: Final = "images is given and labels is not; give both, or a list of pairs"


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
    if split.lacks_labels:
        raise ValueError(UNLABELLED)
    images: Files = {}
    labels: Files = {}
    if split.images is not None and split.labels is not None:
        images, labels = _files_of(root, split.images, split.labels)
    if split.list is not None:
        return listed_pairs(root, root / split.list, images, labels), 0
    unlabelled = sorted(images.keys() - labels.keys())
    if unlabelled and not (skip and len(unlabelled) < len(images)):
        raise ValueError(_unpaired_message(root, split, images, labels, unlabelled))
    orphans = sorted(labels.keys() - images.keys())
    if orphans:
        raise ValueError(
            f"{len(orphans)} of {len(labels)} label maps in {root / str(split.labels)} have no "
            f"image in {root / str(split.images)} ({listed(orphans, 3)}); add the images or remove "
            "the label maps"
        )
    names = sorted(images.keys() & labels.keys())
    return [pair_of(name, images, labels) for name in names], len(unlabelled)


def find_images(root: Path, split: SplitConfig) -> list[NamedImage]:
    """Return the images of a split; whether there are label maps makes no difference.

    Args:
        root: Folder that the split's paths are relative to.
        split: Where they are.

    Raises:
        ValueError: If there are none, a name has several, or a list is faulty.
        FileNotFoundError: If a folder or file is missing.
    """
    images: Files = {}
    if split.images is not None:
        labels: Files = {}
        if split.labels is not None and (root / _divide(split.labels)[0]).expanduser().is_dir():
            labels = _label_maps(root, split.labels)
        images = _images_beside(root, split.images, labels)
        if not images:
            raise _empty_error(root, "images", split.images)
    if split.list is not None:
        return listed_images(root, root / split.list, images)
    return [image_of(name, images) for name in sorted(images)]


def _files_of(root: Path, images: str, labels: str) -> tuple[Files, Files]:
    """Return the images and label maps of two folders or patterns, by name."""
    label_files = _label_maps(root, labels)
    image_files = _images_beside(root, images, label_files)
    if not image_files or not label_files:
        kind, place = ("images", images) if not image_files else ("label maps", labels)
        raise _empty_error(root, kind, place)
    return image_files, label_files


def _images_beside(root: Path, images: str, labels: Files) -> Files:
    """Return the images of a folder or pattern, by name.

    Label maps may lie among them: what the pattern of label maps matches is not an image.
    """
    label_paths = {path for paths in labels.values() for path in paths}
    files = {
        name: [path for path in paths if path not in label_paths]
        for name, paths in _matches(root, images).items()
    }
    return {name: paths for name, paths in files.items() if paths}


def _empty_error(root: Path, kind: str, place: str) -> ValueError:
    return ValueError(
        f"{root / place}: no {kind} ({', '.join(IMAGE_SUFFIXES)}) there; correct data.root and "
        "the paths of the split (wildcards are *, ** and ?)"
    )


def _label_maps(root: Path, place: str) -> Files:
    """Return the label maps of a folder or pattern: the PNGs, where there are any."""
    matches = _matches(root, place)
    pngs = {n: [p for p in paths if p.suffix.lower() == ".png"] for n, paths in matches.items()}
    pngs = {name: paths for name, paths in pngs.items() if paths}
    return pngs or matches  # Files of another kind are refused when they are read, with the reason.


def _other_label_files(root: Path, split: SplitConfig, names: Sequence[str]) -> list[str]:
    """Return the files of another kind than PNG that stand in the place of label maps."""
    images = {path for paths in _matches(root, str(split.images)).values() for path in paths}
    matches = _matches(root, str(split.labels))
    paths = [path for name in names for path in matches.get(name, ()) if path not in images]
    return [str(path) for path in paths if path.suffix.lower() != ".png"]


def _matches(root: Path, place: str) -> Files:
    """Return the pictures of a folder or pattern by what its wildcards stand for."""
    folder, pattern = _divide(place)
    base = (root / folder).expanduser()
    if not base.is_dir():
        raise FileNotFoundError(
            f"{base}: no such folder; correct data.root, or the path '{place}' (wildcards are *, "
            "** and ?)"
        )
    matches: Files = {}
    rule = _rule(pattern) if pattern else None
    for file in files_below(base):
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
    elif others := _other_label_files(root, split, unlabelled):
        reason = f"{listed(others, 3)}: {OTHER_LABELS}"
    examples = listed(unlabelled, 3)
    return (
        f"{len(unlabelled)} of {counted(len(images), 'image')} in {places} ({examples}); {reason}"
    )
