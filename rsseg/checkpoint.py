"""Checkpoint files: written whole or not at all, read without running code.

A checkpoint is one dict of plain values and tensors. What lies in it is decided by its writer
(`training`); how a network is built from it again is in `load`.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rsseg.listing import listed

FORMAT = "rsseg 1"


class CheckpointError(ValueError):
    """A checkpoint that cannot be written, read or used."""


def save_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint to a temporary file, then move it to its name.

    Raises:
        CheckpointError: If it cannot be written; a file that had the name before is kept.
    """
    temporary = path.with_name(path.name + ".part")
    try:
        with temporary.open("wb") as file:
            torch.save({"format": FORMAT, **content}, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        temporary.unlink(missing_ok=True)
        kept = f"; the one written before is kept: {path}" if path.exists() else ""
        raise CheckpointError(f"cannot write {path}: {error}{_free(path)}{kept}") from error


def _free(path: Path) -> str:
    try:
        return f" ({shutil.disk_usage(path.parent).free / 2**20:.0f} MiB free on this disk)"
    except OSError:
        return ""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; nothing in the file is run.

    Raises:
        CheckpointError: If the file is missing, damaged, or no checkpoint of rsseg.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # What torch says about foreign files, we say below.
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no checkpoint {path}") from error
    except Exception as error:  # Bytes that are no checkpoint can raise anything in torch.load.
        raise CheckpointError(
            f"{path} is damaged or is no checkpoint ({_reason(error)}); use another checkpoint of "
            "the run, such as best.pt"
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        held = sorted(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise CheckpointError(
            f"{path} is not a checkpoint of rsseg (format '{FORMAT}'); it holds {held}"
        )
    return content


def _reason(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    if "weights_only" in text:  # Torch goes on to advise to run what the file says. We don't.
        return "it holds something else than tensors and plain values, and none of it was run"
    return text.splitlines()[0]


def differences(network: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """List what keeps a state dict from fitting a network, one line for each kind of fault."""
    own = network.state_dict()
    shared = [name for name in own if name in state]
    reshaped = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(own[name].shape)}"
        for name in shared
        if state[name].shape != own[name].shape
    ]
    kinds = {
        "missing": own.keys() - state.keys(),
        "not in the network": state.keys() - own.keys(),
        "of another shape": reshaped,
    }
    return [f"{kind}: {listed(names)}" for kind, names in kinds.items() if names]


def load_weights(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load a state dict into a network that must fit it exactly.

    Raises:
        CheckpointError: With sorted lists of what is missing, left over or of another shape.
    """
    faults = differences(network, state)
    if faults:
        kind = type(getattr(network, "network", network)).__name__
        raise CheckpointError("\n  ".join([f"{source} does not fit this {kind}:", *faults]))
    network.load_state_dict(dict(state))
