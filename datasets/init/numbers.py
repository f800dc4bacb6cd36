"""The classes of images: names, which are known, or numbers, which may have to be asked about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rsseg.common.files import read_text

NAME_FILES = ("classes.txt", "labels.txt", "names.txt", "class_names.txt")


@dataclass(frozen=True)
class Classes:
    """How many classes there are, and what their numbers count from.

    Args:
        count: Their number; the least possible one where it is not known.
        is_known: Whether it is known.
        offsets: What numbers may count from; empty where classes have names.
    """

    count: int
    is_known: bool
    offsets: tuple[Literal[0, 1], ...] = ()

    @property
    def offset(self) -> Literal[0, 1] | None:
        """Number of the first class, as far as it is known; None for names."""
        return self.offsets[0] if self.offsets else None

    def count_from(self, offset: int) -> int:
        """Return the number of classes if they count from `offset`."""
        return self.count if self.is_known else self.count + self.offsets[0] - offset


def names_file(root: Path) -> str | None:
    """Return the file of the classes' names in a folder, if there is one."""
    return next((name for name in NAME_FILES if (root / name).is_file()), None)


def count_names(path: Path) -> int:
    """Return how many names a file lists, one a line."""
    return sum(1 for line in read_text(path).splitlines() if line.strip())


def classes_of_numbers(numbers: Sequence[int], count: int | None) -> Classes:
    """Return what the numbers of some images prove about the classes.

    A 0 proves that they count from 0, a K that they count from 1. Without K, the largest number may
    be the last class of either.

    Args:
        numbers: Those that occur.
        count: Number of classes K, where it is known.
    """
    lowest, largest = min(numbers), max(numbers)
    if lowest == 0:
        return Classes(count or largest + 1, count is not None, (0,))
    if count is not None:
        return Classes(count, True, (1,) if largest >= count else (0, 1))
    return Classes(largest, False, (1, 0))
