"""Steps whose loss is no number: where they went wrong, and leaving some of them out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from rsseg.common.checkpoint import read_checkpoint
from rsseg.training.diagnose import describe_largest
from rsseg.training.job import Job
from rsseg.training.loop import Training
from rsseg.training.run_folder import RunFolder
from rsseg.training.step import TrainingError
from tests.helpers.small_runs import EPOCHS, STEPS, small_config, small_job, small_net

CPU = torch.device("cpu")


def spoiled_job(steps: Sequence[int], **settings: object) -> Job:
    """Give a job in whose steps of these numbers (from 1) a BatchNorm meets what is no number."""
    job = small_job(small_config(**settings))
    calls = 0

    def hook(_: nn.Module, given: tuple[Sequence[Tensor]]) -> tuple[list[Tensor]]:
        nonlocal calls
        calls += job.net.training and torch.is_grad_enabled()
        factor = torch.nan if calls in steps else 1.0
        return ([given[0][0], given[0][1] * factor],)

    job.net.register_forward_pre_hook(hook)
    return job


def test_steps_are_left_out_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = Training(spoiled_job([2, 7], max_skipped_steps=2), RunFolder(tmp_path)).fit()
    assert results["skipped_steps"] == 2
    told = [line for line in capsys.readouterr().err.splitlines() if "is left out" in line]
    assert "epoch 1, step 2 is left out (1 of 2): the loss is nan" in told[0]
    assert "epoch 2, step 3 is left out (2 of 2)" in told[1]
    state = read_checkpoint(tmp_path / "last.pt")
    assert all(value.isfinite().all() for value in state["net"].values())
    tracked = state["net"]["network.1.sets.8.num_batches_tracked"]
    assert tracked == EPOCHS * STEPS - 2
    logged = (tmp_path / "log.jsonl").read_text().splitlines()
    assert all("NaN" not in line for line in logged)
    assert json.loads(logged[0])["step"] > 0


def test_one_step_too_many_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"step 4: .*max_skipped_steps allows 1 such steps"):
        Training(spoiled_job([2, 4], max_skipped_steps=1), RunFolder(tmp_path)).fit()


def test_step_left_out_changes_nothing_but_the_count(tmp_path: Path) -> None:
    training = Training(spoiled_job([1], max_skipped_steps=1), RunFolder(tmp_path))
    before = {name: value.clone() for name, value in training.job.net.state_dict().items()}
    ((views, target),) = [next(iter(training.job.batches.epoch(0)))]
    losses = training.stepper.step(views, target)
    assert losses.total.isnan()
    assert all(
        torch.equal(value, before[name]) for name, value in training.job.net.state_dict().items()
    )
    assert training.progress.skipped == 1


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        ("weight", "the largest weight is 9e+30, of 4.weight, the largest output "),
        ("output", "the largest output is not finite, of 1.sets.8"),
    ],
)
def test_layer_that_blew_up_is_named(spoil: str, told: str) -> None:
    net = small_net().train()
    with torch.no_grad():
        if spoil == "weight":
            net.network[4].weight[0] = 9e30  # type: ignore[index]
        else:
            net.network[1].sets["8"].bias[:] = torch.inf  # type: ignore[index]
    before = {name: value.clone() for name, value in net.named_buffers()}
    state = torch.get_rng_state()
    views = [torch.rand(2, 3, side, side) for side in (16, 8)]
    torch.set_rng_state(state)
    text = describe_largest(net, lambda: net(views), CPU)
    assert told in text
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in net.named_buffers())
