"""Resolutions: a value that is checked when it is made, and names its BatchNorm sets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from numbers import Integral
from typing import Any, SupportsIndex

from pydantic_core import CoreSchema, core_schema

LARGEST_RESOLUTION = 4096


def check_resolution(resolution: SupportsIndex) -> int:
    """Return a resolution as an int; numpy's integers are taken, bool is not.

    Raises:
        ValueError: If it is not a whole number of pixels, 1..4096.
    """
    whole = isinstance(resolution, Integral) and not isinstance(resolution, bool)
    side = int(resolution) if whole else 0
    if not 1 <= side <= LARGEST_RESOLUTION:
        raise ValueError(
            f"resolution {resolution!r} is not a whole number of pixels from 1 to "
            f"{LARGEST_RESOLUTION}"
        )
    return side


def set_names(sides: Sequence[int]) -> tuple[str, ...]:
    """Return one name for each side, in any order; repeated ones are numbered from the second on.

    The names of valid resolutions are `Resolutions.names`.

    Example:
        >>> set_names([96, 224, 224])
        ('96', '224', '224_2')
    """
    names = []
    for index, side in enumerate(sides):
        count = list(sides[: index + 1]).count(side)
        names.append(str(side) if count == 1 else f"{side}_{count}")
    return tuple(names)


class Resolutions(tuple[int, ...]):
    """Sides of the views in pixels, from large to small: a tuple that is valid.

    Code that receives one does not check it again: `Resolutions` of one is the same object.

    Args:
        sides: 1..4096, from large to small; one may be listed twice.

    Attributes:
        names: One for each BatchNorm set; repeated ones are numbered from the second on.

    Raises:
        ValueError: If there is none, one is not a whole number in range, or they are unsorted.

    Example:
        >>> Resolutions([224, 224, 96]).names
        ('224', '224_2', '96')
    """

    names: tuple[str, ...]

    def __new__(cls, sides: Iterable[SupportsIndex]) -> Resolutions:
        """Return valid resolutions; they themselves, if they are valid already."""
        if isinstance(sides, Resolutions):
            return sides
        checked = [check_resolution(side) for side in sides]
        if not checked:
            raise ValueError("no resolution given; expected at least one, such as [224, 192, 160]")
        descending = sorted(checked, reverse=True)
        if checked != descending:
            raise ValueError(
                f"resolutions must run from large to small, got {checked}; write {descending}"
            )
        resolutions = super().__new__(cls, checked)
        resolutions.names = set_names(checked)
        return resolutions

    @classmethod
    def __get_pydantic_core_schema__(
        cls, _source: Any, handler: Callable[[Any], CoreSchema]
    ) -> CoreSchema:
        """Return how pydantic validates a field of this type: from a list or a tuple."""
        return core_schema.no_info_after_validator_function(cls, handler(tuple[Any, ...]))
