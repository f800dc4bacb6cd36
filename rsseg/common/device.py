"""The device of a run, and how exactly it repeats."""

from __future__ import annotations

import os

import torch

from rsseg.common.distributed import is_launched, local_rank
from rsseg.common.messages import first_line


def choose_device(name: str) -> torch.device:
    """Return the device of a name; "auto" is a CUDA device where there is one.

    Of several CUDA devices each process of a machine takes its own.

    Raises:
        ValueError: If this machine has no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and is_launched():
        name = f"cuda:{local_rank()}"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = first_line(error)
        raise ValueError(
            f"device '{name}' cannot be used here ({reason}); expected auto, cpu or cuda"
        ) from error
    return device


def make_deterministic() -> None:
    """Use deterministic algorithms only; an operation that has none raises an error."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
