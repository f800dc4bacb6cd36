"""The pictures of a folder in groups: images, label maps, and which of them belong together.

A group is the pictures of one folder whose names end alike. Label maps are told from images by what
they hold, and pairs of groups by the names of their files.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from datasets.init.splits import SplitWord, split_word
from rsseg.common.messages import counted
from rsseg.images.reading import IMAGE_SUFFIXES, open_picture
from rsseg.segmentation.label_files import has_colours

Files = set[tuple[Path, Path]]  # image and label map of samples
_LOOKED_AT: Final = 6  # files of a folder that are opened to tell label maps from images
_MOST_VALUES: Final = 64  # different values in a label map; a photo has more
_MOST_FILES: Final = 200_000
_TAIL: Final = re.compile(r"(?:[^0-9A-Za-z][A-Za-z][0-9A-Za-z]*)*$")
_MOST_TAILS: Final = 6
_IMAGE_NAMES: Final = re.compile(r"image|img|photo|picture|rgb|input|frame|leftimg", re.I)
_FOR_THE_EYE: Final = re.compile(r"colou?r|instance|inst|vis|rgb|panoptic", re.I)
LABEL_NAMES: Final = re.compile(
    r"label|mask|annot|segm|(?<![a-z])(gt|sem|seg|index)(?![a-z])", re.I
)


@dataclass(frozen=True, eq=False)
class Group:
    """The pictures of one folder whose names end alike.

    Args:
        folder: The folder below the root, with "/".
        suffix: What every name ends with before the file's suffix, such as "_mask".
        kind: Suffix of the files in small letters, such as ".png".
        files: The files by their names without both.
    """

    folder: str
    suffix: str
    kind: str
    files: Mapping[str, Path]

    @property
    def word(self) -> SplitWord | None:
        """What its folder says about the split."""
        return split_word(self.folder)

    @property
    def role(self) -> tuple[str, ...]:
        """What it has in common with the same kind of files of other splits."""
        parts = [part for part in self.folder.split("/") if not split_word(part)]
        return (*parts, self.suffix, self.kind)

    def examples(self) -> list[Path]:
        """Return some of its files."""
        files = [self.files[name] for name in sorted(self.files)]
        return files[:: max(1, len(files) // _LOOKED_AT)]


class Both(NamedTuple):
    """A group of images and that of their label maps."""

    image: Group
    label: Group

    @property
    def word(self) -> SplitWord | None:
        """What the folders say about the split."""
        return self.image.word or self.label.word

    @property
    def files(self) -> Files:
        """Image and label map of each sample."""
        images, labels = self.image.files, self.label.files
        return {(images[name], labels[name]) for name in images.keys() & labels.keys()}

    def __str__(self) -> str:
        places = (f"{group.folder}/*{group.suffix}{group.kind}" for group in self)
        return f"{' with '.join(places)} ({counted(len(self.files), 'sample')})"


def find_groups(root: Path) -> Iterable[Group]:
    """Yield the pictures of each folder, apart by the ends of their names."""
    count = 0
    for folder, folders, files in os.walk(root, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        pictures = [f for f in files if Path(f).suffix.lower() in IMAGE_SUFFIXES and f[0] != "."]
        count += len(pictures)
        if count > _MOST_FILES:
            raise ValueError(f"{root}: more than {_MOST_FILES} pictures; name a smaller folder")
        below = Path(folder).relative_to(root).as_posix()
        yield from _groups_of(root, below, pictures)


def _groups_of(root: Path, folder: str, files: Sequence[str]) -> Iterable[Group]:
    stems: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    every = {Path(file).stem for file in files}
    paths = {(Path(f).stem, Path(f).suffix.lower()): root / folder / f for f in files}
    for stem, kind in paths:
        stems[kind][_ending(stem, every)].append(stem)
    for kind, endings in stems.items():
        for ending, of_ending in endings.items():
            for common, names in _by_tail(of_ending, ending).items():
                of_group = {name: paths[f"{name}{common}", kind] for name in sorted(names)}
                yield Group(folder, common, kind, of_group)


def _by_tail(stems: Sequence[str], ending: str) -> dict[str, list[str]]:
    """Divide names by the few words that all of them end with, as _color and _labelIds."""
    tails = {stem: ending or _TAIL.search(stem).group() for stem in stems}  # type: ignore[union-attr]
    counts = Counter(tails.values())
    if len(counts) > _MOST_TAILS or len({*counts.values()}) > 1 or len(stems) < 2:
        tails = dict.fromkeys(stems, ending)
    groups: dict[str, list[str]] = defaultdict(list)
    for stem, tail in tails.items():
        groups[tail].append(stem.removesuffix(tail))
    return groups


def _ending(stem: str, every: set[str]) -> str:
    """Return what a name has more than another file's whole name: "_mask" of x_mask beside x."""
    for place in range(len(stem) - 1, 0, -1):
        if not stem[place].isalnum() and stem[:place] in every:
            return stem[place:]
    return ""


