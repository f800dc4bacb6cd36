"""Steps that leave out resolutions: one drawn at random, or from large to small."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import nn

from rsseg.common.config import ConfigError
from rsseg.losses.mred import MREDLosses, mred_loss
from rsseg.switchable.net import SwitchableNet
from rsseg.training.loop import Training
from rsseg.training.run_folder import RunFolder
from rsseg.training.state import resolutions_of_step
from rsseg.training.step import Outputs
from tests.helpers.small_runs import small_config, small_job

SIDES = [40, 32, 24, 16]


def order(count: int, steps: int) -> list[list[int]]:
    config = small_config(resolutions=SIDES[:count], order="large_to_small")
    draw = random.Random(0)
    return [resolutions_of_step(config, step / steps, draw) for step in range(steps)]


def test_smaller_resolutions_join_at_equal_distances_until_half_of_the_run() -> None:
    # Of 12 steps and 4 resolutions: one more behind every two steps, all from the seventh on.
    expected = [[0]] * 2 + [[0, 1]] * 2 + [[0, 1, 2]] * 2 + [[0, 1, 2, 3]] * 6
    assert order(4, 12) == expected
    assert order(1, 3) == [[0]] * 3
    assert order(2, 4) == [[0], [0], [0, 1], [0, 1]]


def test_one_random_resolution_is_each_as_often_as_the_others() -> None:
    config = small_config(resolutions=SIDES, random_resolution=True, distillation="none")
    draw = random.Random(3)
    counts = Counter(tuple(resolutions_of_step(config, 0.0, draw)) for _ in range(2000))
    assert set(counts) == {(0,), (1,), (2,), (3,)}
    # Four standard deviations of a binomial of 2000 and 1/4.
    assert all(abs(count - 500) < 78 for count in counts.values())


def training(folder: Path, **values: object) -> Training:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    ensemble = values.get("distillation") != "none"
    net = SwitchableNet(nn.Sequential(*layers, nn.Linear(4, 3)), SIDES, scores=ensemble)
    config = small_config(resolutions=SIDES, **values)

    def loss(outputs: Outputs) -> MREDLosses:
        variant = "full" if ensemble else "none"
        return mred_loss(outputs.logits, outputs.target, outputs.scores, variant=variant)

    return Training(small_job(config, net=net, loss=loss), RunFolder(folder))


@pytest.mark.parametrize(
    "values", [{"random_resolution": True, "distillation": "none"}, {"order": "large_to_small"}]
)
def test_sets_of_resolutions_outside_a_step_stay(tmp_path: Path, values: dict[str, object]) -> None:
    run = training(tmp_path, **values)
    views = [torch.randint(0, 256, (4, 3, r, r), dtype=torch.uint8) for r in SIDES]
    sets = run.job.net.network.get_submodule("1").state_dict()
    before = {key: value.clone() for key, value in sets.items()}
    members = run.stepper._members()
    run.stepper.step(views, torch.tensor([0, 1, 2, 0]))
    moved = {int(key.split(".")[1]) for key, value in before.items() if not value.equal(sets[key])}
    assert members is not None
    assert moved == {SIDES[member] for member in members}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"random_resolution": True}, "'full' needs all resolutions in a step"),
        ({"random_resolution": True, "sandwich": True}, "choose one of them"),
        ({"sandwich": True, "order": "large_to_small"}, "choose one"),
        (
            {"random_resolution": True, "distillation": "none", "init": "x", "adapt": {}},
            "set adapt.teacher to 0",
        ),
    ],
)
def test_settings_that_exclude_each_other_are_refused(
    values: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        small_config(resolutions=SIDES, **values)
