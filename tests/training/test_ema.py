"""The average of the weights, by hand, in training and in what is kept."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rsseg.common.checkpoint import read_checkpoint
from rsseg.training.ema import WeightAverage
from rsseg.training.interrupt import Interrupted
from rsseg.training.loop import Training
from rsseg.training.run_folder import RunFolder
from tests.helpers.small_networks import randomise
from tests.helpers.small_runs import (
    EPOCHS,
    STEPS,
    assert_runs_are_equal,
    draw,
    small_config,
    small_job,
    small_net,
    stop_after,
)


def floats(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if value.is_floating_point()}


def test_average_moves_so_far_at_each_step_and_holds_the_statistics() -> None:
    net = small_net()
    average = WeightAverage(net, 0.9)
    expected = copy.deepcopy(floats(net.state_dict()))
    for _ in range(3):
        randomise(net)
        average.update(net)
        for name, value in floats(net.state_dict()).items():
            expected[name] = 0.9 * expected[name] + 0.1 * value
    found = floats(average.net.state_dict())
    assert any("running_var" in name for name in found)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


def test_checkpoint_holds_the_average_to_use_and_the_network_to_go_on_with(tmp_path: Path) -> None:
    job = small_job(small_config(ema_decay=0.8))
    training = Training(job, RunFolder(tmp_path))
    states = [copy.deepcopy(floats(job.net.state_dict()))]
    for step in range(3):
        training.stepper.step(*draw(step))
        states.append(copy.deepcopy(floats(job.net.state_dict())))
    training.save(training.folder.last, "the last step")
    saved = read_checkpoint(training.folder.last)
    weights = [0.8**3, 0.2 * 0.8**2, 0.2 * 0.8, 0.2]
    for name, value in floats(saved["net"]).items():
        mean = sum(w * state[name] for w, state in zip(weights, states, strict=True))
        torch.testing.assert_close(value, mean)
        assert torch.equal(saved["trained_net"][name], states[-1][name])


def test_run_without_average_has_one_network_in_its_checkpoint(tmp_path: Path) -> None:
    training = Training(small_job(), RunFolder(tmp_path))
    training.save(training.folder.last, "the last step")
    assert "trained_net" not in read_checkpoint(training.folder.last)
    assert training.stepper.used_net is training.job.net


@pytest.mark.parametrize("step", [1, STEPS, STEPS * EPOCHS - 1])
def test_stopped_run_with_average_ends_as_if_it_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    config = small_config(ema_decay=0.7)
    for name in ("whole", "run"):
        (tmp_path / name).mkdir()
    Training(small_job(config), RunFolder(tmp_path / "whole")).fit()
    stop_after(monkeypatch, step)
    with pytest.raises(Interrupted):
        Training(small_job(config), RunFolder(tmp_path / "run")).fit()
    stop_after(monkeypatch, None)
    Training.resume(small_job(config), RunFolder(tmp_path / "run")).fit()
    assert_runs_are_equal(tmp_path / "whole", tmp_path / "run")
