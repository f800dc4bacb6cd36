"""The most memory that a process has held at once, counted from a moment on."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource
import sys
from pathlib import Path
from typing import Final

# For the environment of a process that measures: glibc's malloc then takes every larger block from
# the system and gives it back, so that what is held is what is needed.
EXACT: Final = {"MALLOC_MMAP_THRESHOLD_": "65536"}

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def held() -> int:
    """Return the bytes that this process holds; where the system does not tell, its peak."""
    return _status("VmRSS") or peak()


def peak() -> int:
    """Return the most bytes that this process has held since `forget_peak`."""
    # Where there is a choice not from getrusage: a child begins with the peak of its parent.
    unit = 1 if sys.platform == "darwin" else 1024
    return _status("VmHWM") or unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def forget_peak() -> None:
    """Give back what is free, and make what is held then the peak, where the system can."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # Other libraries than glibc have none.
    if trim is not None:
        trim(0)
    # Where this cannot be done the peak so far remains, and what is measured is too large.
    with contextlib.suppress(OSError):
        _CLEAR.write_text("5", encoding="ascii")


def _status(name: str) -> int:
    if not _STATUS.exists():
        return 0
    lines = _STATUS.read_text(encoding="utf-8").splitlines()
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(name)), 0)
