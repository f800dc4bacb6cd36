"""The state of a training between two steps, and the step from one to the next.

Everything that a checkpoint has to hold is here: weights, optimiser, loss scale, average, random
numbers, and where the run is. Epochs, evaluations and files are in `training`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from rsseg.acceleration import compile_network
from rsseg.checkpoint import load_weights
from rsseg.cuts import CutBatch
from rsseg.ema import WeightAverage
from rsseg.engine import StepSettings, make_scaler, set_training_mode, train_step
from rsseg.job import Job, Progress
from rsseg.mred import MREDLosses
from rsseg.net import SwitchableNet
from rsseg.optim import build_optimizer, learning_rates, set_learning_rates


class Stepper:
    """A job in training.

    Args:
        job: What is trained.

    Attributes:
        progress: Where the run is; whoever calls `step` moves it on.
        optimizer: Moves the parameters.
        scaler: Scales the loss of fp16.
        average: The average of the weights, or None.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.progress = Progress()
        config = job.config
        set_training_mode(job.net, freeze_batchnorm=config.freeze_batchnorm)
        self.optimizer = build_optimizer(job.net, config.optim)
        self.scaler = make_scaler(config.precision, self.device)
        self.settings = StepSettings(
            precision=config.precision,
            two_pass=config.memory == "two_pass",
            clip_norm=config.optim.clip_norm,
        )
        job.net.checkpointing = config.memory == "checkpoint"
        compile_network(job.net, config.compile)
        decay = config.ema_decay
        self.average = None if decay is None else WeightAverage(job.net, decay)

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return next(self.job.net.parameters()).device

    @property
    def global_step(self) -> int:
        """Steps since the beginning of the run."""
        return self.progress.epoch * self.job.batches.steps + self.progress.step

    @property
    def used_net(self) -> SwitchableNet:
        """The network that is evaluated and used: the average, if there is one."""
        return self.average.net if self.average else self.job.net

    def state(self) -> dict[str, Any]:
        """Return all that a continued run needs; "net" is the network to use."""
        rng = {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}
        state = {
            "net": self.used_net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "progress": asdict(self.progress),
            "rng": rng,
            "unreadable": dict(self.job.faults.get("train", {})),
        }
        if self.average:
            state["trained_net"] = self.job.net.state_dict()
        return state

    def restore(self, state: Mapping[str, Any], source: str) -> None:
        """Continue from a state; `source` names it in messages.

        Raises:
            CheckpointError: If it is of another network.
        """
        load_weights(self.job.net, state.get("trained_net", state["net"]), source)
        if self.average:
            self.average.load(state["net"], source)
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.progress = Progress(**state["progress"])
        self.job.faults.get("train", {}).update(state["unreadable"])
        torch.set_rng_state(state["rng"]["cpu"])
        # The machine may have fewer devices than the one that wrote the checkpoint, or none.
        torch.cuda.set_rng_state_all(state["rng"]["cuda"][: torch.cuda.device_count()])

    def step(self, views: Sequence[Tensor] | CutBatch, target: Tensor) -> MREDLosses:
        """Train with one batch of uint8 views or crops, at the point where `progress` is.

        Raises:
            TrainingError: If the loss or its gradient is not finite; nothing has been changed but
                running statistics.
        """
        job, config = self.job, self.job.config
        epoch = self.progress.epoch + self.progress.step / job.batches.steps
        rates = learning_rates(config.optim, config.schedule, epoch, config.epochs)
        set_learning_rates(self.optimizer, rates)
        members = self._members()
        if isinstance(views, CutBatch):
            chosen: Sequence[Tensor] = views.views(self.device, config.resolutions, members)
        else:
            chosen = views if members is None else [views[member] for member in members]
        inputs = [self._input(view) for view in chosen]
        target = target.to(inputs[0].device, non_blocking=True)
        if job.mix:
            inputs, target = job.mix(inputs, target)
        losses = train_step(
            job.net,
            inputs,
            target,
            job.loss,
            self.optimizer,
            scores=job.net.scores,
            members=members,
            settings=self.settings,
            scaler=self.scaler,
        )
        if self.average:
            self.average.update(job.net)
        return losses

    def _members(self) -> list[int] | None:
        """Draw the resolutions of a sandwich step: the largest, the smallest and one between."""
        count = len(self.job.net.resolutions)
        if not self.job.config.sandwich or count <= 3:
            return None
        # Seeded by the step: a run that is continued draws as if it had not stopped.
        draw = random.Random(f"{self.job.config.seed} {self.global_step}")
        return [0, draw.randrange(1, count - 1), count - 1]

    def _input(self, view: Tensor) -> Tensor:
        view = view.to(self.device, non_blocking=True)
        images = self.job.config.preprocessing.normalise(view)
        layout = torch.channels_last if self.job.config.channels_last else torch.contiguous_format
        return images.contiguous(memory_format=layout)
