"""A run from its first to its last step: epochs, evaluations, checkpoints, curves, and resuming.

It knows neither the task nor the data set: a `Job` brings the network, the batches, the loss and
the evaluation.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from torch import Tensor
from tqdm import tqdm

from rsseg.common.checkpoint import CheckpointError, state_digest
from rsseg.common.distributed import (
    LostProcessError,
    any_of,
    barrier,
    check_agreed,
    is_main_process,
    world_size,
)
from rsseg.common.messages import counted
from rsseg.images.crops import CropBatch
from rsseg.losses.mred import MREDLosses
from rsseg.training.constant_output import constant_outputs
from rsseg.training.evaluation import ENSEMBLE
from rsseg.training.interrupt import Interrupted, StopRequest
from rsseg.training.job import Job, Progress
from rsseg.training.metadata import RunMetadata
from rsseg.training.progress import LOG_EVERY, ProgressLog, progress_bar
from rsseg.training.run_folder import RunFolder
from rsseg.training.state import Stepper
from rsseg.training.step import TrainingError


class Training:
    """A run in its folder: the state of a job, saved and continued.

    Args:
        job: What is trained.
        folder: Where the run is written.

    Attributes:
        stepper: The state of the run.
    """

    def __init__(self, job: Job, folder: RunFolder) -> None:
        self.job = job
        self.folder = folder
        self.stepper = Stepper(job)
        self._resumed = False
        self._saved = time.monotonic()

    @classmethod
    def resume(cls, job: Job, folder: RunFolder) -> Training:
        """Continue where the folder's last checkpoint was written, to the step.

        Raises:
            CheckpointError: If there is no whole one, or it is of another network or other data.
        """
        training, (content, path) = cls(job, folder), folder.read_last()
        trained, data = content["metadata"].get("data", {}), job.metadata.data
        if trained != data:
            raise CheckpointError(f"{path} was trained on other data: {trained}, given is {data}")
        training.stepper.restore(content, str(path))
        check_agreed((training.stepper.global_step, path.name), "the step to continue from")
        training._resumed = True
        if is_main_process():
            folder.cut_log(training.stepper.global_step)
        return training

    @property
    def progress(self) -> Progress:
        """Where the run is."""
        return self.stepper.progress

    def save(self, path: Path, reason: str) -> None:
        """Write the state of the run into a checkpoint; `reason` says why this state is kept.

        Every process has to call this; the first one writes.
        """
        state = self.stepper.state()
        if is_main_process():
            self.folder.save(path, {"metadata": self._metadata(reason).plain(), **state})
        self._saved = time.monotonic()

    def _metadata(self, reason: str) -> RunMetadata:
        digest = state_digest(self.stepper.used_net.state_dict())
        metadata, epoch = self.job.metadata, self.progress.epoch
        return replace(metadata, epoch=epoch, chosen=reason, weights=digest)

    def fit(self) -> dict[str, Any]:
        """Train to the last epoch.

        Returns:
            The content of results.json; that of a run which was complete before is read.

        Raises:
            TrainingError: If the loss is not finite.
            Interrupted: If a stop was requested; the run has been saved.
            CheckpointError: If a checkpoint cannot be written.
        """
        if self._is_complete():
            return self.folder.read_results()
        if not self._resumed:
            # From the first step on there is something to continue from.
            self.save(self.folder.last, reason="the beginning")
        with (
            StopRequest() as stop,
            self._log() as log,
            progress_bar(self.job, self.progress) as bar,
        ):
            self._evaluate_if_due(log)
            while not self._is_complete():
                self._train_epoch(bar, log, stop)
                # Before the checkpoint: a run that dies between them writes this line again.
                stepper = self.stepper
                log.alpha(stepper.used_net, self.progress.epoch, stepper.global_step)
                # Before the evaluation: whatever happens there, the epoch is not lost.
                self.save(self.folder.last, reason="the last epoch")
                self._stop_if_requested(stop)
                self._evaluate_if_due(log)
                self._stop_if_requested(stop)
        barrier()  # The first process may still be writing.
        return self.folder.read_results() if is_main_process() else {}

    def _log(self) -> ProgressLog:
        folder = self.folder if is_main_process() else None
        return ProgressLog(self.job, folder, self.stepper.global_step)

    def _is_complete(self) -> bool:
        return self.progress.evaluated == self.job.config.epochs

    def _train_epoch(self, bar: tqdm[Any], log: ProgressLog, stop: StopRequest) -> None:
        job, progress = self.job, self.progress
        self.stepper.begin_epoch()
        bar.set_description(f"epoch {progress.epoch + 1}/{job.config.epochs}", refresh=False)
        for views, target in self._batches(stop):
            begin = time.perf_counter()
            losses = self._step(views, target)
            progress.step += 1
            progress.seconds += time.perf_counter() - begin
            log.losses(losses, progress, self.stepper.optimizer)
            if progress.step % LOG_EVERY == 1:  # Reading a value waits for the device.
                bar.set_postfix(loss=f"{losses.total:.3f}", refresh=False)
            bar.update(job.batches.batch_size)
            self._save_if_due(stop)
        progress.epoch, progress.step = progress.epoch + 1, 0

    def _save_if_due(self, stop: StopRequest) -> None:
        """Save inside an epoch after `checkpoint_minutes`; on a request to stop, save and stop."""
        overdue = time.monotonic() - self._saved > 60 * self.job.config.checkpoint_minutes
        # Together: a process that goes on alone would wait for the others without end.
        stopping, due = any_of(stop.requested, overdue and is_main_process())
        if (stopping or due) and self.progress.step < self.job.batches.steps:
            self.save(self.folder.last, reason="the last step")
            if stopping:
                self._stop()

    def _batches(self, stop: StopRequest) -> Iterator[tuple[Sequence[Tensor] | CropBatch, Tensor]]:
        """Yield the remaining batches of the epoch."""
        try:
            yield from self.job.batches.epoch(self.progress.epoch, self.progress.step)
        except LostProcessError:
            raise
        except RuntimeError as error:
            # A signal to the whole group of processes may end the workers as well.
            if not stop.requested or world_size() > 1:
                raise TrainingError(self._explain(str(error))) from error
            self.save(self.folder.last, reason="the last step")
            self._stop()

    def _step(self, views: Sequence[Tensor] | CropBatch, target: Tensor) -> MREDLosses:
        try:
            return self.stepper.step(views, target)
        except TrainingError as error:
            remedy = (
                " and a lower --set optim.lr, or with optim.clip_norm=1; --set max_skipped_steps=N "
                "leaves out up to N such steps"
            )
            raise TrainingError(self._explain(str(error)) + remedy) from error

    def _explain(self, fault: str) -> str:
        return (
            f"epoch {self.progress.epoch + 1}, step {self.progress.step + 1}: {fault}; "
            f"the last good checkpoint is {self.folder.last}; continue from it with "
            f"--resume {self.folder.path}"
        )

    def _stop_if_requested(self, stop: StopRequest) -> None:
        if any_of(stop.requested)[0] and not self._is_complete():
            self._stop()

    def _stop(self) -> NoReturn:
        epoch, step = self.progress.epoch, self.progress.step
        where = (
            f"in epoch {epoch + 1} after {counted(step, 'step')}"
            if step
            else f"after epoch {epoch}"
        )
        raise Interrupted(f"stopped {where}; continue with --resume {self.folder.path}")

    def _evaluate_if_due(self, log: ProgressLog) -> None:
        config, epoch = self.job.config, self.progress.epoch
        due = epoch == config.epochs or (epoch > 0 and epoch % config.evaluate_every == 0)
        due = due or (epoch == 0 and config.adapt is not None)
        if due and self.progress.step == 0 and self.progress.evaluated < epoch:
            self._evaluate(log)
            self.save(self.folder.last, reason="the last epoch")

    def _evaluate(self, log: ProgressLog) -> None:
        job, progress = self.job, self.progress
        try:
            evaluation = job.evaluate(self.stepper.used_net)
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise TrainingError(
                f"the evaluation after epoch {progress.epoch} lost a worker process ({error}); "
                f"the epoch is saved; continue with --resume {self.folder.path}"
            ) from error
        results = {
            **self._metadata("the last epoch").plain(),
            "training_seconds": round(progress.seconds, 1),
            "skipped_steps": progress.skipped,
            "metrics": evaluation.results(),
            "alpha": evaluation.alpha,
            "constant_output": constant_outputs(evaluation, job.metadata.classes),
            "unreadable": {split: dict(faults) for split, faults in job.faults.items()},
        }
        if is_main_process():
            log.metrics(results, self.stepper.global_step)
            if job.config.adapt is not None:
                results["start"] = self.folder.start_metrics(results["metrics"], progress.epoch)
            self.folder.write_results(results)
            job.report(evaluation, self.folder.path)
        self._keep_if_best(results["metrics"])
        progress.evaluated = progress.epoch

    def _keep_if_best(self, metrics: Mapping[str, Mapping[str, float]]) -> None:
        values = [row[self.job.metric] for name, row in metrics.items() if name != ENSEMBLE]
        mean = sum(values) / len(values)
        if mean > self.progress.best:
            self.progress.best = mean
            reason = f"the best mean {self.job.metric} over the resolutions ON THE TEST SET"
            self.save(self.folder.best, reason=reason)
