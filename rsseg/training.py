"""A run from its first to its last step: epochs, evaluations, checkpoints, curves, and resuming.

It knows neither the task nor the data set: a `Job` brings the network, the batches, the loss and
the evaluation.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from rsseg.acceleration import compile_network
from rsseg.checkpoint import CheckpointError, load_weights, read_checkpoint, save_checkpoint
from rsseg.cuts import CutBatch
from rsseg.ema import WeightAverage
from rsseg.engine import StepSettings, TrainingError, make_scaler, set_training_mode, train_step
from rsseg.evaluation import ENSEMBLE
from rsseg.interrupt import Interrupted, StopRequest
from rsseg.job import Job, Progress
from rsseg.mred import MREDLosses
from rsseg.net import SwitchableNet
from rsseg.optim import build_optimizer, learning_rates, set_learning_rates
from rsseg.progress_log import ProgressLog, progress_bar
from rsseg.run import RunFolder


class Training:
    """A run in its folder: the state of a job, saved and continued.

    Args:
        job: What is trained.
        folder: Where the run is written.

    Attributes:
        progress: Where the run is.
    """

    def __init__(self, job: Job, folder: RunFolder) -> None:
        self.job = job
        self.folder = folder
        self.progress = Progress()
        set_training_mode(job.net, freeze_batchnorm=job.config.freeze_batchnorm)
        self.optimizer = build_optimizer(job.net, job.config.optim)
        device = next(job.net.parameters()).device
        self.scaler = make_scaler(job.config.precision, device)
        self.settings = StepSettings(
            precision=job.config.precision,
            two_pass=job.config.memory == "two_pass",
            clip_norm=job.config.optim.clip_norm,
        )
        job.net.checkpointing = job.config.memory == "checkpoint"
        compile_network(job.net, job.config.compile)
        decay = job.config.ema_decay
        self.average = None if decay is None else WeightAverage(job.net, decay)

    @classmethod
    def resume(cls, job: Job, folder: RunFolder) -> Training:
        """Continue where the folder's last checkpoint was written, to the step.

        Raises:
            CheckpointError: If it is missing, damaged, of another network or other data.
        """
        training, content = cls(job, folder), read_checkpoint(folder.last)
        load_weights(job.net, content.get("trained_net", content["net"]), str(folder.last))
        if training.average:
            training.average.load(content["net"], str(folder.last))
        if content["metadata"].get("data") != job.metadata.get("data"):
            raise CheckpointError(
                f"{folder.last} was trained on other data: {content['metadata'].get('data')}, "
                f"given is {job.metadata.get('data')}"
            )
        training.optimizer.load_state_dict(content["optimizer"])
        training.scaler.load_state_dict(content["scaler"])
        training.progress = Progress(**content["progress"])
        torch.set_rng_state(content["rng"]["cpu"])
        # The machine may have fewer devices than the one that wrote the checkpoint, or none.
        torch.cuda.set_rng_state_all(content["rng"]["cuda"][: torch.cuda.device_count()])
        folder.cut_log(training.global_step)
        return training

    @property
    def global_step(self) -> int:
        """Steps since the beginning of the run."""
        return self.progress.epoch * self.job.batches.steps + self.progress.step

    @property
    def used_net(self) -> SwitchableNet:
        """The network that is evaluated and used: the average, if there is one."""
        return self.average.net if self.average else self.job.net

    def save(self, path: Path, **metadata: object) -> None:
        """Write the state of the run into a checkpoint; `metadata` is added to the job's."""
        rng = {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}
        content = {
            "metadata": {**self.job.metadata, "epoch": self.progress.epoch, **metadata},
            "net": self.used_net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "progress": asdict(self.progress),
            "rng": rng,
        }
        if self.average:
            content["trained_net"] = self.job.net.state_dict()
        save_checkpoint(path, content)

    def fit(self) -> dict[str, Any]:
        """Train to the last epoch.

        Returns:
            The content of results.json; that of a run which was complete before is read.

        Raises:
            TrainingError: If the loss is not finite.
            Interrupted: If a stop was asked for; the run has been saved.
            CheckpointError: If a checkpoint cannot be written.
        """
        if self._is_complete():
            return self.folder.read_results()
        if not self.folder.last.exists():
            # From the first step on there is something to continue from.
            self.save(self.folder.last, chosen="the beginning")
        with (
            StopRequest() as stop,
            ProgressLog(self.job, self.folder, self.global_step) as log,
            progress_bar(self.job, self.progress) as bar,
        ):
            self._evaluate_if_due(log)
            while not self._is_complete():
                self._train_epoch(bar, log, stop)
                # Before the evaluation: whatever happens there, the epoch is not lost.
                self.save(self.folder.last, chosen="the last epoch")
                self._stop_if_asked(stop)
                self._evaluate_if_due(log)
                self._stop_if_asked(stop)
        return self.folder.read_results()

    def _is_complete(self) -> bool:
        return self.progress.evaluated == self.job.config.epochs

    def _train_epoch(self, bar: tqdm[Any], log: ProgressLog, stop: StopRequest) -> None:
        job, progress = self.job, self.progress
        set_training_mode(job.net, freeze_batchnorm=job.config.freeze_batchnorm)
        bar.set_description(f"epoch {progress.epoch + 1}/{job.config.epochs}", refresh=False)
        for views, target in self._batches(stop):
            begin = time.perf_counter()
            losses = self.step(views, target)
            progress.step += 1
            progress.seconds += time.perf_counter() - begin
            log.losses(losses, progress, self.optimizer)
            bar.set_postfix(loss=f"{losses.total:.3f}", refresh=False)
            bar.update(job.batches.batch_size)
            if stop.asked and progress.step < job.batches.steps:
                self.save(self.folder.last, chosen="the last step")
                self._stop_if_asked(stop)
        progress.epoch, progress.step = progress.epoch + 1, 0

    def _batches(self, stop: StopRequest) -> Iterator[tuple[Sequence[Tensor] | CutBatch, Tensor]]:
        """Give the rest of the epoch's batches."""
        try:
            yield from self.job.batches.epoch(self.progress.epoch, self.progress.step)
        except RuntimeError as error:
            # A signal to the whole group of processes ends the workers as well.
            if not stop.asked:
                raise TrainingError(self._explain(str(error))) from error
            self.save(self.folder.last, chosen="the last step")
            self._stop_if_asked(stop)

    def step(self, views: Sequence[Tensor] | CutBatch, target: Tensor) -> MREDLosses:
        """Train with one batch of uint8 views or crops, at the point where `progress` is."""
        job, config = self.job, self.job.config
        epoch = self.progress.epoch + self.progress.step / job.batches.steps
        rates = learning_rates(config.optim, config.schedule, epoch, config.epochs)
        set_learning_rates(self.optimizer, rates)
        members = self._members()
        if isinstance(views, CutBatch):
            device = next(job.net.parameters()).device
            chosen: Sequence[Tensor] = views.views(device, config.resolutions, members)
        else:
            chosen = views if members is None else [views[member] for member in members]
        inputs = [self._input(view) for view in chosen]
        target = target.to(inputs[0].device, non_blocking=True)
        if job.mix:
            inputs, target = job.mix(inputs, target)
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
            )
        except TrainingError as error:
            remedy = " and a lower --set optim.lr, or with optim.clip_norm=1"
            raise TrainingError(self._explain(str(error)) + remedy) from error
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
        device = next(self.job.net.parameters()).device
        images = self.job.config.preprocessing.normalise(view.to(device, non_blocking=True))
        layout = torch.channels_last if self.job.config.channels_last else torch.contiguous_format
        return images.contiguous(memory_format=layout)

    def _explain(self, fault: str) -> str:
        return (
            f"epoch {self.progress.epoch + 1}, step {self.progress.step + 1}: {fault}; "
            f"the last good checkpoint is {self.folder.last}; continue from it with "
            f"--resume {self.folder.path}"
        )

    def _stop_if_asked(self, stop: StopRequest) -> None:
        if not stop.asked or self._is_complete():
            return
        epoch, step = self.progress.epoch, self.progress.step
        where = f"in epoch {epoch + 1} after {step} steps" if step else f"after epoch {epoch}"
        raise Interrupted(f"stopped {where}; continue with --resume {self.folder.path}")

    def _evaluate_if_due(self, log: ProgressLog) -> None:
        config, epoch = self.job.config, self.progress.epoch
        due = epoch == config.epochs or (epoch and epoch % config.evaluate_every == 0)
        if due and self.progress.step == 0 and self.progress.evaluated < epoch:
            self._evaluate(log)
            self.save(self.folder.last, chosen="the last epoch")

    def _evaluate(self, log: ProgressLog) -> None:
        job, progress = self.job, self.progress
        evaluation = job.evaluate(self.used_net)
        results = {
            **job.metadata,
            "epoch": progress.epoch,
            "chosen": "the last epoch",
            "training_seconds": round(progress.seconds, 1),
            "metrics": evaluation.results(),
            "alpha": evaluation.alpha,
            "unreadable": job.unreadable(),
        }
        log.metrics(results, self.global_step)
        self.folder.write_results(results)
        job.report(evaluation, self.folder.path)
        self._keep_if_best(results["metrics"])
        progress.evaluated = progress.epoch

    def _keep_if_best(self, metrics: Mapping[str, Mapping[str, float]]) -> None:
        values = [row[self.job.metric] for name, row in metrics.items() if name != ENSEMBLE]
        mean = sum(values) / len(values)
        if mean > self.progress.best:
            self.progress.best = mean
            chosen = f"the best mean {self.job.metric} over the resolutions ON THE TEST SET"
            self.save(self.folder.best, chosen=chosen)
