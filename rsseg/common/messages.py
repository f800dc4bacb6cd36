"""Names that a user writes, checked against the known ones, with the closest in the error."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


def message_of(error: BaseException) -> str:
    r"""Return an error's message; that of a worker process without its traceback.

    Example:
        >>> text = "Caught ValueError in DataLoader worker process 0.\nOriginal Traceback"
        >>> message_of(ValueError(text + " ...\nValueError: a.png: no image\n"))
        'a.png: no image'
    """
    text = str(error)
    if not text.startswith("Caught "):
        return text
    last = list(re.finditer(r"^[\w.]*(?:Error|Exception): ", text, re.MULTILINE))
    return text[last[-1].end() :].strip() if last else text


def listed(names: Iterable[str], most: int = 8) -> str:
    """Write the first names in alphabetical order, and how many more there are.

    Example:
        >>> listed(["d", "a", "c", "b"], most=3)
        'a, b, c and 1 more'
    """
    ordered = sorted(names)
    more = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return ", ".join(ordered[:most]) + more


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
