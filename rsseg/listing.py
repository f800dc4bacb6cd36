"""Long lists in messages."""

from __future__ import annotations

from collections.abc import Iterable


def listed(names: Iterable[str], most: int = 8) -> str:
    """Write the first names in alphabetical order, and how many more there are.

    Example:
        >>> listed(["d", "a", "c", "b"], most=3)
        'a, b, c and 1 more'
    """
    ordered = sorted(names)
    more = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return ", ".join(ordered[:most]) + more
