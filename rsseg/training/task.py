"""The common part of the tasks: the network, the job and the results of a run, from its settings.

A `Task` holds what makes a kind of training special; the functions do the rest.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from rsseg.common.config import plain
from rsseg.common.distributed import warn_first
from rsseg.switchable.complexity import batchnorm_parameters, count_parameters
from rsseg.switchable.net import SwitchableNet
from rsseg.training.beginning import with_precision
from rsseg.training.config import RunConfig
from rsseg.training.evaluation import Evaluation, Evaluator, evaluate
from rsseg.training.freezing import Freezing
from rsseg.training.head import Head
from rsseg.training.job import Batches, Job, Mix
from rsseg.training.metadata import RunMetadata, macs_by_set
from rsseg.training.step import Loss, Teach, fixed_teacher
from rsseg.weights.loading import Loaded, load_start
from rsseg.weights.record import Record
from rsseg.weights.source import Weights, open_weights, unpacked

_UNNAMED: Final = re.compile(r"class \d+")
_LONGEST: Final = 200  # characters of a reading in a message


class DataFiles(Protocol):
    """Images that are read from files."""

    @property
    def summary(self) -> str:
        """One line about the images: how they are kept, counts and shares; empty for none."""

    @property
    def faults(self) -> dict[str, str]:
        """The files that could not be read so far, and why."""


class TrainData(Batches, DataFiles, Protocol):
    """The training batches of a run."""

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Plain values that distinguish these training images from others."""


class EvalData(DataFiles, Protocol):
    """The test images of a run."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Plain values that distinguish this data set from another."""

    @property
    def names(self) -> Sequence[str]:
        """Names of the images, in the order in which they are evaluated."""

    def batches(
        self, resolutions: Sequence[int]
    ) -> Iterable[tuple[Sequence[Tensor], Tensor | Sequence[Tensor]]]:
        """Return batches of views at the given resolutions, and their targets."""

    def calibration(self, resolution: int, images: int) -> Iterable[Tensor]:
        """Return batches of `images` training images as uint8 views of test, (B, 3, h, w)."""


C = TypeVar("C", bound=RunConfig)


class Task(ABC, Generic[C]):
    """What makes a task special in training; the functions below do the rest.

    Attributes:
        head: The output of its networks.
        config: Kind of its settings.
    """

    head: ClassVar[Head]
    config: type[C]

    @abstractmethod
    def network(self, config: C, *, pretrained: bool) -> nn.Module:
        """Build the network of a run, `pretrained` with the weights that its settings name."""

    def record(self, _config: C, *, offline: bool) -> Record | None:
        """Return the normalisation that the weights of a run were trained with, if known.

        Args:
            offline: Download nothing.

        Raises:
            ValueError: If a file of weights cannot be read.
        """
        return None

    @abstractmethod
    def check_sizes(self, network: nn.Module, config: C, resolutions: Sequence[int]) -> None:
        """Check that a network can take views of some resolutions.

        Raises:
            ValueError: If it cannot.
        """

    @abstractmethod
    def loss(
        self, config: C, data: EvalData, device: torch.device, original: Teach | None = None
    ) -> Loss:
        """Return the loss of a run as a function of the outputs of a step.

        Args:
            config: Settings of the run.
            data: The test images, whose classes a teacher has to know.
            device: Where the run computes.
            original: The network that is adapted, as it was at the start, if it teaches, or its
                answers take the place of labels.
        """

    @abstractmethod
    def evaluator(self, data: EvalData) -> Evaluator:
        """Return an empty evaluator for the classes of some test images."""

    @abstractmethod
    def report(self, evaluation: Evaluation[Any], data: EvalData, folder: Path) -> None:
        """Write what the task adds to results.json into a folder."""

    def mix(self, _config: C) -> Mix | None:
        """Return what mixes the images of a batch; None where nothing does."""
        return None


