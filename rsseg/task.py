"""What is common to the tasks: the network, the job and the results of a run, from its settings.

A `Task` says what makes segmentation or classification special; the functions do the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from rsseg.complexity import batchnorm_parameters, count_macs, count_parameters
from rsseg.config import RunConfig, overridden, plain
from rsseg.engine import Loss
from rsseg.evaluation import Evaluation, Evaluator, evaluate
from rsseg.job import Batches, Job, Mix
from rsseg.listing import listed
from rsseg.net import SwitchableNet
from rsseg.resolutions import set_names
from rsseg.unseen import interpolate_set, recalibrate


class Read(Protocol):
    """What is read from files."""

    @property
    def faults(self) -> dict[str, str]:
        """The files that could not be read so far, and why."""


class TrainingBatches(Batches, Read, Protocol):
    """The training batches of a run."""

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Plain values that tell these training images from others."""


class Tests(Read, Protocol):
    """The test images of a run."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Plain values that tell this data set from another."""

    @property
    def names(self) -> Sequence[str]:
        """Names of the images, in the order in which they are evaluated."""

    def batches(
        self, resolutions: Sequence[int]
    ) -> Iterable[tuple[Sequence[Tensor], Tensor | Sequence[Tensor]]]:
        """Give views at the given resolutions, and what is to be answered."""

    def calibration(self, resolution: int, images: int) -> Iterable[Tensor]:
        """Give batches of so many training images as uint8 views of test, (B, 3, h, w)."""


C = TypeVar("C", bound=RunConfig)


@dataclass(frozen=True)
class Task(Generic[C]):
    """What makes a task special.

    Args:
        name: Its name in checkpoints, a key of `rsseg.load.BUILDERS`.
        config: Kind of its settings.
        network: Builds the network of a run, with its pretrained weights if there are any and
            the second argument is true.
        check: Raises a ValueError if a network cannot take views of some resolutions.
        loss: Builds the loss of a run, which may ask for the classes' names, on a device.
        evaluator: Makes an empty evaluator.
        report: Writes into a folder what the task adds to results.json.
        metric: The metric whose mean over the resolutions decides what is best.
        shown: Metrics of the table that a run ends with.
        mix: Builds what mixes the images of a batch, or gives None.
    """

    name: str
    config: type[C]
    network: Callable[[C, bool], nn.Module]
    check: Callable[[nn.Module, C, Sequence[int]], None]
    loss: Callable[[C, Tests, torch.device], Loss]
    evaluator: Callable[[Tests], Evaluator]
    report: Callable[[Evaluation[Any], Tests, Path], None]
    metric: str
    shown: tuple[str, ...]
    mix: Callable[[C], Mix | None]


# What may differ when a checkpoint is evaluated again; the rest is part of what was trained.
EVALUATION_KEYS = (
    "data.",
    "preprocessing.fit",
    "preprocessing.crop_ratio",
    "device",
    "workers",
    "batch_size",
)


def build_net(
    task: Task[C], config: C, device: torch.device, *, pretrained: bool = True
) -> SwitchableNet:
    """Build the network of a run; scores are held only when an ensemble teaches.

    Args:
        task: The task.
        config: Settings of the run.
        device: Where the network is put.
        pretrained: Load pretrained weights, if the settings name some; a run that is continued
            has its weights in its checkpoint.

    Raises:
        ValueError: If the network cannot be built, or cannot take views of these sizes.
    """
    torch.manual_seed(config.seed)
    network = task.network(config, pretrained)
    task.check(network, config, config.resolutions)
    net = SwitchableNet(
        network,
        config.resolutions,
        scores=config.distillation != "none",
        batchnorm=config.batchnorm,
    )
    layout = torch.channels_last if config.channels_last else torch.contiguous_format
    return net.to(device).to(memory_format=layout)


def build_job(
    task: Task[C], config: C, net: SwitchableNet, batches: TrainingBatches, tests: Tests
) -> Job:
    """Put together all that a run needs."""

    def evaluate_it(used: SwitchableNet) -> Evaluation[Any]:
        return evaluate_net(task, config, used, tests, config.resolutions)

    metadata = describe(task, config, net, tests)
    return Job(
        config=config,
        net=net,
        batches=batches,
        loss=task.loss(config, tests, next(net.parameters()).device),
        evaluate=evaluate_it,
        metadata={**metadata, "data": {**metadata["data"], **batches.fingerprint}},
        report=lambda evaluation, folder: task.report(evaluation, tests, folder),
        metric=task.metric,
        mix=task.mix(config),
        faults={"train": batches.faults, "test": tests.faults},
    )


