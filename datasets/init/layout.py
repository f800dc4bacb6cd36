"""Recognise how a folder keeps its images and label maps.

Which pictures belong together is found in `groups`. What is recognised is tried with
`rsseg.segmentation.pairs`, which also reads it later: a folder or pattern stands for a split only
if it gives exactly the files that were found, and no file is in two splits. What the names do not
decide is a question with the lines that answer it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from datasets.init.groups import Both, Group, described, find_groups, paired, sort_groups
from datasets.init.places import shared_files, split_of_files
from datasets.init.splits import split_word
from datasets.samples import Split
from rsseg.common.messages import counted, listed
from rsseg.segmentation.label_files import OTHER_LABELS
from rsseg.segmentation.pairs import SplitConfig, find_pairs

_SPLITS: Final[tuple[Split, ...]] = ("train", "test")
_LISTS: Final = (".txt", ".csv", ".lst")


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


def find_layout(root: Path) -> Layout:
    """Recognise the layout of a folder of images and label maps.

    Raises:
        NoLabelMapsError: If there are no label maps; says what there is.
        ValueError: If they pair with no images, or do not fit them.
    """
    images, labels = sort_groups(root, list(find_groups(root)))
    if not labels:
        raise NoLabelMapsError(
            f"{root}: no label maps (PNGs with few different values) among {described(images)}"
        )
    pairs = paired(images, labels)
    if not pairs:
        raise ValueError(
            f"{root}: no label map is named as an image: images are {described(images)}, label "
            f"maps {described(labels)}; state both as patterns in data.train, see docs/OWN_DATA.md"
        )
    used = {group for pair in pairs for group in pair}
    unused = [group for group in [*images, *labels] if group not in used]
    notes = [f"not used: {described(unused, most=8)}"] if unused else []
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


def _by_folders(root: Path, pairs: Sequence[Both], notes: Sequence[str]) -> Layout | None:
    """Return the layout of folders that name their split; None if none does, or all the same."""
    words = [pair.word for pair in pairs]
    if not any(words) or (
        all(words) and len({word and (word.split, word.doubt) for word in words}) == 1
    ):
        return None
    parts = {split: _of_split(pairs, split) for split in _SPLITS}
    places, faults = _places_of(root, parts)
    if len(places) == 2 and (shared := shared_files(root, places["train"], places["test"])):
        files = f"{counted(len(shared), 'file')} would be in both splits ({listed(shared, 3)})"
        places, faults = {}, [*faults, files]
    used = {id(pair) for split in places for pair in parts[split][0]}
    rest = [pair for pair in pairs if id(pair) not in used]
    train, test = places.get("train"), places.get("test")
    if not faults:
        return Layout(train, test, "a folder for each split", notes=(*notes, *_left_out(rest)))
    question = f"which samples are for training, which for the test? {'; '.join(faults)}"
    offers = _offers(root, rest, [split for split in _SPLITS if split not in places])
    return Layout(train, test, "folders of several splits", question, offers, tuple(notes))


def _places_of(
    root: Path, parts: Mapping[Split, tuple[list[Both], int]]
) -> tuple[dict[Split, SplitConfig], list[str]]:
    """Return the places of the splits that folders state, and why the others have none."""
    places: dict[Split, SplitConfig] = {}
    faults = []
    same_doubt = parts["train"][1] == parts["test"][1]
    for split, (pairs, doubt) in parts.items():
        if not pairs or doubt > 1 or (doubt and same_doubt):
            faults.append(f"no folder is called after the split '{split}' alone")
            continue
        try:
            places[split] = split_of_files(root, pairs)
        except ValueError as error:
            if len(pairs) == 1:
                raise
            faults.append(str(error))
    return places, faults


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
