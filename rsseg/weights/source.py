"""What a file of weights holds, whoever wrote it: a state dict, and what is said of it.

Read are checkpoints and packed files of rsseg, folders of `save_pretrained` (timm, huggingface_hub,
segmentation-models-pytorch), and state dicts as training scripts write them. No code in them runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from torch import nn

from rsseg.common.checkpoint import read_checkpoint
from rsseg.common.config import validate
from rsseg.common.file_kinds import FileKind, file_kind
from rsseg.common.files import read_json
from rsseg.common.pretrained_folder import read_folder
from rsseg.common.state_files import State, read_wrapped
from rsseg.images.preprocessing import Preprocessing
from rsseg.quantization.packing import load_packed_state, read_packed
from rsseg.switchable.net import SwitchableNet
from rsseg.switchable.norms import BATCH
from rsseg.switchable.resolutions import Resolutions
from rsseg.weights.package import PACKAGE, package_record, package_weights
from rsseg.weights.record import Record, record_of

EXPECTED: Final = (
    "a checkpoint of rsseg (.pt), a state dict (.pth, .pt, .ckpt, .safetensors), or a folder of "
    "save_pretrained"
)
_IN_FOLDER: Final = ("model.safetensors", "pytorch_model.bin")
_CONFIGS: Final = ("config.json", "preprocessor_config.json")
_REMEDIES: Final = {
    FileKind.EXPORTED: "give the checkpoint that it was exported from",
    FileKind.EXECUTORCH: "give the checkpoint that it was exported from",
    FileKind.OPENVINO: "give the checkpoint that it was exported from",
    FileKind.PROGRAM: "give the checkpoint that it was exported from",
    FileKind.OTHER_ONNX: "give the state dict of the network that it was exported from",
    FileKind.EMPTY: "write it again",
}


@dataclass(frozen=True, kw_only=True)
class Weights:
    """The weights of a file, and what the file says of them.

    Args:
        name: The file, for messages, with the key that the weights lay under.
        state: Tensors by name.
        record: The normalisation that they were trained with, if known.
        checkpoint: The metadata of a checkpoint of rsseg, as plain values; empty for others.
        packed: Whether the weights are codes of a packed file, see `unpacked`.
    """

    name: str
    state: State
    record: Record | None = None
    checkpoint: Mapping[str, Any] = field(default_factory=dict)
    packed: bool = False

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that a checkpoint of rsseg was trained for; empty if unknown."""
        known = self.checkpoint and not self.checkpoint.get("imported")
        return tuple(self.checkpoint.get("classes", ())) if known else ()


def open_weights(source: str, *, key: str = "init") -> Weights:
    """Read the weights of a file, a folder or an installed package.

    Args:
        source: A path, or "package:NAME".
        key: The setting that names it, for messages.

    Raises:
        ValueError: If there are no weights that can be read; says what it is instead.
    """
    if source.startswith(PACKAGE):
        state, record = package_weights(source.removeprefix(PACKAGE), key=key)
        return Weights(name=source, state=state, record=record)
    path = Path(source).expanduser()
    try:
        kind = file_kind(path)
        return _open(path, kind, key)
    except OSError as error:
        raise ValueError(f"{key}: cannot read {path}: {error.strerror or error}") from error


def _open(path: Path, kind: FileKind, key: str) -> Weights:
    if kind is FileKind.MISSING:
        raise ValueError(f"{key}: there is no file {str(path)!r}; give {EXPECTED}")
    if kind is FileKind.FOLDER:
        return _open_folder(path, key)
    if kind is FileKind.PUBLISHED:
        remedy = f"make it a checkpoint with `rsseg import {path} --out NAME.pt`, and give that"
        raise ValueError(f"{key}: {path} {kind.value}; {remedy}")
    if kind in _REMEDIES:
        raise ValueError(f"{key}: {path} {kind.value}; {_REMEDIES[kind]}")
    if kind is FileKind.CHECKPOINT:
        content = read_checkpoint(path)
        return _of_rsseg(path, dict(content["net"]), dict(content["metadata"]), packed=False)
    if kind is FileKind.PRETRAINED:
        return _of_rsseg(path, *read_folder(path), packed=False)
    if kind is FileKind.PACKED:
        return _of_rsseg(path, *read_packed(path), packed=True)
    return _of_state(path, key)


