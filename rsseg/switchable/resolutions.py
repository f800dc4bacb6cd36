"""Resolutions: which are valid, and the names of their BatchNorm sets."""

from __future__ import annotations

from collections.abc import Sequence

LARGEST_RESOLUTION = 4096


def check_resolutions(resolutions: Sequence[int]) -> tuple[int, ...]:
    """Return resolutions as a tuple, or say what is wrong with them.

    Args:
        resolutions: Sides in pixels, 1..4096, from large to small; one may be listed twice.

    Raises:
        ValueError: If there is none, one is no whole number in range, or they are unsorted.
    """
    given = list(resolutions)
    if not given:
        raise ValueError("no resolution given; expected at least one, such as [224, 192, 160]")
    for resolution in given:
        whole = isinstance(resolution, int) and not isinstance(resolution, bool)
        if not whole or not 1 <= resolution <= LARGEST_RESOLUTION:
            raise ValueError(
                f"resolution {resolution!r} is not a whole number of pixels from 1 to "
                f"{LARGEST_RESOLUTION}"
            )
    if given != sorted(given, reverse=True):
        raise ValueError(
            f"resolutions must run from large to small, got {given}; "
            f"write {sorted(given, reverse=True)}"
        )
    return tuple(given)


def set_names(resolutions: Sequence[int]) -> tuple[str, ...]:
    """Name one BatchNorm set for each resolution; repeated ones are numbered from the second on.

    Example:
        >>> set_names([224, 224, 96])
        ('224', '224_2', '96')
    """
    names = []
    for index, resolution in enumerate(resolutions):
        count = list(resolutions[: index + 1]).count(resolution)
        names.append(str(resolution) if count == 1 else f"{resolution}_{count}")
    return tuple(names)
