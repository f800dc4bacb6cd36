"""Recognise how a folder keeps its images and label maps.

Label maps are told from images by what they hold, and pairs by their names; what is recognised is
tried with `rsseg.segmentation.pairs`, which also reads it later. Nothing is decided by a guess that
is not shown: the caller gets a layout, or the reason why there is none.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from datasets.samples import Split
from rsseg.images.reading import open_picture
from rsseg.segmentation.pair_lists import IMAGE_SUFFIXES
from rsseg.segmentation.pairs import SplitConfig, find_pairs

SPLIT_WORDS: Final[dict[str, Split]] = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "test", "testing"), "test"),
}
_LOOKED_AT: Final = 6  # files of a folder that are opened to tell label maps from images
_MOST_VALUES: Final = 64  # different values in a label map; a photo has more
_MOST_FILES: Final = 200_000
_TAIL: Final = re.compile(r"(?:[^0-9A-Za-z][A-Za-z][0-9A-Za-z]*)*$")
_MOST_TAILS: Final = 6
_LISTS: Final = (".txt", ".csv", ".lst")


@dataclass(frozen=True)
class Layout:
    """Where the samples of a folder are.

    Args:
        train: The training samples.
        test: Those of the test; None if the folder has none of its own.
        text: What was recognised, in words.
    """

    train: SplitConfig
    test: SplitConfig | None
    text: str


@dataclass(frozen=True)
class Group:
    """The files of one folder whose names end alike.

    Args:
        folder: The folder below the root, with "/".
        suffix: What every name ends with before the file's suffix, such as "_mask".
        kind: Suffix of the files, such as ".png", or "" for any.
        names: Names without both.
    """

    folder: str
    suffix: str
    kind: str
    names: frozenset[str]


def find_layout(root: Path) -> Layout:
    """Recognise the layout of a folder of images and label maps.

    Raises:
        ValueError: If there are no label maps, or they pair with no images; says what there is.
    """
    groups = list(_groups(root))
    labels = [group for group in groups if _is_labels(root, group)]
    images = [group for group in groups if group not in labels]
    if not labels:
        raise ValueError(
            f"{root}: no label maps (PNGs with few different values) among "
            f"{_described(groups)}; for images with a class, sort them into a folder for each"
        )
    pairs = _paired(images, labels)
    if not pairs:
        raise ValueError(
            f"{root}: no label map is named as an image: images are {_described(images)}, label "
            f"maps {_described(labels)}; state both as patterns in data.train, see docs/OWN_DATA.md"
        )
    layout = _by_folders(pairs) or _by_lists(root, pairs) or _undivided(pairs)
    for split in (layout.train, layout.test):
        if split is not None:
            find_pairs(root, split, skip=True)
    return layout


def _groups(root: Path) -> Iterable[Group]:
    """Yield the pictures of each folder, apart by the ends of their names."""
    count = 0
    for folder, folders, files in os.walk(root, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        pictures = [f for f in files if Path(f).suffix.lower() in IMAGE_SUFFIXES and f[0] != "."]
        count += len(pictures)
        if count > _MOST_FILES:
            raise ValueError(f"{root}: more than {_MOST_FILES} pictures; name a smaller folder")
        below = Path(folder).relative_to(root).as_posix()
        yield from _groups_of(below, pictures)


def _groups_of(folder: str, files: Sequence[str]) -> Iterable[Group]:
    stems: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    every = {Path(file).stem for file in files}
    for file in files:
        stem, kind = Path(file).stem, Path(file).suffix.lower()
        stems[kind][_ending(stem, every)].append(stem)
    for kind, endings in stems.items():
        for ending, of_ending in endings.items():
            for common, names in _by_tail(of_ending, ending).items():
                yield Group(folder, common, kind, frozenset(names))


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


def _is_labels(root: Path, group: Group) -> bool:
    """Return whether the pictures of a group are label maps, by some of them."""
    if group.kind != ".png":
        return False
    names = sorted(group.names)
    return all(
        _has_few_values(_path(root, group, name))
        for name in names[:: max(1, len(names) // _LOOKED_AT)]
    )


def _path(root: Path, group: Group, name: str) -> Path:
    folder = root / group.folder
    stem = f"{name}{group.suffix}"
    return next(
        (p for p in (folder / f"{stem}.png", folder / f"{stem}.PNG") if p.is_file()),
        folder / f"{stem}.png",
    )


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


def _paired(images: Sequence[Group], labels: Sequence[Group]) -> list[tuple[Group, Group]]:
    """Return each group of images with the label maps of the same names, nearest in the tree."""
    pairs = []
    for image in images:
        shared = {label: len(image.names & label.names) for label in labels}
        best = max(shared, key=lambda label: (shared[label], *_closeness(image, label)))
        if shared[best] >= max(1, min(len(image.names), len(best.names)) // 2):
            pairs.append((image, best))
    return pairs


def _closeness(image: Group, label: Group) -> tuple[int, int, int]:
    """Return how alike two groups are: those of one split and city belong together.

    Of several pictures for an image, colours for the eye and instances come last.
    """
    ours, theirs = image.folder.split("/"), label.folder.split("/")
    same_split = _split_of(image.folder) == _split_of(label.folder)
    is_class = not re.search(r"colou?r|instance|inst|vis|rgb|panoptic", label.suffix.lower())
    return int(same_split), int(is_class), sum((Counter(ours) & Counter(theirs)).values())


def _split_of(folder: str) -> Split | None:
    for part in folder.split("/"):
        for word in re.split(r"[^a-z]+", part.lower()):
            for name, split in SPLIT_WORDS.items():
                if word == name or (word.startswith(name) and word not in ("tests", "value")):
                    return split
    return None


def _by_folders(pairs: Sequence[tuple[Group, Group]]) -> Layout | None:
    """Return the layout of folders that name their split."""
    of_split: dict[Split, list[tuple[Group, Group]]] = {"train": [], "test": []}
    for image, label in pairs:
        if split := _split_of(image.folder):
            of_split[split].append((image, label))
    if not of_split["train"] or not of_split["test"]:
        return None
    test = of_split["test"]
    # Of val and test, both with label maps, the one to look at while developing is val.
    val = [pair for pair in test if re.search("val", pair[0].folder)]
    if val and len(val) < len(test):
        test = val
    return Layout(_merged(of_split["train"]), _merged(test), "a folder for each split")


def _undivided(pairs: Sequence[tuple[Group, Group]]) -> Layout:
    return Layout(_merged(pairs), None, "images and label maps without a split")


def _by_lists(root: Path, pairs: Sequence[tuple[Group, Group]]) -> Layout | None:
    """Return the layout whose splits are lists of names."""
    where = _merged(pairs)
    lists: dict[Split, str] = {}
    for path in sorted(root.rglob("*"), key=lambda path: (_preference(path), str(path))):
        split = SPLIT_WORDS.get(path.stem.lower())
        if path.suffix.lower() not in _LISTS or split is None or split in lists:
            continue
        below = path.relative_to(root).as_posix()
        try:
            find_pairs(root, SplitConfig(images=where.images, labels=where.labels, list=below))
        except (ValueError, OSError):
            continue
        lists[split] = below
    if len(lists) < 2:
        return None
    train, test = (
        SplitConfig(images=where.images, labels=where.labels, list=lists[split])
        for split in ("train", "test")
    )
    return Layout(train, test, "lists of the samples of each split")


def _preference(path: Path) -> int:
    """Return the order of lists: of val and test, val first, lists for segmentation first."""
    return 2 * ("egmentation" not in str(path)) + (path.stem.lower().startswith("test"))


def _merged(pairs: Sequence[tuple[Group, Group]]) -> SplitConfig:
    """Return the places of some pairs of groups as one folder or pattern each."""
    images, labels = ([pair[index] for pair in pairs] for index in (0, 1))
    return SplitConfig(images=_place(images, labels), labels=_place(labels, images))


def _place(groups: Sequence[Group], others: Sequence[Group]) -> str:
    folders = [group.folder for group in groups]
    base = os.path.commonpath(folders) or "."
    suffixes = {group.suffix for group in groups}
    kinds = {group.kind for group in groups}
    mixed = {group.folder for group in groups} & {other.folder for other in others}
    if suffixes == {""} and not mixed and not _is_inside(base, others):
        return base
    deep = "**/" if len({*folders}) > 1 else ""
    last = {folder.rpartition("/")[2] for folder in folders}
    if deep and len(last) == 1:  # SCENE/rgb
        deep += f"{last.pop()}/"
    suffix = suffixes.pop() if len(suffixes) == 1 else ""
    kind = kinds.pop() if len(kinds) == 1 else ".*"
    prefix = "" if base == "." else f"{base}/"
    return f"{prefix}{deep}*{suffix}{kind}"


def _is_inside(base: str, others: Sequence[Group]) -> bool:
    """Return whether all pictures below a folder would be those of other groups too."""
    return any(f"{other.folder}/".startswith(f"{base}/") for other in others)


def _described(groups: Sequence[Group]) -> str:
    texts = []
    for group in sorted(groups, key=lambda group: -len(group.names))[:3]:
        example = f"{sorted(group.names)[0]}{group.suffix}{group.kind}"
        texts.append(f"{len(group.names)} in {group.folder}/ (such as {example})")
    return ", ".join(texts) or "no pictures"
