"""What holds for every test: examples of hypothesis have no deadline, signals the usual stack."""

from __future__ import annotations

import ctypes
import sys

from hypothesis import settings

settings.register_profile("rsseg", deadline=None)
settings.load_profile("rsseg")

_DISABLED = 2  # SS_DISABLE of Linux


class _Stack(ctypes.Structure):
    """stack_t of Linux."""

    _fields_ = (("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def pytest_runtest_setup() -> None:
    """Let signals be handled on the usual stack.

    Native libraries give threads a stack for signals; where one is gone, the next signal, such as
    that of a process that has ended, kills the interpreter.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).sigaltstack(ctypes.byref(_Stack(None, _DISABLED, 0)), None)
