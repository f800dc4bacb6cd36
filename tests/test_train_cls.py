"""The training script on small images: whole runs, resuming, evaluation rules, wrong input."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import train_cls
from datasets.classification import TestImages
from rsseg.load import load_checkpoint
from tests import small_scripts
from tests.small_images import CLASSES, image_config, write_images
from tests.small_runs import assert_runs_are_equal, stop_after

STEPS, EPOCHS = 3, 2  # 12 images for training, in batches of 4
CONFIG = """
model: {{name: resnet18, classes: 3}}
resolutions: [48, 40, 36, 32]
data: {{root: {root}}}
epochs: 2
batch_size: 4
optim: {{lr: 0.02}}
workers: 0
device: cpu
"""
# Everything that is off by default, at once.
ALL = ["mixing.mixup=0.2", "mixing.cutmix=1.0", "label_smoothing=0.1", "ema_decay=0.8"]
ALL += ["sandwich=true", "augmentation.crops=per_resolution", "augmentation.flips=per_resolution"]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_images(folder / "data")
    path = folder / "small.yaml"
    path.write_text(CONFIG.format(root=folder / "data"))
    return path


@pytest.fixture(scope="module")
def whole(config: Path) -> Path:
    """A complete run."""
    folder = config.parent / "whole"
    assert run(config, "--run", folder) == 0
    return folder


@pytest.fixture(scope="module")
def whole_with_all(config: Path) -> Path:
    """A complete run with every option."""
    folder = config.parent / "whole_with_all"
    assert run(config, "--run", folder, "--set", *ALL) == 0
    return folder


run = partial(small_scripts.run, train_cls.SCRIPT)
refusal = partial(small_scripts.refusal, train_cls.SCRIPT)


def results(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return content


def test_run_folder_holds_results_and_the_answer_to_every_image(whole: Path) -> None:
    found = results(whole)
    names = ["48", "40", "36", "32", "ensemble"]
    assert list(found["metrics"]) == names
    assert found["task"] == "classification"
    assert found["classes"] == list(CLASSES)
    assert found["unreadable"] == {"train": {}, "test": {}}
    answers = np.load(whole / "correctness.npz", allow_pickle=False)
    assert answers["names"].tolist() == [f"{c}/{i}.png" for c in CLASSES for i in range(3)]
    truth = np.repeat(np.arange(3), 3)
    for name in names:
        predicted = answers[f"predicted_{name}"]
        assert answers[f"correct_{name}"].tolist() == (predicted == truth).tolist()
        assert found["metrics"][name]["top1"] == pytest.approx((predicted == truth).mean())


def test_run_stopped_after_an_epoch_ends_as_if_it_was_not(
    config: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(monkeypatch, STEPS)
    assert run(config, "--run", tmp_path / "run") == 130
    stop_after(monkeypatch, None)
    assert run("--resume", tmp_path / "run") == 0
    assert_runs_are_equal(whole, tmp_path / "run")


@pytest.mark.parametrize("step", [STEPS, STEPS + 1])
def test_stopped_run_with_every_option_ends_as_if_it_was_not(
    config: Path, whole_with_all: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    stop_after(monkeypatch, step)
    assert run(config, "--run", tmp_path / "run", "--set", *ALL, "workers=2") == 130
    stop_after(monkeypatch, None)
    assert run("--resume", tmp_path / "run", "--set", "workers=0") == 0
    assert_runs_are_equal(whole_with_all, tmp_path / "run")


def test_checkpoint_predicts_as_the_network_was_evaluated(whole: Path, config: Path) -> None:
    net, preprocessing, metadata = load_checkpoint(whole / "last.pt")
    assert (metadata["task"], preprocessing.fit) == ("classification", "crop")
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


def test_recalibration_moves_statistics_of_untrained_resolutions_alone(whole: Path) -> None:
    from rsseg.task import recalibrated

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
        first = net.network.get_submodule("conv1")(config.preprocessing.normalise(images))
    mean = after["network.bn1.sets.44.running_mean"]
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


def test_equal_resolutions_have_a_batchnorm_each(config: Path, tmp_path: Path) -> None:
    settings = ["resolutions=[32,32,32]", "augmentation.crops=per_resolution", "epochs=1"]
    assert run(config, "--run", tmp_path / "run", "--set", *settings) == 0
    assert list(results(tmp_path / "run")["metrics"]) == ["32", "32_2", "32_3", "ensemble"]
    state = torch.load(tmp_path / "run" / "last.pt", weights_only=True)["net"]
    means = [state[f"network.bn1.sets.{name}.running_mean"] for name in ("32", "32_2", "32_3")]
    assert not torch.equal(means[0], means[1])


def test_fixed_teacher_teaches(config: Path, whole: Path, tmp_path: Path) -> None:
    settings = ["epochs=1", "preprocessing.mean=[0.1,0.2,0.3]"]
    teacher = f"teacher={{checkpoint: {whole / 'last.pt'}, weight: 0.5}}"
    assert run(config, "--run", tmp_path / "alone", "--set", *settings) == 0
    assert run(config, "--run", tmp_path / "taught", "--set", *settings, teacher) == 0
    lines = [
        json.loads((tmp_path / name / "log.jsonl").read_text().splitlines()[0])
        for name in ("alone", "taught")
    ]
    assert lines[1]["distillation"] > lines[0]["distillation"]


def test_estimate_tells_time_and_memory_and_writes_nothing(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(config.parent.rglob("*"))
    assert run(config, "--run", tmp_path / "run", "--estimate") == 0
    text = capsys.readouterr().out
    for part in ("images/s", "an epoch (3 steps)", "the run (2 epochs", "peak memory", "GiB"):
        assert part in text
    assert sorted(config.parent.rglob("*")) == before
    assert not (tmp_path / "run").exists()


def test_profile_tells_the_share_of_each_part_and_writes_a_trace(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "trace.json"
    settings = ["--set", "batch_size=2", "memory=checkpoint"]
    assert run(config, "--profile", trace, *settings) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    shares = {line.split("%")[1].strip(): float(line.split("%")[0]) for line in lines}
    forward = {f"forward {side}" for side in (48, 40, 36, 32)}
    assert set(shares) > forward | {"data wait", "loss", "backward", "optimiser"}
    assert sum(shares.values()) == pytest.approx(100, abs=1)
    assert json.loads(trace.read_text())["traceEvents"]
    assert "exists and is not overwritten" in refusal(capsys, config, "--profile", trace)


def test_unreadable_images_are_skipped_up_to_the_limit_and_written_down(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_images(tmp_path / "data")
    for name in ("train/ant/0.png", "val/bee/0.png"):
        (root / name).write_bytes(b"no image")
    given = [config, "--set", f"data.root={root}", "epochs=1"]
    assert run(*given, "--run", tmp_path / "strict") == 2
    assert "error: " in (line := capsys.readouterr().err.splitlines()[-1])
    assert "train/ant/0.png: unreadable image" in line
    allowed = [*given, "data.max_unreadable=1", "--run", tmp_path / "run"]
    assert run(*allowed) == 0
    found = results(tmp_path / "run")
    names = {split: list(files) for split, files in found["unreadable"].items()}
    assert names == {"train": ["ant/0.png"], "test": ["bee/0.png"]}
    assert {row["images"] for row in found["metrics"].values()} == {8}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["model.classes=4"], "3 class folders"),
        (["model.name=resnet8"], "unknown network 'resnet8'"),
        (["data.root=nowhere"], "nowhere"),
        (["batch_size=1"], "batch_size 1 leaves the last BatchNorm"),
        (["batch_size=13"], "fewer than one batch of 13"),
        (["augmentation.area=[0.5,0.1]"], "area must run from small to large"),
        (["teacher={checkpoint: nowhere.pt}"], "there is no checkpoint nowhere.pt"),
        (["model.name=vit_b_16"], "vit_b_16 cannot take images of resolution 48"),
        (["model.name=alexnet"], "alexnet cannot take images of resolution 48: Given input size"),
        (["model.name=alexnet", "resolutions=[96, 64]"], "no BatchNorm"),
        (["lable_smoothing=0.1"], "did you mean 'label_smoothing'"),
    ],
)
def test_wrong_settings_are_refused_before_a_folder_is_made(
    config: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    settings: list[str],
    message: str,
) -> None:
    given = refusal(capsys, config, "--run", tmp_path / "run", "--set", *settings)
    assert message in given
    assert not (tmp_path / "run").exists()


def test_checkpoint_of_a_segmenter_is_refused(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import train_seg

    assert train_seg.main(["--evaluate", str(whole / "last.pt")]) == 2
    message = capsys.readouterr().err
    assert "is a checkpoint of classification, this script is for segmentation" in message
