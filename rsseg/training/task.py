"""What is common to the tasks: the network, the job and the results of a run, from its settings.

A `Task` says what makes segmentation or classification special; the functions do the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from rsseg.common.complexity import batchnorm_parameters, count_macs, count_parameters
from rsseg.common.config import plain
from rsseg.images.preprocessing import PHOTO_SIZE
from rsseg.switchable.net import SwitchableNet
from rsseg.switchable.resolutions import set_names
from rsseg.training.config import RunConfig
from rsseg.training.evaluation import Evaluation, Evaluator, evaluate
from rsseg.training.job import Batches, Job, Mix
from rsseg.training.step import Loss


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


def macs(config: RunConfig, net: SwitchableNet, resolutions: Sequence[int]) -> dict[str, int]:
    """Count the multiply-adds at each resolution; with the fit "aspect", of an image of 4:3."""
    shapes = [config.preprocessing.size(r, *PHOTO_SIZE) for r in resolutions]
    return {
        name: count_macs(net, shape)
        for name, shape in zip(set_names(resolutions), shapes, strict=True)
    }
