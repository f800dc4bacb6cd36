"""Published ImageNet checkpoints of the paper's PyTorch code, read into a SwitchableNet.

Which network lies in a file is decided by the names and shapes of its tensors, not by what the
file says it is. Optimiser, epoch and accuracies are left unread, and so are the quantised
networks, which were published for TensorFlow.

How certain the layout is: the names follow from the published source. Networks written after it,
with random weights, gave the same logits to the bit when they were read here (the four ResNets;
MobileNetV2 at ten widths). Files with published weights were not at hand. A name missing or left
over is an error, so a file of another layout is refused, never half read.

Source: https://github.com/yikaiw/RS-Nets, folder non-quantization; Wang et al., ECCV 2020,
https://arxiv.org/abs/2007.09558.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rsseg.classifiers.build import build_classifier
from rsseg.common.checkpoint import CheckpointError, read_checkpoint
from rsseg.common.messages import counted, listed
from rsseg.common.state_files import State, read_state
from rsseg.images.preprocessing import Preprocessing
from rsseg.switchable.net import SwitchableNet
from rsseg.switchable.resolutions import Resolutions

# bn_0 belongs to 224, bn_4 to 96.
RESOLUTIONS = (224, 192, 160, 128, 96)
# The networks of the published code, and its name of the layer that returns the logits.
NETWORKS = {
    "resnet18": "fc",
    "resnet34": "fc",
    "resnet50": "fc",
    "resnet101": "fc",
    "mobilenetv2": "classifier",
}
_MOST_CLASSES = 100_000  # several times ImageNet-22k; more would only fill the memory


def load_published(
    path: str | Path, *, resolutions: Sequence[int] | None = None
) -> tuple[SwitchableNet, Preprocessing]:
    """Read a published ImageNet checkpoint; nothing in the file is run.

    Args:
        path: Published file, such as `model_best.pth.tar`.
        resolutions: What its BatchNorm sets bn_0, bn_1, ... were trained for, from large to
            small. None is 224, 192, 160, 128, 96, for a file with five sets.

    Returns:
        The network in evaluation mode on the CPU (with scores if the file holds alpha), and the
        preprocessing it was trained with: values in 0..1, not normalised, centre crop.

    Raises:
        CheckpointError: If the file is missing, damaged or of another kind, or does not fit the
            closest network; the message lists what is missing, left over or of another
            shape, in the file's own names.
        ValueError: If `resolutions` are not valid.

    Example:
        >>> load_published("nowhere.pth.tar")
        Traceback (most recent call last):
        rsseg.common.checkpoint.CheckpointError: there is no checkpoint nowhere.pth.tar
    """
    net, preprocessing, _ = read_published(Path(path), resolutions)
    return net, preprocessing


def read_published(
    path: Path, resolutions: Sequence[int] | None = None
) -> tuple[SwitchableNet, Preprocessing, dict[str, Any]]:
    """Do the same, and return the keywords of `build_classifier` for the network."""
    state = _read(path)
    # DataParallel, under which the published networks were trained, puts this before every name.
    prefix = "module." if any(name.startswith("module.") for name in state) else ""
    sizes = _resolutions(state, prefix, resolutions, path)
    scores = f"{prefix}alpha" in state
    keywords = _closest(state, prefix, sizes, scores)
    reference = _empty_state(keywords, prefix, sizes, scores)
    counters = [name for name in reference if name.endswith("num_batches_tracked")]
    state = dict.fromkeys(counters, torch.tensor(0)) | state  # Older files lack the counters.
    lines = _fault_lines(state, reference)
    if lines:
        kind = f"a published {keywords['name']}, the network that comes closest:"
        raise CheckpointError("\n  ".join([f"{path} does not hold {kind}", *lines]))
    net = SwitchableNet(build_classifier(**keywords), sizes, scores=scores)
    net.load_state_dict({key: state[name] for key, name in published_names(net, prefix).items()})
    preprocessing = Preprocessing(mean=(0, 0, 0), std=(1, 1, 1), fit="crop")
    return net.eval(), preprocessing, keywords


def published_names(net: SwitchableNet, prefix: str = "") -> dict[str, str]:
    """Return the published name for each name in the state dict of a SwitchableNet.

    Shared layers of its ResNet or MobileNetV2 lie under `module`, the BatchNorm of the i-th
    resolution under `bn_i`, the raw scores of the ensemble under `alpha`, all after `prefix`.
    """
    sets = net.resolutions.names
    return {key: prefix + _published_name(key, sets) for key in net.state_dict()}


def _published_name(key: str, sets: Sequence[str]) -> str:
    if key == "scores":
        return "alpha"
    path, _, tensor = key.removeprefix("network.").rpartition(".")
    layer, private, name = path.partition(".sets.")
    holder = f"bn_{sets.index(name)}" if private else "module"
    return f"{published_layer(layer)}.{holder}.{tensor}"


def published_layer(layer: str) -> str:
    """Return the published name of a layer by torchvision's name for it.

    ResNets have the same names in both. In torchvision's MobileNetV2, convolution, BatchNorm and
    ReLU6 are grouped by three, and the last convolution lies among the blocks; in the published
    one, each block numbers its layers (ReLU6 included) from 0.

    Example:
        >>> published_layer("layer1.0.conv1")
        'layer1.0.conv1'
        >>> [published_layer(f"features.2.conv.{part}") for part in ("0.0", "0.1", "1.0", "2")]
        ['features.2.conv.0', 'features.2.conv.1', 'features.2.conv.3', 'features.2.conv.6']
    """
    match layer.split("."):
        case ["classifier", "1"]:
            return "classifier"
        case ["features", "18", part]:
            return f"conv.{part}"
        case ["features", block, "conv", group, part]:
            return f"features.{block}.conv.{3 * int(group) + int(part)}"
        case ["features", block, "conv", part]:
            groups = 1 if block == "1" else 2  # The first block does not expand its channels.
            return f"features.{block}.conv.{int(part) + 2 * groups}"
        case _:
            return layer


def _read(path: Path) -> State:
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; give the published file in it")
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}")
    if not os.access(path, os.R_OK):
        raise CheckpointError(f"{path} may not be read; change its permissions")
    try:
        return read_state(path)
    except ValueError as error:
        if _is_ours(path):
            raise CheckpointError(
                f"{path} is a checkpoint of rsseg, not a published one; read it with "
                "load_checkpoint(path)"
            ) from error
        raise CheckpointError(
            f"{path} is not a published checkpoint, or is damaged: expected tensors by name under "
            "'state_dict' and plain values beside them (nothing in it was run); fetch it again"
        ) from error


def _is_ours(path: Path) -> bool:
    try:
        read_checkpoint(path)
    except CheckpointError:
        return False
    return True


def _resolutions(
    state: State, prefix: str, resolutions: Sequence[int] | None, path: Path
) -> Resolutions:
    """Check that there is one resolution for each of the file's BatchNorm sets."""
    matches = (re.search(r"\.bn_(\d{1,4})\.", name) for name in state)
    numbers = [int(match[1]) for match in matches if match]
    if not numbers:
        raise CheckpointError(
            f"{path} holds no private BatchNorm sets (names such as bn1.bn_0.weight), so it is not "
            "a published RS-Net; the weights of an ordinary network are read with "
            "build_classifier(name=..., weights=path)"
        )
    alpha = state.get(f"{prefix}alpha", torch.empty(0))
    # Where a set is missing, alpha still has one value for each.
    count = max(*numbers, alpha.numel() - 1) + 1
    sizes = Resolutions(RESOLUTIONS if resolutions is None else resolutions)
    if len(sizes) != count:
        raise CheckpointError(
            f"{path} holds {count} BatchNorm sets for each layer, but there are "
            f"{counted(len(sizes), 'resolution')} {list(sizes)}; give "
            "`resolutions` those that it was trained with"
        )
    return sizes


