"""The training script on small images: whole runs, resuming, evaluation rules, wrong input."""

from __future__ import annotations

import json
import runpy
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import train_cls
from tests.helpers import small_scripts
from tests.helpers.small_images import CLASSES, write_images, write_run
from tests.helpers.small_runs import assert_runs_are_equal, stop_after
from tests.helpers.small_scripts import results

STEPS, EPOCHS = 3, 2  # 12 images for training, in batches of 4
# Everything that is off by default, at once.
ALL = ["mixing.mixup=0.2", "mixing.cutmix=1.0", "label_smoothing=0.1", "ema_decay=0.8"]
ALL += ["sandwich=true", "augmentation.crops=per_resolution", "augmentation.flips=per_resolution"]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("images"), epochs=2)


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


def test_equal_resolutions_have_a_batchnorm_each(config: Path, tmp_path: Path) -> None:
    settings = ["resolutions=[32,32,32]", "augmentation.crops=per_resolution", "epochs=1"]
    assert run(config, "--run", tmp_path / "run", "--set", *settings) == 0
    assert list(results(tmp_path / "run")["metrics"]) == ["32", "32_2", "32_3", "ensemble"]
    state = torch.load(tmp_path / "run" / "last.pt", weights_only=True)["net"]
    means = [state[f"network.bn1.sets.{name}.running_mean"] for name in ("32", "32_2", "32_3")]
    assert not torch.equal(means[0], means[1])


def test_script_ends_with_the_status_of_its_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["train_cls.py", "gone.yaml"])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(train_cls.__file__, run_name="__main__")
    assert "cannot read gone.yaml" in capsys.readouterr().err


def test_estimate_tells_time_and_memory_and_writes_nothing(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(config.parent.rglob("*"))
    assert run(config, "--run", tmp_path / "run", "--estimate") == 0
    text = capsys.readouterr().out
    parts = ("images/s", "loading them with 0 workers", "an epoch (3 steps)", "the run (2 epochs")
    for part in (*parts, "peak memory", "GiB"):
        assert part in text
    assert sorted(config.parent.rglob("*")) == before
    assert not (tmp_path / "run").exists()


def test_profile_tells_the_share_of_each_part_and_writes_a_trace(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "trace.json"
    settings = ["--set", "batch_size=2", "memory=checkpoint"]
    assert run(config, "--profile", trace, *settings) == 0
    images, tests, _, *lines = capsys.readouterr().out.splitlines()
    assert images.startswith("train: class folders, 12 images, 3 classes; ")
    assert tests.startswith("test: class folders, ")
    shares = {line.split("%")[1].strip(): float(line.split("%")[0]) for line in lines}
    forward = {f"forward {side}" for side in (48, 40, 36, 32)}
    assert set(shares) > forward | {"data wait", "loss", "backward", "optimiser"}
    assert sum(shares.values()) == pytest.approx(100, abs=1)
    assert json.loads(trace.read_text())["traceEvents"]
    assert "exists; choose another name" in refusal(capsys, config, "--profile", trace)


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


def test_run_is_not_continued_with_other_training_images(
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = write_images(tmp_path / "data")
    stop_after(monkeypatch, STEPS)
    assert run(config, "--run", tmp_path / "run", "--set", f"data.root={root}") == 130
    stop_after(monkeypatch, None)
    (root / "train" / "ant" / "0.png").rename(root / "train" / "bee" / "new.png")
    assert "was trained on other data" in refusal(capsys, "--resume", tmp_path / "run")


def test_limit_of_unreadable_images_is_raised_and_what_was_met_is_kept(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_images(tmp_path / "data")
    (root / "train" / "ant" / "0.png").write_bytes(b"no image")
    folder = tmp_path / "run"
    stop_after(monkeypatch, STEPS)
    settings = [f"data.root={root}", "data.max_unreadable=1"]
    assert run(config, "--run", folder, "--set", *settings) == 130
    stop_after(monkeypatch, None)
    write_images(tmp_path / "whole")
    (root / "train" / "ant" / "0.png").write_bytes(
        (tmp_path / "whole/train/ant/0.png").read_bytes()
    )
    (root / "train" / "bee" / "0.png").write_bytes(b"no image")
    assert run("--resume", folder) == 2
    assert run("--resume", folder, "--set", "data.max_unreadable=2") == 0
    assert set(results(folder)["unreadable"]["train"]) == {"ant/0.png", "bee/0.png"}


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
