"""From a checkpoint file to the network in it, whatever its head."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from rsseg.classifiers.head import ClassificationHead
from rsseg.common.checkpoint import CheckpointError, load_weights, read_checkpoint
from rsseg.common.file_kinds import FileKind, file_kind
from rsseg.common.messages import check_name
from rsseg.images.preprocessing import Preprocessing
from rsseg.quantization.packing import SUFFIX, load_packed_state, read_packed
from rsseg.segmentation.head import SegmentationHead
from rsseg.switchable.net import SwitchableNet
from rsseg.training.head import Head
from rsseg.training.metadata import RunMetadata

# The heads by name, which checkpoints, exported files and results hold under the key "task".
HEADS: Final[dict[str, Head]] = {
    head.name: head for head in (SegmentationHead(), ClassificationHead())
}


def head_of(task: str) -> Head:
    """Return the head of a name.

    Raises:
        ValueError: If there is none of this name.
    """
    check_name("task", task, HEADS)
    return HEADS[task]


def load_checkpoint(path: str | Path) -> tuple[SwitchableNet, Preprocessing, RunMetadata]:
    """Read a checkpoint that a training run has written.

    Args:
        path: Checkpoint file, such as `runs/NAME/last.pt`, or a packed one (.safetensors).

    Returns:
        The network in evaluation mode on the CPU, its preprocessing, and what else the checkpoint
        says: task, classes, resolutions, epoch, settings of the whole run.

    Raises:
        CheckpointError: If the file is missing, damaged, of another kind (see
            `rsseg.common.file_kinds`), or does not fit what it says it is.
        OSError: If it cannot be read.
    """
    path = Path(path)
    kind = file_kind(path)
    if kind is FileKind.PACKED or (path.suffix == SUFFIX and kind is not FileKind.CHECKPOINT):
        return _load_packed(path)
    content = read_checkpoint(path)
    net, metadata = _build(path, content)
    load_weights(net, content["net"], str(path))
    return net.eval(), metadata.preprocessing, metadata


def _build(path: Path, content: dict[str, Any]) -> tuple[SwitchableNet, RunMetadata]:
    try:
        metadata = RunMetadata.read(dict(content["metadata"]), path.name)
        net = SwitchableNet(
            head_of(metadata.task).network(metadata.model),
            metadata.resolutions,
            scores="scores" in content["net"],
            batchnorm=metadata.batchnorm,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} describes no network that can be built: {error}") from error
    return net, metadata


def _load_packed(path: Path) -> tuple[SwitchableNet, Preprocessing, RunMetadata]:
    state, values = read_packed(path)
    net, metadata = _build(path, {"metadata": values, "net": state})
    try:
        load_packed_state(net, state)
    except (ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} does not fit the network it describes: {error}") from error
    return net.eval(), metadata.preprocessing, metadata
