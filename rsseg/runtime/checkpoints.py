"""From a checkpoint to an executor of PyTorch and the description of its network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from rsseg.common.config import validate
from rsseg.load import load_checkpoint
from rsseg.runtime.description import Description, name_of
from rsseg.runtime.executors import TorchExecutor
from rsseg.segmentation.labels import complete_reading
from rsseg.training.metadata import RunMetadata


def open_torch(
    path: Path,
    *,
    threads: int | None,
    device: str,
    unseen: str | None = None,
    allow_builder: bool = False,
) -> tuple[TorchExecutor, Description]:
    """Open a checkpoint with PyTorch.

    Args:
        path: File of the checkpoint, or a packed one.
        threads: Threads of PyTorch, which has one number for the whole process; default: that.
        device: "auto", "cpu" or "cuda".
        unseen: Rule for untrained resolutions, see `rsseg.SwitchableNet`; default: the network's.
        allow_builder: See `rsseg.load_checkpoint`.

    Raises:
        ValueError: If it cannot be used.
    """
    net, _, metadata = load_checkpoint(path, allow_builder=allow_builder)
    net.unseen = unseen or net.unseen
    description = describe(metadata, path, unseen=net.unseen)
    if threads is not None:
        torch.set_num_threads(threads)
    return TorchExecutor(net, device=device), description


def describe(metadata: RunMetadata, path: Path, *, unseen: str) -> Description:
    """Return the description of the network of a checkpoint.

    Args:
        metadata: As `load_checkpoint` returns it.
        path: File of the checkpoint, which may have to name the network.
        unseen: Rule of the network.

    Raises:
        ValueError: If it names no classes.
    """
    values = {
        "task": metadata.task,
        "name": metadata.name or name_of(path),
        "classes": metadata.classes,
        "resolutions": metadata.resolutions,
        "batchnorm": metadata.batchnorm,
        "preprocessing": metadata.preprocessing,
        "unseen": unseen,
        "labels": _labels(metadata),
        "colours": _colours(metadata),
        "weights": metadata.weights,
    }
    return validate(Description, values, path.name)


def _colours(metadata: RunMetadata) -> Any:
    """Return the colours of the classes: as given, or else those that the label maps hold."""
    data = metadata.config.get("data", {})
    return data.get("colours") or (data.get("labels") or {}).get("colours")


def _labels(metadata: RunMetadata) -> Any:
    """Return what label maps meant in training: as recorded, or else as the settings state it."""
    if metadata.data.get("labels") is not None:
        return metadata.data["labels"]
    settings = metadata.config.get("data", {})
    offset, void = settings.get("label_offset"), settings.get("void_value")
    if offset is not None or void is not None:  # the keys of earlier versions
        return complete_reading(offset, void)
    return settings.get("labels")
