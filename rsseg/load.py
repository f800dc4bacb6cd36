"""From a checkpoint file to the network in it, whatever its head."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from rsseg.common.builder import BuilderError
from rsseg.common.checkpoint import CheckpointError, load_weights, read_checkpoint
from rsseg.common.file_kinds import FileKind, file_kind
from rsseg.common.pretrained_folder import read_folder
from rsseg.heads import head_of
from rsseg.images.preprocessing import Preprocessing
from rsseg.quantization.packing import SUFFIX, load_packed_state, read_packed
from rsseg.switchable.net import SwitchableNet
from rsseg.training.metadata import RunMetadata


def load_checkpoint(
    path: str | Path, *, allow_builder: bool = False
) -> tuple[SwitchableNet, Preprocessing, RunMetadata]:
    """Read a checkpoint that a training run has written.

    Args:
        path: Checkpoint file, such as `runs/NAME/last.pt`, a packed one (.safetensors),
            or a folder of `HubNet.save_pretrained`.
        allow_builder: Whether the file may name a function of yours that builds its network, which
            is then imported and run; see `rsseg.save_checkpoint`.

    Returns:
        The network in evaluation mode on the CPU, its preprocessing, and what else the checkpoint
        says: task, classes, resolutions, epoch, settings of the whole run.

    Raises:
        CheckpointError: If the file is missing, damaged, of another kind (see
            `rsseg.common.file_kinds`), or does not fit what it says it is; or names a builder
            that is not allowed.
        OSError: If it cannot be read.
    """
    path = Path(path)
    kind = file_kind(path)
    if kind is FileKind.PRETRAINED:
        state, values = read_folder(path)
        return _loaded(path, {"metadata": values, "net": state}, allow_builder=allow_builder)
    if kind is FileKind.PACKED or (path.suffix == SUFFIX and kind is not FileKind.CHECKPOINT):
        return _load_packed(path, allow_builder=allow_builder)
    return _loaded(path, read_checkpoint(path), allow_builder=allow_builder)


def _loaded(
    path: Path, content: dict[str, Any], *, allow_builder: bool
) -> tuple[SwitchableNet, Preprocessing, RunMetadata]:
    net, metadata = _build(path, content, allow_builder=allow_builder)
    load_weights(net, content["net"], str(path))
    return net.eval(), metadata.preprocessing, metadata


def build_net(metadata: RunMetadata, *, scores: bool, allow_builder: bool = False) -> SwitchableNet:
    """Build the network that a record describes, without its weights.

    Args:
        metadata: The record.
        scores: Whether it holds the scores of an ensemble.
        allow_builder: Whether the function that the record may name is imported and run.

    Raises:
        BuilderError: If that is not allowed, or builds no network.
        KeyError, TypeError, ValueError: If the record describes no network.
    """
    if metadata.builder is None:
        network = head_of(metadata.task).network(metadata.model)
    else:
        network = metadata.builder.build(allowed=allow_builder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # That other norms are shared was said when it was trained.
        return SwitchableNet(
            network,
            metadata.resolutions,
            scores=scores,
            batchnorm=metadata.batchnorm,
            norms=metadata.norms,
            positions=metadata.positions,
            output=metadata.output,
        )


def _build(
    path: Path, content: dict[str, Any], *, allow_builder: bool
) -> tuple[SwitchableNet, RunMetadata]:
    try:
        metadata = RunMetadata.read(dict(content["metadata"]), path.name)
        scores = "scores" in content["net"]
        net = build_net(metadata, scores=scores, allow_builder=allow_builder)
    except BuilderError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} describes no network that can be built: {error}") from error
    return net, metadata


def _load_packed(
    path: Path, *, allow_builder: bool
) -> tuple[SwitchableNet, Preprocessing, RunMetadata]:
    state, values = read_packed(path)
    content = {"metadata": values, "net": state}
    net, metadata = _build(path, content, allow_builder=allow_builder)
    try:
        load_packed_state(net, state)
    except (ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} does not fit the network it describes: {error}") from error
    return net.eval(), metadata.preprocessing, metadata
