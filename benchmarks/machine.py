"""The machine of a measurement: what it is, its allocator, and the peak of a process's memory."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import platform
import resource
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import torch

from rsseg.common.processor import computes_bf16, is_emulated, processor_class

# What glibc's malloc is told, so that it keeps large blocks: by default it returns each to the
# system and faults it in again, page by page, which can take longer than computing.
RETAINING = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "-1"}
ALLOCATORS = ("default", "retaining")

# Variables that make a processor one of a class below its own, for torch, oneDNN and MKL.
NARROWING = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")

# Every block of some size straight from the system and back to it: what a process then holds is
# what it needs, without what malloc keeps for later or cannot give back between smaller blocks.
EXACT = {"MALLOC_MMAP_THRESHOLD_": "65536"}

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def describe(device: torch.device) -> dict[str, Any]:
    """Return what a time depends on, plain values and no names; "class" is the processor's."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return {
        "cpu": _cpu_model(),
        "class": processor_class(),
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "device": name,
    }


def emulation(precision: str, device: torch.device) -> str:
    """Return that a device has to emulate a number format, and so is not measured; or nothing."""
    if not is_emulated(precision, device.type, bf16=computes_bf16(device)):
        return ""
    own = processor_class() if device.type == "cpu" else "this device"
    return f"{own} does not compute in {precision}"


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


def use_threads(count: int | None) -> None:
    """Set the number of threads of torch and OpenCV; None leaves them as they are."""
    if count is not None:
        torch.set_num_threads(count)
        cv2.setNumThreads(count)


def environment_of(allocator: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process with one of ALLOCATORS, or the "exact" one."""
    bare = {name: value for name, value in environment.items() if name not in RETAINING | EXACT}
    return bare | {"retaining": RETAINING, "exact": EXACT}.get(allocator, {})


def waiter(device: torch.device) -> Callable[[], None]:
    """Return what waits until a device has done its work."""
    if device.type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    return lambda: None


def extra_memory(call: Callable[[], object], device: torch.device) -> int:
    """Return the bytes that a call needs at its peak over what is held before.

    On a CPU the process should be a fresh one: what an allocator has kept from earlier calls might
    not count.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    _return_free_memory()
    _forget_peak()
    before = _peak()
    call()
    return _peak() - before


def _return_free_memory() -> None:
    """Return the memory that glibc keeps from earlier calls, which else would hide what is new."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # Other libraries have none.
    if trim is not None:
        trim(0)


def _forget_peak() -> None:
    """Make what is held now the peak, where the system can."""
    # Elsewhere the peak so far remains: that of loading the libraries, and of the warm-up.
    with contextlib.suppress(OSError):
        _CLEAR.write_text("5", encoding="ascii")


def _peak() -> int:
    """Return the most bytes that this process has held at once."""
    # Where there is a choice not from getrusage: a child begins with the peak of its parent.
    if _STATUS.exists():
        for line in _STATUS.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
