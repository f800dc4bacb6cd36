"""Names that a user writes, checked against the known ones, with the closest in the error."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def check_name(kind: str, name: str, choices: Iterable[str]) -> None:
    """Refuse an unknown name.

    Args:
        kind: What is named, for the error.
        name: The name to check.
        choices: The known names.

    Raises:
        ValueError: If the name is unknown; gives the closest known names, or all.

    Example:
        >>> check_name("architecture", "unte", ["unet", "fpn"])
        Traceback (most recent call last):
        ValueError: unknown architecture 'unte'; did you mean 'unet'?
    """
    known = list(dict.fromkeys(choices))
    if name in known:
        return
    close = difflib.get_close_matches(name.lower(), known, n=3)
    if close:
        hint = f"did you mean {' or '.join(repr(match) for match in close)}?"
    else:
        hint = f"there are: {', '.join(known) or 'none'}"
    raise ValueError(f"unknown {kind} {name!r}; {hint}")
