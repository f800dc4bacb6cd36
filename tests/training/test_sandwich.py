"""Sandwich steps: which resolutions take part, and what the others keep."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from rsseg.losses.mred import MREDLosses, mred_loss
from rsseg.switchable.net import SwitchableNet
from rsseg.training.config import RunConfig
from rsseg.training.job import Job
from rsseg.training.loop import Training
from rsseg.training.run_folder import RunFolder
from rsseg.training.step import Outputs
from tests.helpers.small_runs import small_config, small_job

RESOLUTIONS = (40, 32, 24, 16, 8)


def net() -> SwitchableNet:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return SwitchableNet(nn.Sequential(*layers, nn.Linear(4, 3)), RESOLUTIONS)


def loss(outputs: Outputs) -> MREDLosses:
    return mred_loss(outputs.logits, outputs.target, outputs.scores)


def config(**values: object) -> RunConfig:
    return small_config(resolutions=list(RESOLUTIONS), sandwich=True, **values)


def batch() -> tuple[list[Tensor], Tensor]:
    views = [torch.randint(0, 256, (4, 3, r, r), dtype=torch.uint8) for r in RESOLUTIONS]
    return views, torch.tensor([0, 1, 2, 0])


def training(tmp_path: Path, **values: object) -> Training:
    job: Job = small_job(config(**values), net=net(), loss=loss)
    return Training(job, RunFolder(tmp_path))


def test_each_step_trains_the_largest_the_smallest_and_one_between(tmp_path: Path) -> None:
    run, drawn = training(tmp_path), set()
    for _ in range(40):
        layer = run.job.net.network.get_submodule("1")
        before = {k: v.clone() for k, v in layer.state_dict().items() if "num_batches" in k}
        run.stepper.step(*batch())
        run.progress.step += 1
        after = layer.state_dict()
        moved = [int(k.split(".")[1]) for k, v in before.items() if after[k] != v]
        assert len(moved) == 3
        assert {moved[0], moved[-1]} == {40, 8}
        drawn.add(moved[1])
    assert drawn == {32, 24, 16}


def test_draw_depends_on_the_seed_and_the_step_alone(tmp_path: Path) -> None:
    def drawn(seed: int) -> list[list[int] | None]:
        run, members = training(tmp_path, seed=seed), []
        for _ in range(20):
            members.append(run.stepper._members())
            run.progress.step += 1
        return members

    assert drawn(1) == drawn(1) != drawn(2)


def test_losses_are_those_of_the_members_alone(tmp_path: Path) -> None:
    run = training(tmp_path)
    views, target = batch()
    members = run.stepper._members()
    assert members is not None
    inputs = [run.stepper._input(views[member]) for member in members]
    assert run.job.net.scores is not None
    with torch.no_grad():
        run.job.net.scores.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]))
        logits = [
            net().train().predict(x, RESOLUTIONS[m]) for x, m in zip(inputs, members, strict=True)
        ]
        expected = mred_loss(logits, target, run.job.net.scores[members])
    torch.testing.assert_close(run.stepper.step(views, target).total, expected.total)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_resolutions_are_all_trained(tmp_path: Path, count: int) -> None:
    settings = small_config(resolutions=list(RESOLUTIONS[:count]), sandwich=True)
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    job = small_job(settings, net=SwitchableNet(layers, RESOLUTIONS[:count]))
    assert Training(job, RunFolder(tmp_path)).stepper._members() is None
