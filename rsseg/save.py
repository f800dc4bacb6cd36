"""From a network that a loop of one's own trained to a checkpoint that every command takes.

A checkpoint says how its network is built: by name, or by a function of the user's. Whether that
builds this very network is found out when it is saved, not when it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, Final, cast

import torch
from torch import Tensor, nn

from rsseg.common.builder import BuilderError, builder_of
from rsseg.common.checkpoint import CheckpointError, differences, state_digest, write_checkpoint
from rsseg.common.config import plain
from rsseg.common.files import check_output
from rsseg.common.messages import counted
from rsseg.heads import HEADS, head_of
from rsseg.images.preprocessing import Preprocessing
from rsseg.load import build_net
from rsseg.switchable.complexity import batchnorm_parameters, count_parameters
from rsseg.switchable.convert import held_sets, sharing_copy, trained_sets
from rsseg.switchable.net import SwitchableNet
from rsseg.training.metadata import RunMetadata, macs_by_set

_CLOSE: Final = 1e-3  # share of the largest logit: what another order of sums may change


def save_checkpoint(
    net: SwitchableNet,
    path: str | Path,
    *,
    model: object | None = None,
    builder: str | Callable[..., nn.Module] | None = None,
    arguments: Mapping[str, Any] | None = None,
    classes: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
    task: str | None = None,
    name: str | None = None,
    overwrite: bool = False,
) -> RunMetadata:
    """Write a checkpoint that `rsseg predict`, `export`, `serve`, `profile` and `pack` take.

    The network is built anew as the checkpoint will say, and has to have the same tensors and the
    same logits. Of several processes the first one alone should call this.

    Args:
        net: The network; its mode and its device stay as they are.
        path: File to write, such as `last.pt`.
        model: How `build_classifier` or `build_segmenter` builds the network inside: a
            `ClassifierConfig`, a `ModelConfig`, or their keywords as a mapping.
        builder: For any other network: a function or a class at the top of a module, or its place
            as "module:function". The file holds the place, and a reader runs it only with
            `load_checkpoint(path, allow_builder=True)` or `--allow-builder`.
        arguments: Keyword arguments of the builder, as JSON holds them.
        classes: Names of the K classes in the order of the logits; default: "class 0" and so on.
        preprocessing: How the network was shown its images; default: `Preprocessing()`.
        task: "classification" or "segmentation"; default: from the shape of the logits.
        name: Its name in pictures and tables; default: the file's.
        overwrite: Write over a file that exists.

    Returns:
        What the checkpoint says about the network.

    Raises:
        ValueError: If the file exists, or something given does not fit the network.
        CheckpointError: If `model` or `builder` builds another network, or the file cannot be
            written.
        TypeError: If `net` is not a SwitchableNet.
    """
    path = Path(path)
    check_output(path, overwrite=overwrite, option="overwrite=True")
    metadata = describe_net(
        net,
        model=model,
        builder=builder,
        arguments=arguments,
        classes=classes,
        preprocessing=preprocessing,
        task=task,
        name=name,
    )
    write_checkpoint(path, {"metadata": metadata.plain(), "net": net.state_dict()})
    return metadata


def describe_net(
    net: SwitchableNet,
    *,
    model: object | None = None,
    builder: str | Callable[..., nn.Module] | None = None,
    arguments: Mapping[str, Any] | None = None,
    classes: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
    task: str | None = None,
    name: str | None = None,
) -> RunMetadata:
    """Return what a file says about a network, checked against it; see `save_checkpoint`."""
    _check_net(net)
    _check_source(model, builder, arguments)
    logits = _logits(net)
    preprocessing = preprocessing or Preprocessing()
    metadata = RunMetadata(
        task=_task(logits, task),
        model={} if model is None else _settings(model),
        builder=None if builder is None else builder_of(builder, arguments),
        output=net.output,
        resolutions=net.resolutions,
        batchnorm=net.batchnorm,
        norms=net.norms,
        positions=net.positions,
        preprocessing=preprocessing,
        classes=_class_names(classes, logits.shape[1]),
        name=name,
        parameters=count_parameters(net),
        batchnorm_parameters=batchnorm_parameters(net),
        macs=macs_by_set(net, preprocessing, net.resolutions),
        weights=state_digest(net.state_dict()),
    )
    _check_built(net, metadata, logits)
    return metadata


def _check_net(net: object) -> None:
    if not isinstance(net, SwitchableNet):
        raise TypeError(
            f"expected a SwitchableNet, got {type(net).__name__}; of a network that is wrapped "
            "for several processes, or compiled, give the SwitchableNet inside"
        )
    if net.batchnorm == "private" and held_sets(net) != trained_sets(net):
        raise ValueError(
            f"the network holds added BatchNorm sets ({', '.join(held_sets(net))}), which a file "
            "does not tell from trained ones; remove them with remove_set"
        )


def _check_source(model: object, builder: object, arguments: object) -> None:
    if (model is None) == (builder is None):
        raise ValueError(
            "give model= (a configuration or keywords of a network that is known by name) or "
            "builder= (a function of yours, 'module:function'), one of the two"
        )
    if arguments is not None and builder is None:
        raise ValueError("arguments= are those of a builder=; settings of a model= stand in it")


def _settings(model: object) -> dict[str, Any]:
    if is_dataclass(model):
        return plain(model)
    if isinstance(model, Mapping):
        return {str(key): value for key, value in model.items()}
    raise ValueError(
        f"model must be a ClassifierConfig, a ModelConfig or a mapping of its keywords, got "
        f"{type(model).__name__}; a network that is no such one has a builder="
    )


@torch.no_grad()
def _logits(net: SwitchableNet) -> Tensor:
    """Compute the logits of drawn images at the smallest resolution; the network stays as it is."""
    first = next(net.parameters())
    generator = torch.Generator().manual_seed(0)
    side = net.resolutions[-1]
    images = torch.rand(2, 3, side, side, generator=generator).to(first.device, first.dtype)
    copied = cast(SwitchableNet, sharing_copy(net)).eval()
    logits = copied.predict(images, net.resolutions.names[-1])
    if not logits.isfinite().all():
        raise ValueError("the network's logits are not finite; it has diverged, save it before")
    return logits


def _task(logits: Tensor, task: str | None) -> str:
    dense = {4: True, 2: False}.get(logits.ndim)
    if dense is None:
        raise ValueError(
            f"the network's logits have the shape {tuple(logits.shape)}; expected (B, K) of a "
            "classifier or (B, K, h, w) of a segmenter"
        )
    fitting = next(head.name for head in HEADS.values() if head.dense == dense)
    if task is not None and head_of(task).dense != dense:
        raise ValueError(
            f"task is {task!r}, but the network's logits have the shape {tuple(logits.shape)}, "
            f"those of {fitting}; leave task out"
        )
    return task or fitting


def _class_names(classes: Sequence[str] | None, count: int) -> tuple[str, ...]:
    if classes is None:
        return tuple(f"class {index}" for index in range(count))
    if isinstance(classes, str) or len(classes) != count:
        raise ValueError(
            f"got {counted(len(classes), 'name')} of classes, the network has logits of "
            f"{count}; give a name for each"
        )
    return tuple(map(str, classes))


def _check_built(net: SwitchableNet, metadata: RunMetadata, logits: Tensor) -> None:
    """Raise a CheckpointError unless the network that the file describes is this one."""
    source = f"builder {metadata.builder}" if metadata.builder else f"model {metadata.model}"
    with torch.random.fork_rng(devices=[]):  # The loop goes on as if nothing had been drawn.
        try:
            built = build_net(metadata, scores=net.scores is not None, allow_builder=True)
        except BuilderError as error:
            raise CheckpointError(str(error)) from error
        except Exception as error:  # A builder may raise anything.
            raise CheckpointError(
                f"{source} cannot be built as a {metadata.task}: {error}"
            ) from error
    state = net.state_dict()
    faults = differences(built, state)
    if faults:
        raise CheckpointError("\n  ".join([f"{source} builds another network:", *faults]))
    built.load_state_dict(state)
    others = _logits(built.to(logits.device))
    if others.shape != logits.shape or (others - logits).abs().max() > _CLOSE * logits.abs().max():
        raise CheckpointError(
            f"{source} builds a network with the same tensors but other logits; an option that "
            "holds no tensor differs, such as a stride or an activation"
        )
