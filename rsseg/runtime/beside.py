"""Files beside a network that say more about it: its accuracy, its times on a machine.

The network works without them, so one that is damaged is a warning, and no more.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TypeVar

Values = TypeVar("Values")


def read_or_warn(read: Callable[[], Values], missing: Values, *, consequence: str) -> Values:
    """Return what a file beside a network says; where it cannot be used, warn.

    Args:
        read: Reads the file; its errors name it and what is wrong.
        missing: Returned where it cannot be used.
        consequence: What happens without it, for the warning.
    """
    try:
        return read()
    except (ValueError, OSError) as error:
        warnings.warn(f"{error}; {consequence}", stacklevel=3)
        return missing
