"""Recognise how a folder keeps its images and label maps.

Label maps are told from images by what they hold, and pairs by their names. What is recognised is
tried with `rsseg.segmentation.pairs`, which also reads it later: a folder or pattern stands for a
split only if it gives exactly the files that were found, and no file is in two splits. What the
names do not decide is a question with the lines that answer it.
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

from datasets.init.places import Files, shared_files, split_of_files
from datasets.init.splits import SplitWord, split_word
from datasets.samples import Split
from rsseg.common.messages import counted, listed
from rsseg.images.reading import IMAGE_SUFFIXES, open_picture
from rsseg.segmentation.label_files import OTHER_LABELS, has_colours
from rsseg.segmentation.pairs import SplitConfig, find_pairs

_LOOKED_AT: Final = 6  # files of a folder that are opened to tell label maps from images
_MOST_VALUES: Final = 64  # different values in a label map; a photo has more
_MOST_FILES: Final = 200_000
_TAIL: Final = re.compile(r"(?:[^0-9A-Za-z][A-Za-z][0-9A-Za-z]*)*$")
_MOST_TAILS: Final = 6
_LISTS: Final = (".txt", ".csv", ".lst")
_IMAGE_NAMES: Final = re.compile(r"image|img|photo|picture|rgb|input|frame|leftimg", re.I)
LABEL_NAMES: Final = re.compile(
    r"label|mask|annot|segm|(?<![a-z])(gt|sem|seg|index)(?![a-z])", re.I
)
_FOR_THE_EYE: Final = re.compile(r"colou?r|instance|inst|vis|rgb|panoptic", re.I)


class NoLabelMapsError(ValueError):
    """A folder without label maps."""


class Offer(NamedTuple):
    """A line of YAML that may answer the question where the splits are.

    Attributes:
        split: The split that it sets.
        place: Its samples.
        text: What they are, in words.
    """

    split: Split
    place: SplitConfig
    text: str


@dataclass(frozen=True)
class Layout:
    """Where the samples of a folder are.

    Args:
        train: The training samples; None if that is a question.
        test: Those of the test; None if the folder has none of its own, or if it is a question.
        text: What was recognised, in words.
        question: What has to be answered about the splits; None if nothing.
        offers: What may answer it.
        notes: What was left out, in words.
    """

    train: SplitConfig | None
    test: SplitConfig | None
    text: str
    question: str | None = None
    offers: tuple[Offer, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def places(self) -> list[SplitConfig]:
        """Everything that is, or may be, part of a split; the training first."""
        known = [split for split in (self.train, self.test) if split is not None]
        return known + [offer.place for offer in self.offers]


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


def find_layout(root: Path) -> Layout:
    """Recognise the layout of a folder of images and label maps.

    Raises:
        NoLabelMapsError: If there are no label maps; says what there is.
        ValueError: If they pair with no images, or do not fit them.
    """
    images, labels = _sorted_groups(root, list(_groups(root)))
    if not labels:
        raise NoLabelMapsError(
            f"{root}: no label maps (PNGs with few different values) among {_described(images)}"
        )
    pairs = _paired(images, labels)
    if not pairs:
        raise ValueError(
            f"{root}: no label map is named as an image: images are {_described(images)}, label "
            f"maps {_described(labels)}; state both as patterns in data.train, see docs/OWN_DATA.md"
        )
    used = {group for pair in pairs for group in pair}
    unused = [group for group in [*images, *labels] if group not in used]
    notes = [f"not used: {_described(unused, most=8)}"] if unused else []
    notes += _refused_notes(unused, pairs)
    layout = _by_folders(root, pairs, notes)
    if layout is None or layout.question:
        layout = _by_lists(root, pairs, notes) or layout
    return layout or _undivided(root, pairs, notes)


def _refused_notes(unused: Sequence[Group], pairs: Sequence[Both]) -> list[str]:
    """Return which files among the label maps are no PNG, such as a JPEG, in words."""
    folders = {pair.label.folder for pair in pairs} - {pair.image.folder for pair in pairs}
    files = [
        f"{group.folder}/{path.name}"
        for group in unused
        if group.folder in folders and group.kind != ".png"
        for path in group.files.values()
    ]
    if not files:
        return []
    return [f"refused as label maps: {listed(files)}; {OTHER_LABELS}"]


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


def _sorted_groups(root: Path, groups: Sequence[Group]) -> tuple[list[Group], list[Group]]:
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
        f"{root}: all pictures hold few different values, {_described(labels)}, so which are the "
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


def _paired(images: Sequence[Group], labels: Sequence[Group]) -> list[Both]:
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


def _closeness(image: Group, label: Group) -> tuple[int, bool, bool, int, int]:
    """Return how alike two groups are: those of one split and city belong together.

    Of several pictures for an image, colours for the eye and instances come last.
    """
    ours, theirs = image.folder.split("/"), label.folder.split("/")
    name = f"{theirs[-1] if len(theirs) > 1 else label.folder}{label.suffix}"
    common = sum((Counter(ours) & Counter(theirs)).values())
    same_split = _split_text(image) == _split_text(label)
    shared = len(image.files.keys() & label.files.keys())
    is_class = not _FOR_THE_EYE.search(f"{'/'.join(theirs)}{label.suffix}") and bool(name)
    return int(same_split), not _is_coloured(label), is_class, common, shared


def _by_folders(root: Path, pairs: Sequence[Both], notes: Sequence[str]) -> Layout | None:
    """Return the layout of folders that name their split; None if none does, or all the same."""
    words = [pair.word for pair in pairs]
    if not any(words) or (
        all(words) and len({word and (word.split, word.doubt) for word in words}) == 1
    ):
        return None
    parts = {split: _of_split(pairs, split) for split in ("train", "test")}
    places: dict[str, SplitConfig] = {}
    faults = []
    for split, (chosen, doubt) in parts.items():
        if not chosen or doubt > 1 or (doubt and parts["train"][1] == parts["test"][1]):
            faults.append(f"no folder is called after the split '{split}' alone")
            continue
        try:
            places[split] = split_of_files(root, chosen)
        except ValueError as error:
            if len(chosen) == 1:
                raise
            faults.append(str(error))
    train, test = places.get("train"), places.get("test")
    if train and test and (shared := shared_files(root, train, test)):
        faults.append(
            f"{counted(len(shared), 'file')} would be in both splits ({listed(shared, 3)})"
        )
        train = test = None
        places.clear()
    used = [
        pair
        for split, place in (("train", train), ("test", test))
        if place
        for pair in parts[split][0]
    ]
    rest = [pair for pair in pairs if pair not in used]
    if not faults:
        return Layout(train, test, "a folder for each split", notes=(*notes, *_left_out(rest)))
    question = f"which samples are for training, which for the test? {'; '.join(faults)}"
    splits: list[Split] = [split for split in ("train", "test") if split not in places]
    offers = _offers(root, rest, splits)
    return Layout(train, test, "folders of several splits", question, offers, tuple(notes))


def _of_split(pairs: Sequence[Both], split: Split) -> tuple[list[Both], int]:
    """Return the pairs of a split with the least doubt, and that doubt, see `SplitWord`."""
    own = [(pair, pair.word) for pair in pairs]
    doubts = [word.doubt for _, word in own if word and word.split == split]
    doubt = min(doubts, default=2)
    chosen = [(p, word) for p, word in own if word and word.split == split and word.doubt == doubt]
    # Of val and test, both with label maps, the one to look at while developing is val.
    val = [pair for pair, word in chosen if word.is_val]
    return val or [pair for pair, _ in chosen], doubt


def _left_out(pairs: Sequence[Both]) -> list[str]:
    return [f"left out, not of the two splits: {'; '.join(map(str, pairs))}"] if pairs else []


def _offers(root: Path, pairs: Sequence[Both], splits: Sequence[Split]) -> tuple[Offer, ...]:
    """Return what may be the splits: each pair, and all that seem to be of one split."""
    offers = []
    for split in splits:
        own = [pair for pair in pairs if not pair.word or pair.word.split == split]
        for some in [[pair] for pair in own] + ([own] if len(own) > 1 else []):
            try:
                place = split_of_files(root, some)
            except ValueError:
                continue
            offers.append(Offer(split, place, "; ".join(map(str, some))))
    return tuple(offers)


def _undivided(root: Path, pairs: Sequence[Both], notes: Sequence[str]) -> Layout:
    text = "images and label maps without a split"
    try:
        return Layout(split_of_files(root, pairs), None, text, notes=tuple(notes))
    except ValueError as error:
        if len(pairs) == 1:
            raise
        question = f"which samples are for training? {error}"
        return Layout(None, None, text, question, _offers(root, pairs, ["train"]), tuple(notes))


def _by_lists(root: Path, pairs: Sequence[Both], notes: Sequence[str]) -> Layout | None:
    """Return the layout whose splits are lists of names.

    Raises:
        ValueError: If the lists of both splits share samples.
    """
    lists: dict[Split, SplitConfig] = {}
    others = []
    for path in sorted(root.rglob("*"), key=lambda path: (_preference(path), str(path))):
        word = split_word(path.stem) if path.suffix.lower() in _LISTS else None
        if word is None or (place := _list_place(root, path, pairs)) is None:
            continue
        if word.doubt or word.split in lists:
            others.append(str(place.list))
        else:
            lists[word.split] = place
    if len(lists) < 2:
        return None
    train, test = lists["train"], lists["test"]
    if shared := shared_files(root, train, test):
        raise ValueError(
            f"{root}: {train.list} and {test.list} share {counted(len(shared), 'file')} "
            f"({listed(shared, 3)}), and a network is not tested on what it was trained on; "
            "correct the lists"
        )
    rest = [f"left out: the lists {listed(others)}"] if others else []
    return Layout(train, test, "lists of the samples of each split", notes=(*notes, *rest))


def _list_place(root: Path, path: Path, pairs: Sequence[Both]) -> SplitConfig | None:
    """Return the samples of a list, by names or by paths; None if it is not a list of them."""
    below = path.relative_to(root).as_posix()
    every = {file for pair in pairs for file in pair.files}
    try:
        where = split_of_files(root, pairs)
        places = [SplitConfig(images=where.images, labels=where.labels, list=below)]
    except ValueError:
        places = []
    for place in [*places, SplitConfig(list=below)]:
        try:
            samples, _ = find_pairs(root, place)
        except (ValueError, OSError):
            continue
        if {(pair.image, pair.label) for pair in samples} <= every:
            return place
    return None


def _preference(path: Path) -> tuple[bool, bool]:
    """Return the order of lists: those for segmentation first; of val and test, val first."""
    return "egmentation" not in str(path), path.stem.lower().startswith("test")


def _described(groups: Sequence[Group], most: int = 3) -> str:
    texts = []
    for group in sorted(groups, key=lambda group: -len(group.files))[:most]:
        example = group.examples()[0].name
        texts.append(f"{len(group.files)} in {group.folder}/ (such as {example})")
    return ", ".join(texts) or "no pictures"
