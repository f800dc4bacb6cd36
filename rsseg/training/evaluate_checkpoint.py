"""Evaluating a checkpoint again: elsewhere, at other resolutions, with sets measured anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rsseg.common.config import overridden, plain
from rsseg.common.messages import counted, listed
from rsseg.switchable.net import SwitchableNet
from rsseg.switchable.unseen import interpolate_set, recalibrate
from rsseg.training import task as tasks
from rsseg.training.config import RunConfig
from rsseg.training.constant_output import constant_outputs
from rsseg.training.evaluation import Evaluation
from rsseg.training.metadata import RunMetadata, macs_by_set
from rsseg.training.task import C, EvalData, Task

# What may differ when a checkpoint is evaluated again; the rest is part of what was trained.
EVALUATION_KEYS = (
    "data.",
    "preprocessing.fit",
    "preprocessing.crop_ratio",
    "device",
    "workers",
    "batch_size",
)


def evaluation_config(kind: type[C], metadata: RunMetadata, overrides: Sequence[str]) -> C:
    """Return the settings for evaluating a checkpoint again.

    Raises:
        ValueError: If an override would change what was trained.
    """
    for assignment in overrides:
        if not assignment.startswith(EVALUATION_KEYS):
            raise ValueError(
                f"--set {assignment} changes nothing in a trained network; with --evaluate only "
                f"{', '.join(EVALUATION_KEYS)} can be set"
            )
    return overridden(kind, metadata.config, overrides)


def evaluate_checkpoint(
    task: Task[C],
    config: C,
    net: SwitchableNet,
    data: EvalData,
    *,
    metadata: RunMetadata,
    resolutions: Sequence[int],
) -> tuple[dict[str, Any], Evaluation[Any]]:
    """Evaluate a checkpoint; return results in the form of a run's results.json, and the details.

    Raises:
        ValueError: If the classes are not those it was trained for, or a size does not fit.
    """
    # Imported classes have no names; their number is checked by the reader.
    if not metadata.imported:
        check_classes(data.classes, metadata.classes)
    task.check_sizes(net.network, config, resolutions)
    evaluation = tasks.evaluate_net(task, config, net, data, resolutions)
    settings = plain(config)
    results = {
        **metadata.plain(),
        "config": settings,
        "preprocessing": settings["preprocessing"],
        "data": data.fingerprint,
        "unseen": net.unseen,
        "macs": macs_by_set(net, config.preprocessing, resolutions),
        "metrics": evaluation.results(),
        "alpha": evaluation.alpha,
        "constant_output": constant_outputs(evaluation, data.classes),
        "unreadable": {"test": dict(data.faults)},
    }
    return results, evaluation


def check_classes(classes: Sequence[str], trained: Sequence[str]) -> None:
    """Raise a ValueError unless a data set has the classes that a network was trained for."""
    if list(classes) == list(trained):
        return
    if len(classes) != len(trained):
        raise ValueError(
            f"the data set has {counted(len(classes), 'class')} ({listed(classes)}); the "
            "checkpoint was "
            f"trained for {len(trained)} ({listed(trained)})"
        )
    place = next(i for i, pair in enumerate(zip(classes, trained, strict=True)) if len({*pair}) > 1)
    raise ValueError(
        f"class {place} of the data set is {classes[place]!r}, of the checkpoint "
        f"{trained[place]!r}; a network needs the classes that it was trained for, in their order"
    )


def recalibrated(
    net: SwitchableNet, config: RunConfig, data: EvalData, resolutions: Sequence[int], images: int
) -> SwitchableNet:
    """Add sets for the resolutions that were not trained, measured on training images.

    The images go through the preprocessing of the test, as in a prediction. Trained
    sets stay as they are. A network with one shared BatchNorm gets private copies first.
    """
    if net.batchnorm == "shared":
        scores = net.scores
        net = SwitchableNet(net.network, net.resolutions, scores=False)
        net.scores = scores
    device = next(net.parameters()).device
    for resolution in sorted(set(resolutions) - set(net.resolutions)):
        interpolate_set(net.network, resolution)
        batches = (
            config.preprocessing.normalise(views.to(device))
            for views in data.calibration(resolution, images)
        )
        recalibrate(net.network, batches, resolution)
    return net