def _closest(state: State, prefix: str, sizes: Sequence[int], scores: bool) -> dict[str, Any]:
    """Return the keywords of the network that the names and shapes fit best."""

    def misfit(keywords: dict[str, Any]) -> int:
        reference = _empty_state(keywords, prefix, sizes, scores)
        return sum(len(names) for names in _faults(state, reference).values())

    return min((_keywords(name, state, prefix) for name in NETWORKS), key=misfit)


def _empty_state(
    keywords: dict[str, Any], prefix: str, sizes: Sequence[int], scores: bool
) -> State:
    """Return the state dict of a network by published names; its tensors hold no memory."""
    with torch.device("meta"):
        net = SwitchableNet(build_classifier(**keywords), sizes, scores=scores)
    own = net.state_dict()
    return {name: own[key] for key, name in published_names(net, prefix).items()}


def _keywords(name: str, state: State, prefix: str) -> dict[str, Any]:
    """Return the keywords of a network; classes and width come from the shapes where they can."""
    classes = _rows(state, f"{prefix}{NETWORKS[name]}.module.weight")
    keywords: dict[str, Any] = {
        "name": name,
        "classes": classes if 2 <= classes <= _MOST_CLASSES else 1000,
    }
    if name == "mobilenetv2":
        # Channels of the last block: 320 times the width, in steps of 8.
        channels = _rows(state, f"{prefix}features.17.conv.6.module.weight")
        keywords["width"] = channels / 320 if 0 < channels <= 4 * 320 else 1.0
    return keywords


def _rows(state: State, name: str) -> int:
    tensor = state.get(name)
    return len(tensor) if tensor is not None and tensor.ndim > 0 else 0


def _faults(state: State, reference: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """List the differences between a published state dict and the reference, for each kind."""
    reshaped = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in reference.items()
        if name in state and state[name].shape != tensor.shape
    ]
    return {
        "missing": [name for name in reference if name not in state],
        "not expected": [name for name in state if name not in reference],
        "of another shape": reshaped,
    }


def _fault_lines(state: State, reference: Mapping[str, Tensor]) -> list[str]:
    kinds = _faults(state, reference).items()
    return [f"{kind}: {listed(names)}" for kind, names in kinds if names]
