"""What `rsseg doctor` measures of a machine, wherever that takes several steps or may fail.

Nothing is judged here, nothing raised for an ill machine and nothing left on the disk: what cannot
be had is told in words, or as None.

Sources: https://docs.kernel.org/admin-guide/cgroup-v2.html (cpu.max) and
https://docs.kernel.org/scheduler/sched-bwc.html (cpu.cfs_quota_us), the CPU time of a container.
"""

from __future__ import annotations

import math
import os
import shutil
import socket
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

SECONDS = 10.0  # How long a network that does not answer may keep a check waiting.
T = TypeVar("T")


@dataclass(frozen=True)
class CudaDevice:
    """A CUDA device: its name, free and total memory in bytes, and compute capability."""

    name: str
    free: int
    total: int
    capability: tuple[int, int]


@dataclass(frozen=True)
class Cuda:
    """What torch says about CUDA.

    Args:
        build: Version of CUDA that torch is built for, None for the CPU alone.
        hardware: Whether the system shows an NVIDIA GPU, whatever torch makes of it.
        hidden: Whether CUDA_VISIBLE_DEVICES hides all devices.
        complaint: Why torch can use no device; empty if it gives no reason.
        devices: The devices that torch can use.
    """

    build: str | None = None
    hardware: bool = False
    hidden: bool = False
    complaint: str = ""
    devices: tuple[CudaDevice, ...] = ()


def measured_cuda() -> Cuda:
    """Ask torch for the CUDA devices; what it warns of is kept as the complaint."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    said = [str(warning.message).partition(". ")[0].splitlines()[0] for warning in warned]
    return Cuda(
        build=torch.version.cuda or torch.version.hip,
        hardware=any(Path("/dev").glob("nvidia[0-9]*")),
        hidden=os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"),
        complaint=said[0].partition(" (Triggered")[0] if said else "",
        devices=tuple(_measured_device(number) for number in range(count)),
    )


def _measured_device(number: int) -> CudaDevice:
    free, total = torch.cuda.mem_get_info(number)
    capability = torch.cuda.get_device_capability(number)
    return CudaDevice(torch.cuda.get_device_name(number), free, total, capability)


def cpu_has_bf16(root: Path = Path("/")) -> bool:
    """Tell whether Linux says that the processor calculates in bf16 itself."""
    words = text_of(root / "proc/cpuinfo").split()
    return bool({"avx512_bf16", "amx_bf16", "bf16"}.intersection(words))


def usable_cores(root: Path = Path("/")) -> int:
    """Return how many cores this process may use at a time; `root` is that of the file system."""
    chosen = hasattr(os, "sched_getaffinity")
    count = len(os.sched_getaffinity(0)) if chosen else os.cpu_count() or 1
    return max(1, math.ceil(min(count, cpu_quota(root))))


def cpu_quota(root: Path) -> float:
    """Return how many cores' time the control groups of this process grant, inf for no limit."""
    mounts, granted = root / "sys/fs/cgroup", [math.inf]
    for line in text_of(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        for mount in (
            mounts / (controllers or "."),
            mounts / ("cpu" if controllers else "unified"),
        ):
            # Limits of the groups above hold as well. A container sees its own group at the top.
            own = mount / path.lstrip("/")
            groups = [own, *(group for group in own.parents if group.is_relative_to(mount))]
            granted += [_quota(group) for group in groups]
    return min(granted)


def _quota(group: Path) -> float:
    version_1 = [text_of(group / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    quota, period = text_of(group / "cpu.max").split() or version_1
    return int(quota) / int(period) if quota.isdigit() else math.inf  # "max", "-1", or no file.


def text_of(path: Path) -> str:
    """Read a text file; one that cannot be read is empty."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def free_shared_memory() -> int | None:
    """Return the free bytes of /dev/shm; None where a system other than Linux has none."""
    if not Path("/dev/shm").is_dir():
        return 0 if sys.platform == "linux" else None
    return shutil.disk_usage("/dev/shm").free


def temporary_folder() -> tuple[str, str]:
    """Return the folder for temporary files, and why it cannot be used or an empty text."""
    folder = os.environ.get("TMPDIR") or tempfile.gettempdir()
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(2**16))
    except OSError as error:
        return folder, error.strerror or str(error)
    return folder, ""


def unreadable(path: Path) -> str:
    """Say why a file or folder cannot be read, or is empty; an empty text if it can."""
    try:
        if path.is_dir():
            return "" if any(path.iterdir()) else "the folder is empty"
        with path.open("rb") as file:
            return "" if file.read(1) else "the file is empty"
    except OSError as error:
        return error.strerror or str(error)


def address_of(name: str) -> str | None:
    """Return the address of a machine, None if its name cannot be resolved."""
    try:
        return socket.gethostbyname(name)
    except (OSError, UnicodeError):
        return None


def within(seconds: float, ask: Callable[[], T], late: T) -> T:
    """Return what a function returns, or `late` if it takes longer; it must not raise."""
    answers: list[T] = []
    thread = threading.Thread(target=lambda: answers.append(ask()), daemon=True)
    thread.start()
    thread.join(seconds)
    return answers[0] if answers else late
