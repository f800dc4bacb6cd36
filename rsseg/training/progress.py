"""The output of a run while it goes: the bar, the curves of TensorBoard, and log.jsonl."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from rsseg.common.distributed import is_main_process
from rsseg.losses.mred import MREDLosses
from rsseg.switchable.net import SwitchableNet
from rsseg.training.evaluation import alpha_of
from rsseg.training.job import Job, Progress
from rsseg.training.run_folder import RunFolder

LOG_EVERY = 20  # steps


class ProgressLog:
    """The curves of one run.

    Args:
        job: What is trained.
        folder: Where the run is written; None for a process that writes nothing.
        step: Complete steps; curves beyond them are left out.
    """

    def __init__(self, job: Job, folder: RunFolder | None, step: int) -> None:
        self.job = job
        self.folder = folder
        if folder:
            self.board = SummaryWriter(str(folder.tensorboard), purge_step=step + 1)

    def __enter__(self) -> ProgressLog:
        return self

    def __exit__(self, *_: object) -> None:
        if self.folder:
            self.board.close()

    def losses(
        self, losses: MREDLosses, progress: Progress, optimizer: torch.optim.Optimizer
    ) -> None:
        """Write the losses, learning rates and shares alpha, every LOG_EVERY steps."""
        steps = self.job.batches.steps
        step = progress.epoch * steps + progress.step
        if not self.folder or (step % LOG_EVERY and progress.step < steps):
            return
        values = {name: value.item() for name, value in losses._asdict().items()}
        if not all(map(math.isfinite, values.values())):  # of a step that was left out
            return
        for name, value in values.items():
            self.board.add_scalar(f"loss/{name}", value, step)
        rates: dict[str, float] = {}
        for group in optimizer.param_groups:  # With layer-wise decay, the rate of the last layer.
            rates[group["rate"]] = max(group["lr"], rates.get(group["rate"], 0.0))
        for name, rate in rates.items():
            self.board.add_scalar(f"learning rate/{name}", rate, step)
        for name, share in (alpha_of(self.job.net) or {}).items():
            self.board.add_scalar(f"alpha/{name}", share, step)
        self.folder.log({"step": step, **values})

    def alpha(self, net: SwitchableNet, epoch: int, step: int) -> None:
        """Write the shares alpha after an epoch, if there is an ensemble."""
        shares = alpha_of(net)
        if self.folder and shares is not None:
            self.folder.log({"step": step, "epoch": epoch, "alpha": shares})

    def metrics(self, results: Mapping[str, Any], step: int) -> None:
        """Write the results of an evaluation."""
        if not self.folder:
            return
        epoch, metrics = results["epoch"], results["metrics"]
        for name, values in metrics.items():
            for metric, value in values.items():
                self.board.add_scalar(f"{metric}/{name}", value, epoch)
        entry = {key: results[key] for key in ("epoch", "metrics", "alpha")}
        self.folder.log({"step": step, **entry})


def progress_bar(job: Job, progress: Progress) -> tqdm[Any]:
    """Return a bar that counts images from where the run is."""
    batches = job.batches
    bar: tqdm[Any] = tqdm(
        total=job.config.epochs * batches.steps * batches.batch_size,
        initial=(progress.epoch * batches.steps + progress.step) * batches.batch_size,
        unit="img",
        mininterval=0.5 if sys.stderr.isatty() else 20,
        smoothing=0.05,
        disable=not is_main_process(),
    )
    return bar
