"""Frozen parts keep weights, gamma, beta and statistics; what follows is trained on time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rsseg.classifiers.build import build_classifier
from rsseg.switchable.net import SwitchableNet
from rsseg.training.config import FreezeConfig, RunConfig
from rsseg.training.freezing import Freezing
from rsseg.training.interrupt import Interrupted
from rsseg.training.loop import Training
from rsseg.training.run_folder import RunFolder
from tests.helpers.small_runs import (
    STEPS,
    assert_runs_are_equal,
    small_config,
    small_job,
    small_net,
    stop_after,
)


def trained(folder: Path, config: RunConfig) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Train a run; return its state before and after."""
    job = small_job(config)
    before = {k: v.clone() for k, v in job.net.state_dict().items()}
    Training(job, RunFolder.create(folder, {})).fit()
    return before, job.net.state_dict()


def kept(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {key for key, value in before.items() if torch.equal(value, after[key])}


@pytest.mark.parametrize("memory", ["normal", "checkpoint", "two_pass"])
@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_frozen_body_keeps_weights_and_statistics_and_the_head_is_trained(
    tmp_path: Path, memory: str, kind: str
) -> None:
    optim = {"lr": 0.01, "kind": kind}
    config = small_config(freeze="body", memory=memory, optim=optim, ema_decay=0.9)
    before, after = trained(tmp_path / "run", config)
    # Of the small network, 0 is a convolution, 1 its BatchNorm, 4 the head.
    frozen = {key for key in before if key.startswith(("network.0.", "network.1."))}
    assert kept(before, after) == frozen
    assert any("running_mean" in key for key in frozen)


def test_part_is_trained_from_its_epoch_on(tmp_path: Path) -> None:
    freeze = [{"part": "0", "epochs": 2}, "1"]
    before, after = trained(tmp_path / "a", small_config(freeze=freeze, epochs=2))
    assert {key for key in kept(before, after) if "network.0" in key} == {
        "network.0.weight",
        "network.0.bias",
    }
    before, after = trained(tmp_path / "b", small_config(freeze=freeze, epochs=3))
    assert not any(key.startswith("network.0.") for key in kept(before, after))
    assert any(key.startswith("network.1.") for key in kept(before, after))


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
@pytest.mark.parametrize("steps", [STEPS - 1, STEPS, STEPS + 1, 2 * STEPS])
def test_run_stopped_around_the_thaw_ends_as_if_it_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int, kind: str
) -> None:
    config = small_config(
        freeze={"part": "body", "epochs": 1}, optim={"lr": 0.01, "kind": kind}, ema_decay=0.9
    )
    Training(small_job(config), RunFolder.create(tmp_path / "whole", {})).fit()
    folder = RunFolder.create(tmp_path / "stopped", {})
    stop_after(monkeypatch, steps)
    with pytest.raises(Interrupted):
        Training(small_job(config), folder).fit()
    stop_after(monkeypatch, None)
    Training.resume(small_job(config), folder).fit()
    assert_runs_are_equal(tmp_path / "whole", tmp_path / "stopped")


def names_of_frozen(net: SwitchableNet, *parts: str) -> set[str]:
    Freezing(net, [FreezeConfig(part=part) for part in parts]).apply(0)
    return {name for name, p in net.network.named_parameters() if not p.requires_grad}


def resnet() -> SwitchableNet:
    return SwitchableNet(build_classifier(name="resnet18", classes=3), [64, 32])


@pytest.mark.parametrize("part", ["body", "encoder", "layer1.0", "bn1", "layer*.0.conv1"])
def test_part_by_name_is_frozen_and_no_other(part: str) -> None:
    net = resnet()
    frozen = names_of_frozen(net, part)
    names = {name for name, _ in net.network.named_parameters()}
    if part in ("body", "encoder"):
        expected = {name for name in names if not name.startswith("fc.")}
    elif "*" in part:
        expected = {f"layer{stage}.0.conv1.weight" for stage in range(1, 5)}
    else:
        expected = {name for name in names if name.startswith(f"{part}.")}
    assert frozen == expected


def test_unknown_part_names_the_closest_and_all_parts() -> None:
    with pytest.raises(ValueError, match=r"no part .* 'layr1'; did you mean 'layer1'.*body, head"):
        Freezing(resnet(), [FreezeConfig(part="layr1")])


def test_network_with_nothing_left_to_train_is_refused() -> None:
    parts = [FreezeConfig(part="body"), FreezeConfig(part="head", epochs=1)]
    with pytest.raises(ValueError, match="freeze: body, head leaves nothing of the network"):
        Freezing(small_net(), parts)


def test_layers_that_never_trained_stay_so() -> None:
    net = small_net()
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.requires_grad_(False)
    freezing = Freezing(net, [FreezeConfig(part="body", epochs=1)])
    assert freezing.apply(0)
    assert not freezing.apply(0)
    assert freezing.apply(1)
    frozen = {n for n, p in net.network.named_parameters() if not p.requires_grad}
    assert frozen
    assert all("sets" in name for name in frozen)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("body", [("body", None)]),
        (["a", {"part": "b", "epochs": 2}], [("a", None), ("b", 2)]),
        ([], []),
    ],
)
def test_parts_are_written_as_names_or_with_epochs(value: Any, expected: Any) -> None:
    config = small_config(freeze=value)
    assert [(part.part, part.epochs) for part in config.freeze] == expected


@pytest.mark.parametrize(
    ("fixed", "epochs_that_count"), [({"first": 1}, 2), ({"last": 2}, 1), ({"first": 3}, 0)]
)
def test_fixed_statistics_stay_while_gamma_and_beta_are_trained(
    tmp_path: Path, fixed: dict[str, int], epochs_that_count: int
) -> None:
    config = small_config(epochs=3, fixed_statistics=fixed)
    before, after = trained(tmp_path / "run", config)
    counts = {int(v) for key, v in after.items() if key.endswith("num_batches_tracked")}
    assert counts == {epochs_that_count * STEPS}
    kinds = ("running_mean", "running_var")
    fixed_keys = {key for key in before if key.endswith(kinds)} if not epochs_that_count else set()
    assert {key for key in kept(before, after) if "num_batches" not in key} == fixed_keys


def test_batches_are_normalised_with_fixed_statistics(tmp_path: Path) -> None:
    job = small_job(small_config(fixed_statistics={"first": 1}))
    run = Training(job, RunFolder(tmp_path))
    run.stepper.begin_epoch()
    for layer in job.net.modules():
        if isinstance(layer, nn.Dropout):
            layer.eval()
    view = torch.rand(2, 3, *[job.net.resolutions[0]] * 2)
    with torch.no_grad():
        trained, whole = job.net.predict(view), job.net.predict(view[:1])
    # Statistics of a batch would make an image's answer depend on the other images.
    torch.testing.assert_close(trained[:1], whole)