def sort_groups(root: Path, groups: Sequence[Group]) -> tuple[list[Group], list[Group]]:
    """Divide groups into images and label maps, by what they hold.

    A folder of images with few colours in one split is known by the same folder of another. Where
    all pictures have few colours, names decide, or that one of two has colours and the other one
    value a pixel.
    """
    not_labels = {group.role for group in groups if not _is_labels(group)}
    labels = [group for group in groups if group.role not in not_labels]
    images = [group for group in groups if group.role in not_labels]
    if images or not labels:
        return images, labels
    for is_image in (_is_called_image, _is_coloured):
        images = [group for group in labels if is_image(group)]
        if images and len(images) < len(labels):
            return images, [group for group in labels if group not in images]
    raise ValueError(
        f"{root}: all pictures hold few different values, {described(labels)}, so which are the "
        "images is not known; state images and labels in data.train, see docs/OWN_DATA.md"
    )


def _is_called_image(group: Group) -> bool:
    name = f"{group.folder}{group.suffix}"
    return bool(_IMAGE_NAMES.search(name)) and not LABEL_NAMES.search(name)


def _is_coloured(group: Group) -> bool:
    """Return whether some pictures of a group have colours, not one value a pixel."""
    try:
        return any(has_colours(path) for path in group.examples())
    except (ValueError, OSError):
        return False


def _is_labels(group: Group) -> bool:
    """Return whether the pictures of a group are label maps, by some of them."""
    return group.kind == ".png" and all(map(_has_few_values, group.examples()))


def _has_few_values(path: Path) -> bool:
    try:
        with open_picture(path, "picture") as picture:
            if picture.mode not in ("1", "L", "P", "I", "I;16", "LA", "RGB", "RGBA"):
                return False
            pixels = np.asarray(picture)
    except (ValueError, OSError):
        return False
    flat = pixels.reshape(-1, pixels.shape[-1]) if pixels.ndim == 3 else pixels.reshape(-1, 1)
    return len(np.unique(flat[:: max(1, len(flat) // 50_000)], axis=0)) <= _MOST_VALUES


def paired(images: Sequence[Group], labels: Sequence[Group]) -> list[Both]:
    """Return each group of images with the label maps of the same names, nearest in the tree.

    Images that lie in one folder may have label maps in one for each split.
    """
    pairs = []
    for image in images:
        fitting: dict[str | None, list[Group]] = {}
        for label in labels:
            split = _split_text(label)
            is_one_split = None in (split, own := _split_text(image)) or split == own
            if is_one_split and _is_fitting(image, label):
                fitting.setdefault(own or split, []).append(label)
        if _split_text(image) is None and None in fitting:  # Beside it, not those of a split.
            fitting = {None: fitting[None]}
        for candidates in fitting.values():
            closeness = {label: _closeness(image, label) for label in candidates}
            pairs.append(Both(image, max(closeness, key=closeness.__getitem__)))
    return _nearest_images(pairs)


def _nearest_images(pairs: Sequence[Both]) -> list[Both]:
    """Keep one group of images for each label map: of photos and depths, the photos."""
    of_label: dict[Group, list[Both]] = defaultdict(list)
    for pair in pairs:
        of_label[pair.label].append(pair)
    kept = []
    for rivals in of_label.values():
        names = Counter(name for pair in rivals for name in pair.image.files)
        if max(names.values()) == 1:  # They divide the label maps among them.
            kept += rivals
            continue
        called = [pair for pair in rivals if _is_called_image(pair.image)]
        photos = [pair for pair in rivals if pair.image.kind in (".jpg", ".jpeg")]
        best = next((some for some in (called, photos) if len(some) == 1), None)
        if best is None:
            raise ValueError(
                f"several images for the same label maps, {' and '.join(map(str, rivals))}; state "
                "the right ones in data.train, see docs/OWN_DATA.md"
            )
        kept += best
    return kept


def _is_fitting(image: Group, label: Group) -> bool:
    shared = len(image.files.keys() & label.files.keys())
    return shared >= max(1, min(len(image.files), len(label.files)) // 2)


def _split_text(group: Group) -> str | None:
    return group.word.text if group.word else None


def _closeness(image: Group, label: Group) -> tuple[bool, bool, bool, int, int]:
    """Return how alike two groups are: those of one split and city belong together.

    Of several pictures for an image, colours for the eye and instances come last.
    """
    ours, theirs = image.folder.split("/"), label.folder.split("/")
    common = sum((Counter(ours) & Counter(theirs)).values())
    same_split = _split_text(image) == _split_text(label)
    shared = len(image.files.keys() & label.files.keys())
    is_class = not _FOR_THE_EYE.search(f"{label.folder}{label.suffix}")
    return same_split, not _is_coloured(label), is_class, common, shared


def described(groups: Sequence[Group], most: int = 3) -> str:
    """Return the largest of some groups, in words."""
    texts = []
    for group in sorted(groups, key=lambda group: -len(group.files))[:most]:
        example = group.examples()[0].name
        texts.append(f"{len(group.files)} in {group.folder}/ (such as {example})")
    return ", ".join(texts) or "no pictures"
