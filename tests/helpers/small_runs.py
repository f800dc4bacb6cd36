"""A run so small that it takes a moment, and a way to stop it after any step."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rsseg.common.config import validate
from rsseg.images.preprocessing import Preprocessing
from rsseg.losses.mred import MREDLosses
from rsseg.losses.pixelwise import pixelwise_mred_loss
from rsseg.segmentation.evaluate import SegmentationEvaluator
from rsseg.switchable.net import SwitchableNet
from rsseg.switchable.resolutions import Resolutions
from rsseg.training import loop as training
from rsseg.training import state as stepper
from rsseg.training.config import RunConfig
from rsseg.training.evaluation import evaluate
from rsseg.training.interrupt import StopRequest
from rsseg.training.job import Job
from rsseg.training.metadata import RunMetadata
from rsseg.training.run_folder import RunFolder
from rsseg.training.step import Outputs, train_step

RESOLUTIONS = (16, 8)
CLASSES = 5
STEPS = 4
EPOCHS = 3


def small_net(**options: Any) -> SwitchableNet:
    """Give a network of two convolutions with dropout, the same each time."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Conv2d(6, CLASSES, 3, padding=1),
    )
    return SwitchableNet(network, RESOLUTIONS, **options)


def small_config(**values: Any) -> RunConfig:
    settings = {
        "resolutions": list(RESOLUTIONS),
        "epochs": EPOCHS,
        "batch_size": 2,
        "optim": {"lr": 0.05, "weight_decay": 0.01},
    }
    return validate(RunConfig, {**settings, **values}, "the test")


def small_metadata(**values: Any) -> RunMetadata:
    return RunMetadata(
        task="test",
        model={},
        resolutions=Resolutions(RESOLUTIONS),
        preprocessing=Preprocessing(),
        **values,
    )


def draw(seed: int) -> tuple[list[Tensor], Tensor]:
    """Draw two images as uint8 views of both resolutions, and their label maps with void."""
    source = torch.Generator().manual_seed(seed)
    views = [
        torch.randint(0, 256, (2, 3, side, side), generator=source, dtype=torch.uint8)
        for side in RESOLUTIONS
    ]
    labels = torch.randint(0, CLASSES, (2, 16, 16), generator=source, dtype=torch.uint8)
    labels[:, :2] = 255
    return views, labels


class DrawnBatches:
    """Batches that the epoch and the step decide."""

    steps = STEPS
    batch_size = 2

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple[Sequence[Tensor], Tensor]]:
        return (draw(100 * epoch + step) for step in range(first_step, self.steps))


def loss_of(outputs: Outputs) -> MREDLosses:
    logits, target, scores, _ = outputs
    variant = "dense" if scores is None else "full"
    return pixelwise_mred_loss(logits, target, scores, variant=variant)


def loss_by_hand(net: SwitchableNet, logits: Sequence[Tensor], target: Tensor) -> Tensor:
    """The same loss without a step around it."""
    return loss_of(Outputs(logits, target, net.scores, ())).total


def small_job(config: RunConfig | None = None, **options: Any) -> Job:
    """Give a job with a new network, ready to be trained."""
    config, net = config or small_config(), small_net()
    parts: dict[str, Any] = {
        "config": config,
        "net": net,
        "batches": DrawnBatches(),
        "loss": loss_of,
        "evaluate": partial(
            evaluate,
            batches=[(views, list(labels)) for views, labels in (draw(1001), draw(1002))],
            make_evaluator=partial(SegmentationEvaluator, CLASSES),
            resolutions=RESOLUTIONS,
            preprocessing=config.preprocessing,
            device=torch.device("cpu"),
        ),
        "metadata": small_metadata(),
        "report": lambda evaluation, folder: None,
        "metric": "mean_iou",
    }
    return Job(**{**parts, **options})


class SilentRequest(StopRequest):
    """A request that no signal makes."""

    def __enter__(self) -> StopRequest:
        return self


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int | None) -> None:
    """Ask every training from now on to stop after so many steps; None for never."""
    request, done = SilentRequest(), 0

    def step(*given: Any, **options: Any) -> MREDLosses:
        nonlocal done
        done += 1
        request.requested = request.requested or done == steps
        return train_step(*given, **options)

    monkeypatch.setattr(training, "StopRequest", lambda: request)
    monkeypatch.setattr(stepper, "train_step", step)


def assert_equal(first: Any, second: Any) -> None:
    """Check nested dicts, lists and tensors for equality to the bit."""
    assert type(first) is type(second)
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_equal(first[key], second[key])
    elif isinstance(first, list | tuple):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_equal(one, other)
    elif isinstance(first, Tensor):
        assert torch.equal(first, second)
    else:
        assert first == second


def assert_runs_are_equal(first: Path, second: Path) -> None:
    """Check the checkpoints and results of two run folders; only the time may differ."""
    for name in ("last.pt", "best.pt"):
        contents = [torch.load(path / name, weights_only=True) for path in (first, second)]
        for content in contents:
            content["progress"].pop("seconds")
        assert_equal(*contents)
    results = [RunFolder(path).read_results() for path in (first, second)]
    for result in results:
        result.pop("training_seconds")
    assert json.dumps(results[0]) == json.dumps(results[1])
