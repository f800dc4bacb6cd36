"""From a checkpoint file to the network in it: the one place that knows how each kind is built."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from rsseg.classifiers.build import ClassifierConfig, build_classifier
from rsseg.common.checkpoint import CheckpointError, load_weights, read_checkpoint
from rsseg.common.config import validate
from rsseg.images.preprocessing import Preprocessing
from rsseg.quantization.packing import SUFFIX, load_packed_state, read_packed
from rsseg.segmentation.model import ModelConfig, build_segmenter
from rsseg.switchable.net import SwitchableNet


def _segmenter(description: dict[str, Any]) -> nn.Module:
    # The weights come from the checkpoint; the encoder's own need not be there any more.
    values = {**description, "encoder_weights": None}
    return build_segmenter(validate(ModelConfig, values, "the checkpoint"))


def _classifier(description: dict[str, Any]) -> nn.Module:
    values = {**description, "weights": None}
    return build_classifier(validate(ClassifierConfig, values, "the checkpoint"))


# What `metadata["task"]` may be, and how a network is built from `metadata["model"]`.
BUILDERS: dict[str, Callable[[dict[str, Any]], nn.Module]] = {
    "segmentation": _segmenter,
    "classification": _classifier,
}


def load_checkpoint(path: str | Path) -> tuple[SwitchableNet, Preprocessing, dict[str, Any]]:
    """Read a checkpoint that a training run has written.

    Args:
        path: Checkpoint file, such as `runs/NAME/last.pt`, or a packed one (.safetensors).

    Returns:
        The network in evaluation mode on the CPU, its preprocessing, and metadata: "task",
        "model", "resolutions", "classes" (names), "epoch", "config" (of the whole run).

    Raises:
        CheckpointError: If the file is missing, damaged, or does not fit what it says it is.
    """
    path = Path(path)
    if path.suffix == SUFFIX:
        return _load_packed(path)
    content = read_checkpoint(path)
    net, preprocessing, metadata = _built(path, content)
    load_weights(net, content["net"], str(path))
    return net.eval(), preprocessing, metadata


def _built(
    path: Path, content: dict[str, Any]
) -> tuple[SwitchableNet, Preprocessing, dict[str, Any]]:
    try:
        metadata = dict(content["metadata"])
        net = SwitchableNet(
            BUILDERS[metadata["task"]](metadata["model"]),
            metadata["resolutions"],
            scores="scores" in content["net"],
            batchnorm=metadata["batchnorm"],
        )
        preprocessing = validate(Preprocessing, metadata["preprocessing"], path.name)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} describes no network that can be built: {error}") from error
    return net, preprocessing, metadata


def _load_packed(path: Path) -> tuple[SwitchableNet, Preprocessing, dict[str, Any]]:
    state, described = read_packed(path)
    net, preprocessing, metadata = _built(path, {"metadata": described, "net": state})
    try:
        load_packed_state(net, state)
    except (ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} does not fit the network it describes: {error}") from error
    return net.eval(), preprocessing, metadata
