"""Which split a folder or a list belongs to, by its name."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from datasets.samples import Split

SPLIT_WORDS: Final[dict[str, Split]] = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "test", "testing"), "test"),
}
# What a folder or list holds, which says nothing about its split.
_KINDS: Final = frozenset(
    (
        *("image", "images", "img", "imgs", "rgb", "photo", "photos", "picture", "pictures"),
        *("jpeg", "jpg", "png", "input", "inputs", "frame", "frames"),
        *("label", "labels", "mask", "masks", "gt", "seg", "segmentation", "sem", "semantic"),
        *("annot", "annots", "annotation", "annotations", "target", "targets", "class", "classes"),
        *("color", "colour", "id", "ids", "list", "lists", "file", "files", "name", "names"),
        *("split", "set", "data", "tar"),
    )
)
_DOUBTFUL: Final = frozenset(("val", "test", "extra", "aug", "full", "dev", "s"))
_TOKEN: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
_YEARS: Final = range(1990, 2100)


class SplitWord(NamedTuple):
    """What a name says about a split.

    Attributes:
        split: The split.
        doubt: 0 if the name states it (train, val2017, train_images), 1 for a numbered part of it
            (train1), 2 where it may mean something else (trainval, train_extra, validation_a).
        text: The name without what it holds, in small letters: alike for images and label maps.
    """

    split: Split
    doubt: int
    text: str

    @property
    def is_val(self) -> bool:
        """Whether it is validation, rather than test."""
        return self.text.startswith("val")


def split_word(path: str) -> SplitWord | None:
    """Return what the folders of a path say about the split; None if they say nothing.

    Example:
        >>> split_word("images/train2017"), split_word("contest/i")
        (SplitWord(split='train', doubt=0, text='train2017'), None)
        >>> split_word("train_extra").doubt, split_word("trainannot").doubt
        (2, 0)
    """
    words = [word for part in path.split("/") if (word := _of_name(part))]
    if not words:
        return None
    best = min(words, key=lambda word: word.doubt)
    others = {word.split for word in words if word.doubt == best.doubt}
    return best if len(others) == 1 else best._replace(doubt=2)


def _of_name(name: str) -> SplitWord | None:
    tokens = [part for token in _TOKEN.findall(name) for part in _parts(token.lower())]
    splits = {SPLIT_WORDS[token] for token in tokens if token in SPLIT_WORDS}
    if not splits:
        return None
    rest = [token for token in tokens if token not in SPLIT_WORDS and token not in _KINDS]
    numbers = [int(token) for token in rest if token.isdigit()]
    if len(splits) > 1 or len(numbers) < len(rest):
        doubt = 2
    else:
        doubt = int(any(number not in _YEARS for number in numbers))
    first = next(token for token in tokens if token in SPLIT_WORDS)
    text = "".join(token for token in tokens if token not in _KINDS)
    return SplitWord(SPLIT_WORDS[first], doubt, text)


def _parts(token: str) -> list[str]:
    """Divide a word that begins with a split, as trainannot and trainval do."""
    if token in SPLIT_WORDS:
        return [token]
    for word in sorted(SPLIT_WORDS, key=len, reverse=True):
        rest = token.removeprefix(word)
        if rest != token and (rest in _KINDS or rest in _DOUBTFUL):
            return [word, rest]
    return [token]
