"""Memory that is free and that the process keeps all the same: giving it back."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any


def return_memory() -> None:
    """Give free memory back to the system, where the allocator can (glibc); takes milliseconds.

    An allocator keeps what was freed between blocks that are in use. After a file is opened, or a
    large image was read, that is several times what stays in use.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Any:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # Another C library, or another system.
        return None
