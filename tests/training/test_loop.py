"""A whole run: against a loop by hand, stopped and resumed at any step, and when it fails."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rsseg.common.checkpoint import CheckpointError, read_checkpoint, state_digest
from rsseg.losses.mred import MREDLosses
from rsseg.switchable.net import SwitchableNet
from rsseg.training import state as stepper
from rsseg.training.evaluation import Evaluation
from rsseg.training.interrupt import Interrupted
from rsseg.training.job import Job
from rsseg.training.loop import Training
from rsseg.training.run_folder import RunFolder
from rsseg.training.step import TrainingError, train_step
from tests.helpers.small_runs import (
    EPOCHS,
    STEPS,
    assert_equal,
    assert_runs_are_equal,
    draw,
    loss_by_hand,
    small_config,
    small_job,
    small_net,
    stop_after,
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was not stopped."""
    path = tmp_path_factory.mktemp("whole")
    Training(small_job(), RunFolder(path)).fit()
    return path


def weights(path: Path) -> dict[str, Tensor]:
    content: dict[str, Tensor] = read_checkpoint(path / "last.pt")["net"]
    return content


def test_run_equals_a_loop_by_hand(whole: Path) -> None:
    net = small_net()
    net.train()
    momenta = {name: torch.zeros_like(value) for name, value in net.named_parameters()}
    for index in range(EPOCHS * STEPS):
        views, labels = draw(100 * (index // STEPS) + index % STEPS)
        inputs = [small_config().preprocessing.normalise(view) for view in views]
        # Dropout draws in the order of the memory.
        inputs = [view.contiguous(memory_format=torch.channels_last) for view in inputs]
        net.zero_grad()
        loss_by_hand(net, net(inputs), labels).backward()  # type: ignore[no-untyped-call]
        rate = 0.05 * 0.5 * (1 + math.cos(math.pi * index / (EPOCHS * STEPS)))
        with torch.no_grad():
            for name, value in net.named_parameters():
                assert value.grad is not None
                decay = 0.0 if name == "scores" else 0.01
                momenta[name] = 0.9 * momenta[name] + value.grad + decay * value
                value.sub_(rate * momenta[name])
    for name, saved in weights(whole).items():
        torch.testing.assert_close(saved, net.state_dict()[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("step", range(1, EPOCHS * STEPS))
def test_run_stopped_after_any_step_ends_as_if_it_was_not(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    folder = RunFolder.create(tmp_path / "run", {})
    stop_after(monkeypatch, step)
    with pytest.raises(Interrupted) as caught:
        Training(small_job(), folder).fit()
    epoch, left = divmod(step, STEPS)
    where = (
        f"in epoch {epoch + 1} after {left} step{'' if left == 1 else 's'}"
        if left
        else f"after epoch {epoch}"
    )
    assert str(caught.value) == f"stopped {where}; continue with --resume {folder.path}"
    torch.manual_seed(99)  # As another process would begin.
    stop_after(monkeypatch, None)
    Training.resume(small_job(), folder).fit()
    assert_runs_are_equal(whole, folder.path)


def test_run_stopped_again_and_again_ends_as_if_it_was_not(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder.create(tmp_path / "run", {})
    run = Training(small_job(), folder)
    for steps in (1, 2, 3, 1):
        stop_after(monkeypatch, steps)
        with pytest.raises(Interrupted):
            run.fit()
        run = Training.resume(small_job(), folder)
    stop_after(monkeypatch, None)
    run.fit()
    assert_runs_are_equal(whole, folder.path)


def test_run_stopped_in_its_last_step_is_evaluated_when_it_goes_on(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(monkeypatch, EPOCHS * STEPS)
    with pytest.raises(Interrupted, match=f"stopped after epoch {EPOCHS}; continue with --resume"):
        Training(small_job(), RunFolder(tmp_path)).fit()
    stop_after(monkeypatch, None)
    results = Training.resume(small_job(), RunFolder(tmp_path)).fit()
    assert results == json.loads((tmp_path / "results.json").read_text())
    assert_runs_are_equal(whole, tmp_path)


def test_results_name_the_weights_that_were_evaluated(whole: Path) -> None:
    content = read_checkpoint(whole / "last.pt")
    results = json.loads((whole / "results.json").read_text())
    assert results["weights"] == content["metadata"]["weights"] == state_digest(content["net"])
    name = next(iter(content["net"]))
    changed = {**content["net"], name: content["net"][name] + 1}
    assert state_digest(changed) != results["weights"]


def test_dropout_and_momentum_matter_for_what_was_compared(whole: Path) -> None:
    content = read_checkpoint(whole / "last.pt")
    momenta = [state["momentum_buffer"] for state in content["optimizer"]["state"].values()]
    assert all(momentum.abs().sum() > 0 for momentum in momenta)
    torch.manual_seed(0)
    assert not torch.equal(content["rng"]["cpu"], torch.get_rng_state())


def test_complete_run_gives_its_results_without_training(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> MREDLosses:
        raise AssertionError("a complete run is trained")

    monkeypatch.setattr(stepper, "train_step", refuse)
    before = (whole / "last.pt").read_bytes()
    results = Training.resume(small_job(), RunFolder(whole)).fit()
    assert results == json.loads((whole / "results.json").read_text())
    assert (whole / "last.pt").read_bytes() == before


def test_run_is_not_continued_with_another_network(whole: Path) -> None:
    config = small_config()
    network = nn.Sequential(nn.Conv2d(3, 6, 5), nn.BatchNorm2d(6), nn.Conv2d(6, 5, 3))
    net = SwitchableNet(network, [16, 8], scores=False)
    with pytest.raises(CheckpointError) as caught:
        Training.resume(small_job(config, net=net), RunFolder(whole))
    assert str(caught.value).splitlines() == [
        f"{whole / 'last.pt'} does not fit this Sequential:",
        "  missing: network.2.bias, network.2.weight",
        "  not in the network: network.4.bias, network.4.weight, scores",
        "  of another shape: network.0.weight (6, 3, 3, 3) instead of (6, 3, 5, 5)",
    ]


def test_learning_rate_of_every_step_follows_the_schedule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def step(*given: Any, **options: Any) -> MREDLosses:
        seen.append(given[4].param_groups[0]["lr"])
        return train_step(*given, **options)

    monkeypatch.setattr(stepper, "train_step", step)
    config = small_config(optim={"lr": [0.1, 0.02]}, schedule={"kind": "staged", "milestones": [2]})
    Training(small_job(config), RunFolder(tmp_path)).fit()
    assert seen == [0.1] * 2 * STEPS + [0.02] * STEPS


def spoil(net: SwitchableNet, call: int) -> None:
    """Let the logits of the smaller resolution be no numbers in one forward pass."""
    calls = 0

    def hook(_: nn.Module, __: Any, logits: Sequence[Tensor]) -> Sequence[Tensor]:
        nonlocal calls
        calls += 1
        return (logits[0], logits[1] * torch.nan) if calls == call else logits

    net.register_forward_hook(hook)


@pytest.mark.parametrize(("call", "where"), [(6, "epoch 2, step 2"), (9, "epoch 3, step 1")])
def test_loss_that_is_not_a_number_names_the_place_and_the_last_good_checkpoint(
    tmp_path: Path, call: int, where: str
) -> None:
    job, folder = small_job(), RunFolder(tmp_path)
    spoil(job.net, call)
    with pytest.raises(TrainingError) as caught:
        Training(job, folder).fit()
    begin, _, rest = str(caught.value).partition("; the largest weight is ")
    assert begin == f"{where}: the loss is nan (logits at resolution 8 are not finite)"
    assert rest.partition("; ")[2] == (
        f"the last good checkpoint is {folder.last}; continue from it with --resume {tmp_path} and "
        "a lower --set optim.lr, or with optim.clip_norm=1; --set max_skipped_steps=N leaves out "
        "up to N such steps"
    )
    content = read_checkpoint(folder.last)
    assert content["progress"]["epoch"] == (call - 1) // STEPS
    assert all(value.isfinite().all() for value in content["net"].values())


def test_loss_that_is_not_a_number_in_the_first_step_leaves_the_beginning(
    whole: Path, tmp_path: Path
) -> None:
    job, folder = small_job(), RunFolder(tmp_path)
    spoil(job.net, 1)
    before = {name: value.detach().clone() for name, value in job.net.named_parameters()}
    with pytest.raises(TrainingError, match="epoch 1, step 1: the loss is nan"):
        Training(job, folder).fit()
    assert all(torch.equal(value, before[name]) for name, value in job.net.named_parameters())
    Training.resume(small_job(), folder).fit()
    assert_runs_are_equal(whole, tmp_path)


def test_run_that_failed_goes_on_from_its_last_good_checkpoint(whole: Path, tmp_path: Path) -> None:
    job, folder = small_job(), RunFolder(tmp_path)
    spoil(job.net, 7)
    with pytest.raises(TrainingError):
        Training(job, folder).fit()
    Training.resume(small_job(), folder).fit()
    assert_runs_are_equal(whole, tmp_path)


def test_checkpoint_that_cannot_be_written_ends_the_run_and_keeps_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path)
    stop_after(monkeypatch, STEPS)
    with pytest.raises(Interrupted):
        Training(small_job(), folder).fit()
    before = folder.last.read_bytes()
    stop_after(monkeypatch, None)
    run = Training.resume(small_job(), folder)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(CheckpointError, match=r"cannot write .*No space left on device.*is kept"):
        run.fit()
    assert folder.last.read_bytes() == before


@dataclass
class Given:
    """An evaluator whose result is known before."""

    value: float

    def update(self, logits: Tensor, target: Tensor) -> None:
        raise AssertionError("not used")

    def share(self) -> None:
        pass

    def result(self) -> dict[str, float]:
        return {"mean_iou": self.value}

    def only_answer(self) -> tuple[int, float] | None:
        return None


def job_with_results(values: Sequence[tuple[float, float, float]], **settings: Any) -> Job:
    """A job whose evaluations give these metrics: of two resolutions and of the ensemble."""
    given: Iterator[tuple[float, float, float]] = iter(values)

    def evaluate(_net: object) -> Evaluation[Given]:
        names = ("16", "8", "ensemble")
        found = {name: Given(v) for name, v in zip(names, next(given), strict=True)}
        return Evaluation(found, {"16": 0.5, "8": 0.5})

    return small_job(small_config(epochs=len(values), **settings), evaluate=evaluate)


def test_best_checkpoint_has_the_best_mean_over_resolutions_and_results_are_the_last(
    tmp_path: Path,
) -> None:
    # The ensemble of the third epoch is the highest of all, and does not count.
    values = [(0.5, 0.1, 0.2), (0.4, 0.4, 0.1), (0.3, 0.3, 0.9)]
    folder = RunFolder(tmp_path)
    results = Training(job_with_results(values, evaluate_every=1), folder).fit()
    best, last = read_checkpoint(folder.best), read_checkpoint(folder.last)
    assert best["metadata"]["epoch"] == 2
    expected = "the best mean mean_iou over the resolutions ON THE TEST SET"
    assert best["metadata"]["chosen"] == expected
    assert (last["metadata"]["epoch"], last["metadata"]["chosen"]) == (3, "the last epoch")
    assert last["progress"]["best"] == pytest.approx(0.4)
    assert (results["epoch"], results["chosen"]) == (3, "the last epoch")
    assert [row["mean_iou"] for row in results["metrics"].values()] == [0.3, 0.3, 0.9]


@pytest.mark.parametrize(("every", "expected"), [(1, [1, 2, 3]), (2, [2, 3]), (5, [3])])
def test_run_is_evaluated_every_so_many_epochs_and_at_its_end(
    tmp_path: Path, every: int, expected: list[int]
) -> None:
    values = [(0.1, 0.1, 0.1)] * 3
    Training(job_with_results(values, evaluate_every=every), RunFolder(tmp_path)).fit()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines if "metrics" in line] == expected
    steps = [line["step"] for line in lines if "total" in line]
    assert steps == [STEPS, 2 * STEPS, 3 * STEPS]
    assert all(math.isfinite(line["total"]) for line in lines if "total" in line)
    assert any((tmp_path / "tensorboard").iterdir())


def test_shares_of_the_ensemble_are_logged_after_every_epoch(tmp_path: Path) -> None:
    config = small_config(evaluate_every=5)
    training = Training(small_job(config), RunFolder(tmp_path))
    training.fit()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    shares = {line["epoch"]: line["alpha"] for line in lines if "alpha" in line}
    assert list(shares) == list(range(1, config.epochs + 1))
    assert all(sum(row.values()) == pytest.approx(1) for row in shares.values())
    scores = weights(tmp_path)["scores"]
    expected = scores.exp() / scores.exp().sum()
    assert list(shares[config.epochs].values()) == pytest.approx(expected.tolist())


def test_frozen_batchnorms_stay_as_loaded_over_a_run_with_evaluations(tmp_path: Path) -> None:
    job = small_job(small_config(freeze_batchnorm=True, evaluate_every=1))
    before = copy.deepcopy(job.net.state_dict())
    Training(job, RunFolder(tmp_path)).fit()
    changed = {k for k, v in weights(tmp_path).items() if not torch.equal(v, before[k])}
    convolutions = {f"network.{i}.{kind}" for i in (0, 4) for kind in ("weight", "bias")}
    assert changed == convolutions | {"scores"}


def test_memory_layout_does_not_change_what_is_learned(tmp_path: Path) -> None:
    for layout in (True, False):
        job = small_job(small_config(channels_last=layout))
        # Without dropout, which draws in the order of the memory.
        job.net.network.set_submodule("3", nn.Identity())
        Training(job, RunFolder.create(tmp_path / str(layout), {})).fit()
    first, second = weights(tmp_path / "True"), weights(tmp_path / "False")
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], rtol=1e-4, atol=1e-5)


def test_two_runs_are_equal_and_another_state_of_random_numbers_is_not(
    whole: Path, tmp_path: Path
) -> None:
    Training(small_job(), RunFolder.create(tmp_path / "same", {})).fit()
    assert_runs_are_equal(whole, tmp_path / "same")
    job = small_job()
    torch.manual_seed(5)
    Training(job, RunFolder.create(tmp_path / "other", {})).fit()
    with pytest.raises(AssertionError):
        assert_equal(weights(whole), weights(tmp_path / "other"))
