"""The machine that a time was measured on: what it depends on, and no names of hosts."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

_PROCESSORS = Path("/proc/cpuinfo")


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Machine:
    """A kind of machine.

    Args:
        cpu: Model of the processor.
        cores: How many of its cores this process may use.
        device: What computes: "cpu", or the name of a GPU.
    """

    cpu: str
    cores: int
    device: str = "cpu"


def this_machine(device: torch.device | None = None) -> Machine:
    """Describe this machine; `device` is what computes, by default the processor."""
    on_gpu = device is not None and device.type == "cuda"
    return Machine(
        cpu=_model(),
        cores=usable_cores(),
        device=torch.cuda.get_device_name(device) if on_gpu else "cpu",
    )


def usable_cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _model() -> str:
    try:
        lines = _PROCESSORS.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())