def describe(task: Task[C], config: C, net: SwitchableNet, tests: Tests) -> dict[str, Any]:
    """Return the metadata of a run's checkpoints and results, as plain values."""
    settings = plain(config)
    return {
        "task": task.name,
        "model": settings["model"],
        "resolutions": settings["resolutions"],
        "batchnorm": config.batchnorm,
        "preprocessing": settings["preprocessing"],
        "classes": list(tests.classes),
        "data": tests.fingerprint,
        "parameters": count_parameters(net),
        "batchnorm_parameters": batchnorm_parameters(net),
        "macs": macs(config, net, net.resolutions),
        "versions": {"torch": str(torch.__version__)},
        "config": settings,
    }


def evaluate_net(
    task: Task[C], config: C, net: SwitchableNet, tests: Tests, resolutions: Sequence[int]
) -> Evaluation[Any]:
    """Evaluate a network on test batches at the given resolutions."""
    return evaluate(
        net,
        tests.batches(resolutions),
        partial(task.evaluator, tests),
        resolutions=resolutions,
        preprocessing=config.preprocessing,
        device=next(net.parameters()).device,
    )


def check_classes(given: Sequence[str], trained: Sequence[str]) -> None:
    """Raise a ValueError unless a data set has the classes that a network was trained for."""
    if list(given) == list(trained):
        return
    if len(given) != len(trained):
        differing = f"{len(given)} classes ({listed(given)})"
        raise ValueError(
            f"the data set has {differing}; the checkpoint was trained for {len(trained)} "
            f"({listed(trained)})"
        )
    place = next(i for i, pair in enumerate(zip(given, trained, strict=True)) if len({*pair}) > 1)
    raise ValueError(
        f"class {place} of the data set is {given[place]!r}, of the checkpoint {trained[place]!r}; "
        "a network needs the classes that it was trained for, in their order"
    )


def macs(config: RunConfig, net: SwitchableNet, resolutions: Sequence[int]) -> dict[str, int]:
    """Count the multiply-adds at each resolution; with the fit "aspect", of an image of 4:3."""
    shapes = [config.preprocessing.size(r, 480, 640) for r in resolutions]
    return {
        name: count_macs(net, shape)
        for name, shape in zip(set_names(resolutions), shapes, strict=True)
    }


def evaluation_config(kind: type[C], metadata: Mapping[str, Any], overrides: Sequence[str]) -> C:
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
    return overridden(kind, metadata["config"], overrides)


def evaluate_checkpoint(
    task: Task[C],
    config: C,
    net: SwitchableNet,
    tests: Tests,
    *,
    metadata: Mapping[str, Any],
    resolutions: Sequence[int],
) -> tuple[dict[str, Any], Evaluation[Any]]:
    """Evaluate a checkpoint; return results in the form of a run's results.json, and the details.

    Raises:
        ValueError: If the classes are not those it was trained for, or a size does not fit.
    """
    # The names of imported classes are not known; their number is checked by the reader.
    if "imported" not in metadata:
        check_classes(tests.classes, metadata["classes"])
    task.check(net.network, config, resolutions)
    evaluation = evaluate_net(task, config, net, tests, resolutions)
    settings = plain(config)
    results = {
        **metadata,
        "config": settings,
        "preprocessing": settings["preprocessing"],
        "data": tests.fingerprint,
        "unseen": net.unseen,
        "macs": macs(config, net, resolutions),
        "metrics": evaluation.results(),
        "alpha": evaluation.alpha,
        "unreadable": {"test": dict(tests.faults)},
    }
    return results, evaluation


def recalibrated(
    net: SwitchableNet, config: RunConfig, tests: Tests, resolutions: Sequence[int], images: int
) -> SwitchableNet:
    """Give a network sets for the resolutions that were not trained, measured on training images.

    The images go through the preprocessing of the test, as those will that are predicted. Trained
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
            for views in tests.calibration(resolution, images)
        )
        recalibrate(net.network, batches, resolution)
    return net
