"""Evaluating the checkpoints of a classifier: at untrained resolutions, under every rule."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import train_cls
import train_seg
from datasets.classification import TestImages
from rsseg.load import load_checkpoint
from rsseg.training.evaluate_checkpoint import recalibrated
from tests.helpers import small_scripts
from tests.helpers.small_images import image_config, write_run
from tests.helpers.small_scripts import results

run = partial(small_scripts.run, train_cls.SCRIPT)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("images"), epochs=1)


@pytest.fixture(scope="module")
def whole(config: Path) -> Path:
    """A complete run."""
    folder = config.parent / "whole"
    assert run(config, "--run", folder) == 0
    return folder


def test_checkpoint_predicts_as_the_network_was_evaluated(whole: Path, config: Path) -> None:
    net, preprocessing, metadata = load_checkpoint(whole / "last.pt")
    assert (metadata.task, preprocessing.fit) == ("classification", "crop")
    tests = TestImages(image_config(config.parent / "data"))
    answers = np.load(whole / "correctness.npz")
    with torch.no_grad():
        for resolution in (48, 40, 36, 32):
            logits = [
                net.predict(preprocessing.normalise(views[0]), resolution)
                for views, _ in tests.batches([resolution])
            ]
            predicted = torch.cat(logits).argmax(dim=1).tolist()
            assert predicted == answers[f"predicted_{resolution}"].tolist()


@pytest.mark.parametrize("rule", ["interpolate", "nearest", "extrapolate", "recalibrate"])
def test_untrained_resolutions_are_evaluated_under_every_rule(
    whole: Path, tmp_path: Path, rule: str
) -> None:
    out = tmp_path / "out"
    command = ["--evaluate", whole / "last.pt", "--resolutions", 64, 48, 44, 40, 36, 32]
    assert run(*command, "--unseen", rule, "--images", 8, "--out", out) == 0
    found = results(out)
    assert found["unseen"] == rule
    assert list(found["metrics"]) == ["64", "48", "44", "40", "36", "32", "ensemble"]
    trained = results(whole)["metrics"]
    assert all(found["metrics"][name] == trained[name] for name in trained)
    assert "correct_44" in np.load(out / "correctness.npz")


def test_rules_give_other_sets_to_the_same_resolution(whole: Path) -> None:
    config = image_config(whole.parent / "data")
    images = config.preprocessing.normalise(torch.cat(list(TestImages(config).calibration(52, 8))))
    seen = {}
    for rule in ("interpolate", "nearest", "extrapolate", "recalibrate"):
        net, _, _ = load_checkpoint(whole / "last.pt")
        if rule == "recalibrate":
            net = recalibrated(net, config, TestImages(config), [52, 44], 8)
        else:
            net.unseen = rule
        with torch.no_grad():
            seen[rule] = [net.predict(images, side) for side in (52, 44)]
    # Above the trained range interpolation takes the nearest set, between them extrapolation
    # interpolates; recalibration measures anew.
    assert torch.equal(seen["interpolate"][0], seen["nearest"][0])
    assert torch.equal(seen["interpolate"][1], seen["extrapolate"][1])
    for rule, side in (("extrapolate", 0), ("nearest", 1), ("recalibrate", 0), ("recalibrate", 1)):
        assert not torch.allclose(seen[rule][side], seen["interpolate"][side], rtol=1e-3)


def test_images_to_calibrate_on_come_from_all_classes_in_every_full_batch(config: Path) -> None:
    root = config.parent / "data"
    batches = list(TestImages(image_config(root, batch_size=5)).calibration(32, 12))
    assert [len(batch) for batch in batches] == [5, 5]  # the rest of 2 would count as much
    # The brightest channel is the class.
    classes = [set(b.float().mean(dim=(2, 3)).argmax(dim=1).tolist()) for b in batches]
    assert all(len(found) > 1 for found in classes)
    assert [len(b) for b in TestImages(image_config(root)).calibration(32, 3)] == [3]


def test_recalibration_moves_statistics_of_untrained_resolutions_alone(whole: Path) -> None:
    net, _, _ = load_checkpoint(whole / "last.pt")
    config = image_config(whole.parent / "data")
    before = {k: v.clone() for k, v in net.state_dict().items()}
    net = recalibrated(net, config, TestImages(config), [48, 44], 12)
    after = net.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    added = {k for k in after if ".sets.44." in k}
    assert set(after) == set(before) | added
    # By hand: the mean of the first BatchNorm's input over all training images, in batches of 4.
    images = torch.cat(list(TestImages(config).calibration(44, 12)))
    assert images.shape == (12, 3, 44, 44)
    with torch.no_grad():
        first = net.network.get_submodule("conv1.0")(config.preprocessing.normalise(images))
    mean = after["network.conv1.1.sets.44.running_mean"]
    torch.testing.assert_close(mean, first.mean(dim=(0, 2, 3)), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("batchnorm", ["private", "shared"])
def test_network_of_one_resolution_is_tested_at_others(
    config: Path, tmp_path: Path, batchnorm: str
) -> None:
    settings = ["resolutions=[48]", "distillation=none", f"batchnorm={batchnorm}", "epochs=1"]
    assert run(config, "--run", tmp_path / "run", "--set", *settings) == 0
    for rule in ("interpolate", "recalibrate"):
        command = ["--evaluate", tmp_path / "run" / "last.pt", "--resolutions", 48, 32]
        out = tmp_path / rule
        assert run(*command, "--unseen", rule, "--images", 8, "--out", out) == 0
        assert list(results(out)["metrics"]) == ["48", "32"]


def test_checkpoint_of_a_segmenter_is_refused(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_seg.main(["--evaluate", str(whole / "last.pt")]) == 2
    message = capsys.readouterr().err
    assert "is a checkpoint of classification, this script is for segmentation" in message
