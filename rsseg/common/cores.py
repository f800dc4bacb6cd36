"""The cores of this machine, and how many threads compute one image."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

_PROCESSORS: Final = Path("/sys/devices/system/cpu")


def usable_cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux alone has it.
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_threads() -> int:
    """Return the threads of PyTorch, or those that it would take if it was loaded.

    These are OMP_NUM_THREADS, or one for each core, whose hyperthreads count once.
    """
    torch = sys.modules.get("torch")
    if torch is not None:
        return int(torch.get_num_threads())
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) if first.isdigit() and int(first) else _physical_cores()


def _physical_cores(processors: Path = _PROCESSORS) -> int:
    try:
        siblings = {
            (processors / f"cpu{number}" / "topology" / "thread_siblings_list").read_text()
            for number in os.sched_getaffinity(0)
        }
    except (AttributeError, OSError):  # No Linux, or one that does not say so.
        return usable_cores()
    return len(siblings)