def build_net(
    task: Task[C],
    config: C,
    device: torch.device,
    *,
    pretrained: bool = True,
    classes: Sequence[str] = (),
    labels: Mapping[str, Any] | None = None,
    announced: bool = True,
) -> SwitchableNet:
    """Build the network of a run; it holds scores only when an ensemble teaches.

    Args:
        task: The task.
        config: Settings of the run.
        device: Where the network is put.
        pretrained: Load the weights that the settings name, if any; a run that is continued has
            its weights in its checkpoint. `init` takes the place of pretrained weights.
        classes: Names of the classes, if known: a head for others starts anew.
        labels: How the label maps of the data are read, as plain values, if known.
        announced: Say what became of the weights of `init`.

    Raises:
        ValueError: If the network cannot be built, or cannot take views of these sizes.
    """
    torch.manual_seed(config.seed)
    network = task.network(config, pretrained=pretrained and config.init is None)
    task.check_sizes(network, config, config.resolutions)
    net = SwitchableNet(
        network,
        config.resolutions,
        scores=config.distillation != "none",
        batchnorm=config.batchnorm,
        norms=config.norms,
        positions=config.positions,
    )
    if pretrained and config.init is not None:
        weights = unpacked(open_weights(config.init), task.head.network)
        model = plain(config)["model"]
        report = load_init(net, weights, head=task.head, model=model, classes=classes)
        if report.heads:
            _check_answers(config, weights)
        if announced:
            report.announce()
            if not report.heads:
                _warn_of_reading(weights, classes, labels)
        if announced and config.adapt is not None:
            _warn_of_resolutions(weights, config.resolutions)
    Freezing(net, config.freeze)  # Names of parts are checked before a run begins.
    layout = torch.channels_last if config.channels_last else torch.contiguous_format
    return net.to(device).to(memory_format=layout)


def _check_answers(config: RunConfig, weights: Weights) -> None:
    """Raise ValueError if a run needs the answers of a network whose head starts anew."""
    adapt = config.adapt
    if adapt is None:
        return
    uses = {
        "labels: false": not adapt.labels,
        f"recalibrate: {adapt.recalibrate}": adapt.recalibrate > 0,
        f"teacher: {adapt.teacher:g}": adapt.teacher > 0,
    }
    used = [use for use, is_set in uses.items() if is_set]
    if used:
        raise ValueError(
            f"adapt {{{', '.join(used)}}} goes by the answers of init {weights.name}, which has no "
            "head for these classes (it starts anew): train it at one resolution first, adapt it "
            "then; or set model.classes and the names of the classes to those of init; or set "
            "adapt: {teacher: 0}"
        )


def load_init(
    net: SwitchableNet,
    weights: Weights,
    *,
    head: Head,
    model: Mapping[str, Any],
    classes: Sequence[str],
) -> Loaded:
    """Load the weights of `init` into the network of a run in place.

    Args:
        net: The network.
        weights: What `open_weights` has read, see also `unpacked`.
        head: Its output.
        model: The settings that it was built from, as plain values.
        classes: Names of the classes, if known: a head for others starts anew.

    Raises:
        ValueError: If they do not fit; of a checkpoint the message begins with the two networks.
    """
    try:
        return load_start(net, weights, key="init", new_head=other_classes(weights, classes))
    except ValueError as error:
        values = weights.checkpoint
        trained = values.get("task"), _model_text(values.get("model"))
        own = head.name, _model_text(model)
        if not values or trained == own:
            raise
        raise ValueError(
            f"init {weights.name} is a checkpoint of {' with '.join(map(str, trained))}, the "
            f"configuration is of {' with '.join(own)}; choose the model of the checkpoint, or "
            f"another checkpoint; {error}"
        ) from error


def _model_text(model: object) -> str:
    """Return the names of a network in the settings of its model."""
    values = model if isinstance(model, Mapping) else {}
    names = (str(values[key]) for key in ("name", "architecture", "encoder_name") if key in values)
    return " on ".join(names) or "a network of a builder"


def other_classes(weights: Weights, classes: Sequence[str]) -> str:
    """Return that a checkpoint's classes are others, as many; an empty text if they are not.

    A class without a name, such as "class 7", may be the one that the other side names.
    """
    if len(weights.classes) != len(classes):
        return ""
    for own, other in zip(classes, weights.classes, strict=True):
        if own != other and not (_UNNAMED.fullmatch(own) or _UNNAMED.fullmatch(other)):
            return (
                f"the head starts anew: the checkpoint has a class {other!r} where the data have "
                f"{own!r}"
            )
    return ""


