"""What a training run is given, and where it stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from rsseg.config import RunConfig
from rsseg.engine import Loss
from rsseg.evaluation import Evaluation
from rsseg.net import SwitchableNet


class Batches(Protocol):
    """Training batches: S uint8 views, largest first, and the target."""

    @property
    def steps(self) -> int:
        """Batches in an epoch."""

    @property
    def batch_size(self) -> int:
        """Images in a batch."""

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple[Sequence[Tensor], Tensor]]:
        """Give the batches of an epoch (from 0), beginning with step `first_step`."""


@dataclass(frozen=True)
class Job:
    """All that a run needs.

    Args:
        config: Settings of the run.
        net: The network, on its device.
        batches: The training batches.
        loss: From the S logits and the target to the losses.
        evaluate: Evaluates the network as it is.
        metadata: What `load_checkpoint` needs and returns; plain values. Its "data" tells one
            data set from another.
        report: Writes what the task adds to results.json into the run folder.
        metric: The metric whose mean over the resolutions decides what is best.
    """

    config: RunConfig
    net: SwitchableNet
    batches: Batches
    loss: Loss
    evaluate: Callable[[], Evaluation[Any]]
    metadata: Mapping[str, Any]
    report: Callable[[Evaluation[Any], Path], None]
    metric: str


@dataclass
class Progress:
    """Where a run is.

    Attributes:
        epoch: Epochs that are done.
        step: Steps of the next epoch that are done.
        evaluated: The last epoch that was evaluated, 0 for none.
        best: Best mean metric so far.
        seconds: Time spent in steps.
    """

    epoch: int = 0
    step: int = 0
    evaluated: int = 0
    best: float = -1.0
    seconds: float = 0.0
