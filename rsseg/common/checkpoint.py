"""Checkpoint files: written whole or not at all, read whole or not at all, without running code.

A checkpoint is one dict of plain values and tensors, in the zip format of `torch.save`. What lies
in it is decided by its writer (`training`); how a network is built from it again is in `load`.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rsseg.common.distributed import is_main_process
from rsseg.common.file_kinds import (
    CHECKPOINT_FORMAT,
    CHECKPOINTS,
    FileKind,
    file_kind,
    foreign_kind,
    wrong_kind_message,
)
from rsseg.common.files import move_whole
from rsseg.common.messages import first_line, listed

FORMAT = CHECKPOINT_FORMAT
CHUNK = 2**20  # bytes that are read at once
FOLDER = 0x10  # Of the attributes of a record in a zip file.


class CheckpointError(ValueError):
    """A checkpoint that cannot be written, read or used."""


def write_checkpoint(
    path: Path, content: Mapping[str, Any], *, previous: Path | None = None
) -> None:
    """Write a checkpoint to a temporary file, then move it to its name.

    Whenever the process or the machine stops, `path` names the old checkpoint or the new one.

    Args:
        path: Name of the file. Beside it "NAME.part" is in use for the time of writing.
        content: What is saved.
        previous: Name in the same folder for the checkpoint that had the name `path` before. A
            broken one is not kept, so that a whole one already there stays. None: none is kept.

    Raises:
        CheckpointError: If it cannot be written; a file that had the name before is kept.
    """
    temporary = part_of(path)
    try:
        with temporary.open("wb") as file:
            torch.save({"format": FORMAT, **content}, file)
        if previous:
            _keep(path, previous)
        move_whole(temporary, path)
    except (OSError, RuntimeError) as error:
        for part in (temporary, part_of(previous or path)):
            part.unlink(missing_ok=True)
        rest = f"; the one written before is kept: {path}" if path.exists() else ""
        raise CheckpointError(f"cannot write {path}: {error}{_free(path)}{rest}") from error


def part_of(path: Path) -> Path:
    """Return the name of a file while it is written."""
    return path.with_name(path.name + ".part")


def _keep(path: Path, previous: Path) -> None:
    """Link a whole checkpoint to a second name; `previous` names a whole one at every moment."""
    if not _is_whole(path) or (previous.exists() and previous.samefile(path)):
        return
    spare = part_of(previous)
    spare.unlink(missing_ok=True)
    try:
        spare.hardlink_to(path)
    except OSError:  # Some file systems know one name for a file only.
        shutil.copyfile(path, spare)
    move_whole(spare, previous)


def _is_whole(path: Path) -> bool:
    try:
        check_bytes(path)
    except Exception:  # As in `_read`.
        return False
    return True


def _free(path: Path) -> str:
    try:
        return f" ({shutil.disk_usage(path.parent).free / 2**20:.0f} MiB free on this disk)"
    except OSError:
        return ""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; nothing in the file is run.

    Raises:
        CheckpointError: If the file is missing, damaged in any byte that matters, or not an
            rsseg checkpoint.
    """
    return _read(path, "; use another checkpoint of the run, such as previous.pt or best.pt")


def read_last(last: Path, previous: Path) -> tuple[dict[str, Any], Path]:
    """Read the last checkpoint of a run, or else the one before, with a warning.

    Returns:
        The content, and the file that it is from.

    Raises:
        CheckpointError: If neither of the two can be read.
    """
    try:
        return _read(last), last
    except CheckpointError as error:
        fault = error
    try:
        content = _read(previous)
    except CheckpointError as error:
        raise CheckpointError(
            f"{fault}, and {error}; copy best.pt to {last.name} to continue from there, or start "
            "the run again in another folder"
        ) from error
    # Whoever continues the run has to know that it does so from an earlier step.
    if is_main_process():
        warnings.warn(f"{fault}; {previous}, the checkpoint before, is used instead", stacklevel=2)
    return content, previous


def _read(path: Path, remedy: str = "") -> dict[str, Any]:
    try:
        check_bytes(path)
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")  # What torch says about foreign files, we say below.
            # Not by its path: torch would choose the format by the suffix.
            content = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no checkpoint {path}") from error
    except Exception as error:  # Bytes of another kind can raise anything in torch.load.
        fault = f"{path} {FileKind.OTHER.value} ({load_error_message(error, path)}){remedy}"
        raise CheckpointError(_other_kind_message(path) or fault) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        kind = type(content).__name__
        keys = sorted(map(str, content)) if isinstance(content, dict) else kind
        fault = f"{path} is not an rsseg checkpoint (format '{FORMAT}'); it holds {keys}"
        raise CheckpointError(_other_kind_message(path) or fault)
    return content


def _other_kind_message(path: Path) -> str | None:
    """Return what a file is instead of a checkpoint, None if it could be a damaged checkpoint."""
    could_be = (FileKind.CHECKPOINT, FileKind.WEIGHTS, FileKind.EMPTY, FileKind.OTHER)
    try:
        return None if file_kind(path) in could_be else wrong_kind_message(path, CHECKPOINTS)
    except OSError:  # It cannot be read at all, which torch.load has said.
        return None


def check_bytes(path: Path) -> None:
    """Compare the records of a file with their checksums, which `torch.load` does not look at.

    Raises:
        ValueError: If the records do not begin the file or claim more bytes than there are.
        Exception: Of many kinds, if the bytes have been changed or are not a zip file.
    """
    if not path.stat().st_size:
        raise ValueError("it is empty")
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
        # Torch compresses nothing; a compressed record could unfold to any size.
        compressed = (record.compress_type != zipfile.ZIP_STORED for record in records)
        if any(compressed) or any(record.file_size != record.compress_size for record in records):
            raise ValueError("its records are compressed")
        # Torch takes a record marked as a folder for empty, and returns whatever memory holds.
        if any(record.external_attr & FOLDER for record in records):
            raise ValueError("its records are marked as folders")
        size = sum(record.file_size for record in records)
        if size > path.stat().st_size:
            raise ValueError(f"its records claim {size} bytes, more than the file has")
        # Else `zipfile` may see another archive in the file than torch.
        if min(record.header_offset for record in records) != 0:
            raise ValueError("it does not begin with a record")
        for record in records:
            with archive.open(record) as stream:
                while stream.read(CHUNK):
                    pass


def state_digest(state: Mapping[str, Tensor]) -> str:
    """Return 64 hexadecimal digits that tell the tensors of a state dict from any others."""
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def load_error_message(error: Exception, path: Path) -> str:
    """Return why `torch.load` refused a file, without its advice to run what the file says."""
    kind = _foreign_kind(path)
    if kind or isinstance(error, EOFError) or "unexpected EOF" in str(error):
        return f"it is {kind or 'cut short'}"
    if "not fully covered" in str(error):  # Of safetensors.
        return "it has not the length that its header tells; it is cut short, or damaged"
    if "weights_only" in str(error):
        name = re.search(r"GLOBAL ([\w.]+) was not", str(error))
        what = f" ({name[1]})" if name else ""
        return (
            f"it holds something else than tensors and plain values, and none of it was run{what}"
        )
    return first_line(error)


def _foreign_kind(path: Path) -> str:
    try:
        return foreign_kind(path)
    except OSError:
        return ""


def differences(network: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """List the differences of a state dict to that of a network, one line for each kind."""
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
    # Some layers refuse a state dict without the versions of its layers (mnasnet), which a dict of
    # tensors has lost; names and shapes are this network's, so its own versions hold.
    own = network.state_dict()
    own.update(state)
    network.load_state_dict(own)
