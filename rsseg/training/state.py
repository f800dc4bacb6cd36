"""The state of a training between two steps, and the step from one to the next.

Everything that a checkpoint has to hold is here: weights, optimiser, loss scale, average, random
numbers, and where the run is. Epochs, evaluations and files are in `loop`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from rsseg.common.checkpoint import CheckpointError, load_weights
from rsseg.common.distributed import (
    all_gather_object,
    average,
    rank,
    united,
    warn_first,
    world_size,
)
from rsseg.common.messages import counted
from rsseg.images.crops import CropBatch
from rsseg.losses.mred import MREDLosses
from rsseg.switchable.net import SwitchableNet
from rsseg.training.compile import compile_network
from rsseg.training.config import RunConfig
from rsseg.training.ema import WeightAverage
from rsseg.training.freezing import Freezing
from rsseg.training.job import Job, Progress
from rsseg.training.optim import build_optimizer, learning_rates, set_learning_rates
from rsseg.training.parallel import data_parallel
from rsseg.training.step import (
    NotFiniteError,
    StepSettings,
    make_scaler,
    set_training_mode,
    train_step,
)
from rsseg.training.sync_batchnorm import synchronise_batchnorms


class Stepper:
    """A job in training.

    Args:
        job: What is trained.

    Attributes:
        progress: Where the run is; whoever calls `step` moves it on.
        optimizer: Moves the parameters.
        scaler: Scales the loss of fp16.
        average: The average of the weights, or None.
        parallel: The network in a wrapper that averages gradients in the backward pass, or None.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.progress = Progress()
        config = job.config
        if config.sync_batchnorm:
            synchronise_batchnorms(job.net, self.device)
        set_training_mode(job.net, freeze_batchnorm=config.freeze_batchnorm)
        self.freezing = Freezing(job.net, config.freeze)
        self.freezing.apply(math.inf)  # What is frozen for some epochs is moved later.
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
        # Last: the parameters have their final device, type and requires_grad.
        self.freezing.apply(0)
        self.parallel = data_parallel(job.net, config)
        self._seed_process()

    def _seed_process(self) -> None:
        """Seed dropout and mixing of this process; all have built the same network."""
        if rank() or self.global_step:
            place = f"{self.job.config.seed} {rank()} {self.global_step}"
            torch.manual_seed(random.Random(place).getrandbits(63))

    def begin_epoch(self) -> None:
        """Set training mode, with the parts frozen that are to be in the present epoch.

        All processes have to call this.
        """
        job, epoch = self.job, self.progress.epoch
        set_training_mode(
            job.net,
            freeze_batchnorm=job.config.freeze_batchnorm,
            fixed_statistics=job.config.fixes_statistics(epoch),
        )
        if self.freezing.apply(epoch) and self.parallel is not None:
            # The wrapper knows what required gradients when it was made. The old one goes first:
            # it has hooks on the parameters.
            self.parallel = None
            self.parallel = data_parallel(job.net, job.config)

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
        """Return all that a continued run needs; "net" is the network to use.

        All processes have to call this; they get the same but for "seconds" in "progress".
        """
        rng, *others = all_gather_object(_random_state(self.device))
        rng["others"] = others  # Of the processes behind the first.
        state = {
            "net": self.used_net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "progress": asdict(self.progress),
            "rng": rng,
            "unreadable": united(self.job.faults.get("train", {})),
        }
        if self.average:
            state["trained_net"] = self.job.net.state_dict()
        return state

    def restore(self, state: Mapping[str, Any], source: str) -> None:
        """Continue from a state; `source` names it in messages.

        Raises:
            CheckpointError: If it is of another network, or of none in training.
        """
        missing = {"net", "optimizer", "scaler", "progress", "unreadable", "rng"} - state.keys()
        if missing:
            raise CheckpointError(
                f"{source} holds a network to use and nothing to continue a run from "
                f"({', '.join(sorted(missing))} are missing); give last.pt of a run"
            )
        load_weights(self.job.net, state.get("trained_net", state["net"]), source)
        if self.average:
            self.average.load(state["net"], source)
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.progress = Progress(**state["progress"])
        self.job.faults.get("train", {}).update(state["unreadable"])
        self._restore_random_state(state["rng"])

    def _restore_random_state(self, saved: Mapping[str, Any]) -> None:
        states = [saved, *saved.get("others", [])]
        if len(states) != world_size():
            warn_first(
                f"the run had {counted(len(states), 'process')} and now has {world_size()}: it "
                "trains with "
                "the same batches, but draws dropout and mixing anew"
            )
            self._seed_process()
            return
        own = states[rank()]
        torch.set_rng_state(own["cpu"])
        # The machine may have no device, unlike the one that wrote the checkpoint.
        if own["cuda"] and self.device.type == "cuda":
            torch.cuda.set_rng_state(own["cuda"][0], self.device)

    def step(self, views: Sequence[Tensor] | CropBatch, target: Tensor) -> MREDLosses:
        """Train with one batch of uint8 views or crops, at the point where `progress` is.

        A step whose loss or gradient is not finite is left out, so often as the settings allow.

        Raises:
            NotFiniteError: If that is too often; no parameter has been changed.
        """
        job, config = self.job, self.job.config
        epoch = self.progress.epoch + self.progress.step / job.batches.steps
        rates = learning_rates(config.optim, config.schedule, epoch, config.epochs)
        set_learning_rates(self.optimizer, rates)
        members = self._members()
        if isinstance(views, CropBatch):
            chosen: Sequence[Tensor] = views.views(self.device, config.resolutions, members)
        else:
            chosen = views if members is None else [views[member] for member in members]
        inputs = [self._input(view) for view in chosen]
        target = target.to(inputs[0].device, non_blocking=True)
        if job.mix:
            inputs, target = job.mix(inputs, target)
        may_skip = config.max_skipped_steps > 0
        before = [buffer.clone() for buffer in self._statistics()] if may_skip else []
        try:
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
                parallel=self.parallel,
            )
        except NotFiniteError as error:
            return self._left_out(error, before)
        if world_size() > 1 and not config.sync_batchnorm:
            # Each process has normalised its own images; what is learnt of them is shared.
            average([b for b in self._statistics() if b.is_floating_point()])
        if self.average:
            self.average.update(job.net)
        return losses

    def _statistics(self) -> list[Tensor]:
        """Return what the BatchNorms learn without gradients."""
        return [
            buffer
            for layer in self.job.net.modules()
            if isinstance(layer, _BatchNorm) and layer.training
            for buffer in layer.buffers(recurse=False)
        ]

    def _left_out(self, error: NotFiniteError, before: Sequence[Tensor]) -> MREDLosses:
        """Undo a step and return losses that are not numbers, or raise the error."""
        limit = self.job.config.max_skipped_steps
        if self.progress.skipped >= limit:
            allowed = f"; max_skipped_steps allows {limit} such steps" if limit else ""
            raise NotFiniteError(f"{error}{allowed}") from error
        for buffer, value in zip(self._statistics(), before, strict=True):
            buffer.copy_(value)
        self.progress.skipped += 1
        self.optimizer.zero_grad(set_to_none=True)
        warn_first(
            f"epoch {self.progress.epoch + 1}, step {self.progress.step + 1} is left out "
            f"({self.progress.skipped} of {limit}): {error}"
        )
        return MREDLosses(*torch.full((4,), math.nan))

    def _members(self) -> list[int] | None:
        """Return the resolutions of the next step as indices; None for all."""
        config, batches = self.job.config, self.job.batches
        if not config.leaves_out_resolutions:
            return None
        # Seeded by the step: a run that is continued draws as if it had not stopped.
        draw = random.Random(f"{config.seed} {self.global_step}")
        return resolutions_of_step(config, self.global_step / (config.epochs * batches.steps), draw)

    def _input(self, view: Tensor) -> Tensor:
        view = view.to(self.device, non_blocking=True)
        images = self.job.config.preprocessing.normalise(view)
        layout = torch.channels_last if self.job.config.channels_last else torch.contiguous_format
        return images.contiguous(memory_format=layout)


def resolutions_of_step(config: RunConfig, part: float, draw: random.Random) -> list[int]:
    """Return which resolutions a step trains, as indices, largest first.

    Args:
        config: Settings of the run.
        part: Part of the run that lies behind, 0..1.
        draw: Source of the random choice.
    """
    count = len(config.resolutions)
    if config.random_resolution:
        return [draw.randrange(count)]
    if config.draws_sandwich:
        return [0, draw.randrange(1, count - 1), count - 1]
    if config.order == "large_to_small":
        return list(range(min(count, 1 + math.floor(2 * part * (count - 1)))))
    return list(range(count))


def _random_state(device: torch.device) -> dict[str, Any]:
    """Return the state of the generators of this process, and of its own device alone."""
    on_device = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return {"cpu": torch.get_rng_state(), "cuda": on_device}
