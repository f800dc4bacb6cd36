"""Whole runs that start from weights: what is said and written, and what a resumed run needs."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pytest
import timm
import torch
import yaml

import train_cls
from rsseg.classifiers.build import build_classifier
from rsseg.load import load_checkpoint
from tests.helpers import processes, small_scripts
from tests.helpers.small_checkpoint import write_checkpoint
from tests.helpers.small_images import write_run
from tests.helpers.small_runs import assert_runs_are_equal, stop_after
from tests.helpers.small_scripts import results

run = partial(small_scripts.run, train_cls.SCRIPT)
refusal = partial(small_scripts.refusal, train_cls.SCRIPT)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("images"), epochs=1)


@pytest.fixture(scope="module")
def trained(config: Path) -> Path:
    """The checkpoint of a run."""
    folder = config.parent / "trained"
    assert run(config, "--run", folder) == 0
    return folder / "last.pt"


def settings(folder: Path) -> dict[str, object]:
    values: dict[str, object] = yaml.safe_load((folder / "config.yaml").read_text())
    return values


def test_no_epoch_evaluates_the_start_as_evaluate_does(
    config: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert run(config, "--run", folder, "--init", trained, "--set", "epochs=0") == 0
    assert f"init {trained}: loaded" in capsys.readouterr().err
    assert run("--evaluate", trained, "--out", tmp_path / "again") == 0
    assert results(folder)["metrics"] == results(tmp_path / "again")["metrics"]
    assert results(folder)["epoch"] == 0
    ours, theirs = (load_checkpoint(path) for path in (folder / "last.pt", trained))
    states = [net.state_dict() for net, _, _ in (ours, theirs)]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    assert settings(folder)["init"] == ours[2].config["init"] == str(trained)


def test_resumed_run_needs_no_weights(
    config: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "start # 1.pt"
    copy.write_bytes(trained.read_bytes())
    options = ["--init", copy, "--set", "optim.kind=adamw", "optim.lr=0.001", "freeze=body"]
    assert run(config, "--run", tmp_path / "whole", *options) == 0
    stop_after(monkeypatch, 2)
    assert run(config, "--run", tmp_path / "run", *options) == 130
    stop_after(monkeypatch, None)
    copy.unlink()
    assert run(config, "--continue", "--run", tmp_path / "run", *options) == 0
    assert_runs_are_equal(tmp_path / "whole", tmp_path / "run")


def test_mean_and_std_come_from_the_weights_and_are_written(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = timm.create_model("test_resnet", num_classes=3)
    model.pretrained_cfg.update(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    timm.models.save_for_hf(model, tmp_path / "hub")
    options = ["--init", tmp_path / "hub", "--set", "epochs=0"]
    assert run(config, "--run", tmp_path / "a", *options) == 0
    assert "preprocessing: mean [0.1, 0.2, 0.3], std [0.4, 0.5, 0.6]" in capsys.readouterr().err
    images = load_checkpoint(tmp_path / "a" / "last.pt")[1]
    assert (images.mean, images.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    own = "preprocessing.mean=[0.5,0.5,0.5]"
    assert run(config, "--run", tmp_path / "b", *options, own) == 0
    warning = r"warning: preprocessing has mean \[0\.5.* been trained with mean \[0\.1"
    assert re.search(warning, capsys.readouterr().err)
    assert load_checkpoint(tmp_path / "b" / "last.pt")[1].mean == (0.5, 0.5, 0.5)
    # Continued with the file that sets neither, although the weights have gone.
    (tmp_path / "hub" / "config.json").unlink()
    assert run(config, "--continue", "--run", tmp_path / "a", *options) == 0


def test_bare_weights_of_timm_warn_of_its_record(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = timm.create_model("tf_efficientnet_lite0", num_classes=3)
    torch.save(model.state_dict(), tmp_path / "w.pth")
    options = ["--init", tmp_path / "w.pth", "--estimate", "--set"]
    assert run(config, *options, "model.name=timm/tf_efficientnet_lite0") == 0
    warning = r"warning: .*defaults, mean \[0\.485.* may have .*mean \[0\.5, 0"
    assert re.search(warning, capsys.readouterr().err)


def test_other_classes_restart_the_head_even_if_there_are_as_many(
    config: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    root = config.parent / "data"
    for split in ("train", "val"):
        (data / split).mkdir(parents=True)
        for old, new in (("ant", "ant"), ("bee", "bee"), ("cat", "dog")):
            (data / split / new).symlink_to(root / split / old)
    options = ["--init", trained, "--set", "epochs=0", f"data.root={data}"]
    assert run(config, "--run", tmp_path / "run", *options) == 0
    line = "the head starts anew: the checkpoint has a class 'cat' where the data have 'dog'"
    assert line in capsys.readouterr().err


def test_quantised_packed_file_starts_a_run(config: Path, tmp_path: Path) -> None:
    from rsseg.cli.main import main

    options = ["model.quantization={weights: 2, activations: 2}", "model.name=resnet18"]
    assert run(config, "--run", tmp_path / "run", "--set", "epochs=0", *options) == 0
    packed = tmp_path / "packed.safetensors"
    assert main(["pack", str(tmp_path / "run" / "last.pt"), "--out", str(packed)]) == 0
    again = tmp_path / "again"
    assert run(config, "--run", again, "--init", packed, "--set", "epochs=0", *options) == 0
    assert results(again)["metrics"] == results(tmp_path / "run")["metrics"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--init", "nowhere.pth"], "init: there is no file 'nowhere.pth'; give a checkpoint of"),
        (["--set", "freeze=layr1"], "no part of the network is named 'layr1'; did you mean"),
        (["--set", "optim.kind=adam"], "Input should be 'sgd' or 'adamw', got 'adam'"),
    ],
)
def test_wrong_start_is_named_before_a_folder_is_made(
    config: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    assert message in refusal(capsys, config, "--run", tmp_path / "run", *options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("task", "network"),
    [
        ("classification", "classification with mobilenetv2_035"),
        ("segmentation", "segmentation with unet on resnet18"),
    ],
)
def test_checkpoint_of_another_network_is_named_with_both_networks(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], task: str, network: str
) -> None:
    checkpoint = write_checkpoint(tmp_path / "other.pt", task, preprocessing={})
    message = refusal(capsys, config, "--run", tmp_path / "run", "--init", checkpoint)
    own = "the configuration is of classification with test_resnet; choose"
    start = f"init {checkpoint} is a checkpoint of {network}, {own}"
    assert start in message
    assert message.index(start) < message.index("does not fit")


def train(arguments: list[str]) -> int:
    return train_cls.main(arguments)


def test_two_processes_thaw_a_part_as_one_does(config: Path, tmp_path: Path) -> None:
    state = build_classifier(name="test_resnet", classes=3).state_dict()
    torch.save(state, tmp_path / "w.pth")
    # The whole data set is one batch, so that its order does not matter.
    options = [
        "--init",
        tmp_path / "w.pth",
        "--set",
        "freeze=[{part: body, epochs: 2}]",
        "epochs=4",
    ]
    options += ["batch_size=12", "optim.lr=1e-3", "sync_batchnorm=true"]
    assert run(config, "--run", tmp_path / "one", *options) == 0
    command = [config, "--run", tmp_path / "two", *options]
    first, second = processes.start(train, command, tmp_path, 2)
    assert processes.finish([first, second]) == [0, 0], first.printed + second.printed
    assert "init " in first.printed
    assert second.printed == ""
    one, two = (
        torch.load(tmp_path / name / "last.pt", weights_only=True)["net"] for name in ("one", "two")
    )
    moved = 0
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=2e-3, atol=2e-4)
        plain = key.removeprefix("network.")
        moved += plain in state and not torch.equal(value, state[plain])
    assert moved > 5