def _of_rsseg(path: Path, state: State, metadata: dict[str, Any], *, packed: bool) -> Weights:
    values = metadata.get("preprocessing") or {}
    images = validate(Preprocessing, dict(values), path.name)
    record = Record(images.mean, images.std, f"the preprocessing of {path.name}")
    return Weights(name=str(path), state=state, record=record, checkpoint=metadata, packed=packed)


def _of_state(path: Path, key: str) -> Weights:
    try:
        state, wrapper = read_wrapped(path)
    except ValueError as error:
        raise ValueError(f"{key}: {error}; give {EXPECTED}") from error
    return Weights(name=f"{path}[{wrapper}]" if wrapper else str(path), state=state)


def _open_folder(path: Path, key: str) -> Weights:
    file = next((path / name for name in _IN_FOLDER if (path / name).is_file()), None)
    if file is not None:
        return replace(_of_state(file, key), record=folder_record(path))
    if (path / "last.pt").is_file():
        remedy = f"that is a run; give {path / 'last.pt'}"
    elif any(path.glob("*.safetensors.index.json")):
        remedy = "its weights lie in several files, which are not joined here; save them as one"
    else:
        remedy = f"give {EXPECTED}"
    raise ValueError(f"{key}: the folder {path} holds no {' or '.join(_IN_FOLDER)}; {remedy}")


def folder_record(path: Path) -> Record | None:
    """Return the normalisation that the settings in a folder of `save_pretrained` name, if any.

    Raises:
        ValueError: If a file of settings is not JSON.
    """
    for file in (path / name for name in _CONFIGS):
        values = read_json(file) if file.is_file() else None
        if isinstance(values, dict):
            inner = values.get("pretrained_cfg", values.get("preprocessing"))
            held = inner if isinstance(inner, dict) else values
            record = record_of(held, f"{file.name} of {path.name}")
            if record is not None:
                return record
    return None


def recorded(source: str, *, key: str) -> Record | None:
    """Return the normalisation that weights say they were trained with, if they do.

    Args:
        source: As `open_weights` takes it.
        key: The same.

    Raises:
        ValueError: As `open_weights` raises it.
    """
    if source.startswith(PACKAGE):
        return package_record(source.removeprefix(PACKAGE), key=key)
    path = Path(source).expanduser()
    # Of a state dict alone nothing is known; whoever loads it says what is wrong with it.
    try:
        if file_kind(path) is FileKind.WEIGHTS:
            return None
    except OSError:
        return None
    return open_weights(source, key=key).record


def refuse_checkpoint(weights: Weights, key: str) -> None:
    """Raise ValueError for a checkpoint of rsseg, whose sets a plain network cannot hold."""
    if weights.checkpoint:
        raise ValueError(
            f"{key}: {weights.name} is a checkpoint of rsseg, with a BatchNorm set for each "
            f"resolution; give init: {weights.name} in its place, which loads all of it"
        )


def unpacked(weights: Weights, build: Callable[[Mapping[str, Any]], nn.Module]) -> Weights:
    """Return the weights of a packed file as tensors; others as they are.

    Args:
        weights: What `open_weights` has read.
        build: Builds the network that settings of a model describe.

    Raises:
        ValueError: If the file does not describe a network.
    """
    if not weights.packed:
        return weights
    values = weights.checkpoint
    try:
        net = SwitchableNet(
            build(values["model"]),
            Resolutions(values["resolutions"]),
            scores="scores" in weights.state,
            batchnorm=values.get("batchnorm", "private"),
            norms=values.get("norms", BATCH),
            positions=values.get("positions", "shared"),
        )
        load_packed_state(net, weights.state)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{weights.name} does not fit what it describes: {error}") from error
    return replace(weights, state=dict(net.state_dict()), packed=False)