def other_reading(
    weights: Weights, classes: Sequence[str], labels: Mapping[str, Any] | None
) -> str:
    """Return that a checkpoint's label maps were read otherwise; an empty text if not known.

    Names that are known on both sides say which class is which, whatever values stand for them.

    Args:
        weights: Those of the start, whose head is taken over.
        classes: Names of the classes of the data.
        labels: How their label maps are read, as plain values.
    """
    data = weights.checkpoint.get("data")
    trained = data.get("labels") if isinstance(data, Mapping) else None
    names = [*classes, *weights.classes]
    if not labels or not isinstance(trained, Mapping):
        return ""
    if weights.classes and not any(_UNNAMED.fullmatch(name) for name in names):
        return ""
    if _way(trained) == _way(labels):  # Void pixels teach no class.
        return ""
    return (
        f"init {weights.name}: its label maps were read as {_text_of(trained)}, those of the data "
        f"are read as {_text_of(labels)}, and not all classes have names: a class of the head may "
        "be another one than that of the data; compare the order of the classes, or name them all "
        "in both"
    )


def _way(labels: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a reading sets, without void."""
    return {
        key: v for key, v in labels.items() if key != "void" and v is not None and v is not False
    }


def _text_of(labels: Mapping[str, Any]) -> str:
    values = {**_way(labels), **({"void": labels["void"]} if labels.get("void") else {})}
    text = ", ".join(f"{key}: {value}" for key, value in values.items())
    return f"{{{text if len(text) <= _LONGEST else text[:_LONGEST] + ' ...'}}}"


def _warn_of_reading(
    weights: Weights, classes: Sequence[str], labels: Mapping[str, Any] | None
) -> None:
    if text := other_reading(weights, classes, labels):
        warn_first(text)


def _warn_of_resolutions(weights: Weights, resolutions: Sequence[int]) -> None:
    """Warn if the network that is adapted was trained at none of the resolutions."""
    trained = [int(side) for side in weights.checkpoint.get("resolutions", ())]
    if trained and not set(trained) & set(resolutions):
        warn_first(
            f"init {weights.name} was trained at {', '.join(map(str, trained))} pixels, which is "
            f"not among the resolutions of this run ({', '.join(map(str, resolutions))}): its own "
            f"accuracy is lost from view, and it teaches from {resolutions[0]} pixels; add "
            f"{trained[0]} to resolutions unless that is meant"
        )


def original_teacher(
    task: Task[C], config: C, device: torch.device, classes: Sequence[str]
) -> Teach | None:
    """Return the network of `init` as the teacher of a run that adapts it; None without one.

    It is built from `init` again, so that a run which is continued has the same teacher.

    Raises:
        ValueError: If the weights are gone, or do not fit.
    """
    if config.adapt is None or not (config.adapt.teacher or not config.adapt.labels):
        return None
    net = build_net(task, config, device, classes=classes, announced=False)
    return fixed_teacher(net.specialize(config.resolutions[0]), config.precision)


def build_job(
    task: Task[C], config: C, net: SwitchableNet, batches: TrainData, data: EvalData
) -> Job:
    """Build the job of a run from its parts; its settings name the precision that "auto" takes."""
    config = with_precision(config, net)

    def evaluate_it(network: SwitchableNet) -> Evaluation[Any]:
        return evaluate_net(task, config, network, data, config.resolutions)

    metadata = describe(task, config, net, data)
    device = next(net.parameters()).device
    return Job(
        config=config,
        net=net,
        batches=batches,
        loss=task.loss(config, data, device, original_teacher(task, config, device, data.classes)),
        evaluate=evaluate_it,
        metadata=replace(metadata, data={**metadata.data, **batches.fingerprint}),
        report=lambda evaluation, folder: task.report(evaluation, data, folder),
        metric=task.head.metric,
        mix=task.mix(config),
        faults={"train": batches.faults, "test": data.faults},
    )


def describe(task: Task[C], config: C, net: SwitchableNet, data: EvalData) -> RunMetadata:
    """Return the metadata of a run's checkpoints and results."""
    settings = plain(config)
    return RunMetadata(
        task=task.head.name,
        model=settings["model"],
        resolutions=config.resolutions,
        batchnorm=config.batchnorm,
        norms=net.norms,
        positions=net.positions,
        preprocessing=config.preprocessing,
        classes=tuple(data.classes),
        data=data.fingerprint,
        parameters=count_parameters(net),
        batchnorm_parameters=batchnorm_parameters(net),
        macs=macs_by_set(net, config.preprocessing, net.resolutions),
        config=settings,
    )


def evaluate_net(
    task: Task[C], config: C, net: SwitchableNet, data: EvalData, resolutions: Sequence[int]
) -> Evaluation[Any]:
    """Evaluate a network on test batches at the given resolutions."""
    return evaluate(
        net,
        data.batches(resolutions),
        partial(task.evaluator, data),
        resolutions=resolutions,
        preprocessing=config.preprocessing,
        device=next(net.parameters()).device,
    )
