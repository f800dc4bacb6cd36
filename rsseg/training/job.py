"""The parts of a training run, and its progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from rsseg.images.crops import CropBatch
from rsseg.switchable.net import SwitchableNet
from rsseg.training.config import RunConfig
from rsseg.training.evaluation import Evaluation
from rsseg.training.metadata import RunMetadata
from rsseg.training.step import Loss


class Batches(Protocol):
    """Training batches: S uint8 views, largest first, or crops, and the target."""

    @property
    def steps(self) -> int:
        """Batches in an epoch."""

    @property
    def batch_size(self) -> int:
        """Images in a batch."""

    def epoch(
        self, epoch: int, first_step: int = 0
    ) -> Iterator[tuple[Sequence[Tensor] | CropBatch, Tensor]]:
        """Yield the batches of an epoch (from 0), beginning with step `first_step`."""


# Mixes the images of a batch: from S normalised views and the labels to mixed views and labels, or
# to shares of the classes instead of labels.
Mix = Callable[[Sequence[Tensor], Tensor], tuple[list[Tensor], Tensor]]


@dataclass(frozen=True)
class Job:
    """The parts of a run.

    Args:
        config: Settings of the run; `with_precision` has settled a precision that is "auto".
        net: The network, on its device.
        batches: The training batches.
        loss: From the outputs of a step to the losses.
        evaluate: Evaluates a network such as `net` as it is.
        metadata: What `load_checkpoint` needs and returns.
        report: Writes what the task adds to results.json into the run folder.
        metric: The metric whose mean over the resolutions decides what is best.
        mix: Mixes the images of a batch, or None.
        faults: The files that could not be read so far, and why, by split; they fill while the
            data are read.
    """

    config: RunConfig
    net: SwitchableNet
    batches: Batches
    loss: Loss
    evaluate: Callable[[SwitchableNet], Evaluation[Any]]
    metadata: RunMetadata
    report: Callable[[Evaluation[Any], Path], None]
    metric: str
    mix: Mix | None = None
    faults: dict[str, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.config.precision == "auto":
            raise ValueError(
                "precision 'auto' names no number format yet; give Job the settings that "
                "rsseg.training.beginning.with_precision(config, net) returns"
            )


@dataclass
class Progress:
    """The progress of a run.

    Attributes:
        epoch: Complete epochs.
        step: Complete steps of the next epoch.
        evaluated: The last epoch that was evaluated, -1 for none; 0 is the start of a run.
        best: Best mean metric so far.
        seconds: Time spent in steps.
        skipped: Steps that were left out, as their loss or gradient was not finite.
    """

    epoch: int = 0
    step: int = 0
    evaluated: int = -1
    best: float = -1.0
    seconds: float = 0.0
    skipped: int = 0
