"""From a file to an executor and what it has to be told: the one place that knows each kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import torch

from rsseg.load import load_checkpoint
from rsseg.quantization.packing import SUFFIX as PACKED
from rsseg.runtime.description import Description, describe
from rsseg.runtime.executors import Executor, TorchExecutor
from rsseg.runtime.onnx.executor import open_onnx
from rsseg.runtime.onnx.openvino import open_openvino

Opened = tuple[Executor, Description]


def open_torch(path: Path, *, threads: int | None, device: str) -> Opened:
    """Open a checkpoint with PyTorch.

    Args:
        path: File of the checkpoint.
        threads: Threads of PyTorch, which has one number for the whole process; default: that.
        device: "auto", "cpu" or "cuda".

    Raises:
        ValueError: If it cannot be used.
    """
    net, _, metadata = load_checkpoint(path)
    description = describe(metadata, path, unseen=net.unseen)
    if threads is not None:
        torch.set_num_threads(threads)
    return TorchExecutor(net, device=device), description


CHECKPOINTS: Final = (".pt", PACKED)
# Which files an executor takes, and how it opens them; the first is a suffix's natural one.
EXECUTORS: Final[dict[str, tuple[tuple[str, ...], Callable[..., Opened]]]] = {
    "torch": (CHECKPOINTS, open_torch),
    "onnxruntime": ((".onnx",), open_onnx),
    "openvino": ((".onnx",), open_openvino),
}


def natural_executor(path: Path) -> str:
    """Name the executor that a file is opened with where none is asked for.

    Raises:
        ValueError: If its suffix is of no executor.
    """
    for name, (suffixes, _) in EXECUTORS.items():
        if path.suffix in suffixes:
            return name
    raise ValueError(
        f"{path}: expected a checkpoint ({', '.join(CHECKPOINTS)}) or an exported file (.onnx)"
    )


def open_executor(
    path: Path, name: str | None = None, *, threads: int | None = None, device: str = "cpu"
) -> Opened:
    """Open a file with an executor.

    Args:
        path: A checkpoint (.pt, packed .safetensors) or an exported file (.onnx).
        name: "torch", "onnxruntime" or "openvino"; default: the one natural for the file.
        threads: Threads that compute one image; default: as many as PyTorch.
        device: "cpu"; PyTorch also takes "auto" and "cuda".

    Raises:
        ValueError: If something given is not valid, or the file cannot be used.
        ImportError: If the executor is not installed.
        OSError: If the file cannot be read.
    """
    name = natural_executor(path) if name is None else name
    if name not in EXECUTORS:
        raise ValueError(f"unknown executor '{name}'; expected one of {', '.join(EXECUTORS)}")
    suffixes, opened = EXECUTORS[name]
    if path.suffix not in suffixes:
        kind = "a checkpoint" if suffixes == CHECKPOINTS else "a file of `rsseg export`"
        raise ValueError(f"executor {name} takes {kind}, {' or '.join(suffixes)}, got {path}")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; give a checkpoint or an exported file")
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    return opened(path, threads=threads, device=device)
