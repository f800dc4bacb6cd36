"""Which number format a run takes that leaves it open, and that it keeps it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

import train_cls
from classification.task import CLASSIFICATION
from datasets.classification import TestImages, training_batches
from rsseg.load import load_checkpoint
from rsseg.training import beginning
from rsseg.training.beginning import has_depthwise, precision_for, slow_message, with_precision
from rsseg.training.task import build_job, build_net
from tests.helpers import small_scripts
from tests.helpers.small_images import image_config, write_images, write_run
from tests.helpers.small_runs import small_config, small_job, small_net, stop_after

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
run = partial(small_scripts.run, train_cls.SCRIPT)


def pretend(patch: pytest.MonkeyPatch, *, bf16: bool) -> None:
    """Make this machine one with or without bf16."""
    patch.setattr(beginning, "computes_bf16", lambda _: bf16)
    patch.setattr(beginning, "processor_class", lambda: "AVX-512 bf16" if bf16 else "AVX2")
    patch.setattr(torch.cuda, "get_device_name", lambda _: "a GPU")


PLAIN = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=2), nn.Conv2d(8, 8, 1))
DEPTHWISE = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=8))


Rule = tuple[nn.Module, torch.device, bool, str, str]
RULES: dict[str, Rule] = {
    "with": (PLAIN, CPU, True, "bf16", "this processor (AVX-512 bf16) computes in it"),
    "without": (PLAIN, CPU, False, "fp32", "this processor (AVX2) does not compute in bf16"),
    "depthwise": (DEPTHWISE, CPU, True, "fp32", "has depthwise convolutions"),
    "neither": (DEPTHWISE, CPU, False, "fp32", "does not compute in bf16"),
    "GPU": (PLAIN, CUDA, True, "bf16", "this device (a GPU) computes in it"),
    "depthwise on a GPU": (DEPTHWISE, CUDA, True, "bf16", "this device (a GPU) computes in it"),
    "old GPU": (PLAIN, CUDA, False, "fp32", "this device (a GPU) does not compute in bf16"),
    "another": (PLAIN, torch.device("mps"), False, "fp32", "'mps' does not compute in bf16"),
}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_format_follows_from_device_and_network(
    monkeypatch: pytest.MonkeyPatch, rule: Rule
) -> None:
    net, device, bf16, expected, reason = rule
    pretend(monkeypatch, bf16=bf16)
    found = precision_for(net, device)
    assert found[0] == expected
    assert reason in found[1]


def test_convolution_of_one_channel_is_not_depthwise() -> None:
    assert not has_depthwise(nn.Conv2d(1, 8, 3))
    assert not has_depthwise(PLAIN)
    assert has_depthwise(DEPTHWISE)


def test_what_is_taken_is_one_line_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(monkeypatch, bf16=True)
    assert with_precision(small_config(precision="auto"), small_net()).precision == "bf16"
    line = "precision: bf16, as this processor (AVX-512 bf16) computes in it\n"
    assert capsys.readouterr().err == line
    pretend(monkeypatch, bf16=False)
    assert with_precision(small_config(precision="auto"), small_net()).precision == "fp32"
    line = "precision: fp32, as this processor (AVX2) does not compute in bf16\n"
    assert capsys.readouterr().err == line


@pytest.mark.parametrize("others", [["bf16", "fp32"], ["fp32", "bf16"]])
def test_processes_take_what_the_least_able_of_them_computes_in(
    monkeypatch: pytest.MonkeyPatch, others: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(monkeypatch, bf16=True)
    gathered = [(name, f"why {name}") for name in others]
    monkeypatch.setattr(beginning, "all_gather_object", lambda _: gathered)
    assert with_precision(small_config(precision="auto"), small_net()).precision == "fp32"
    assert capsys.readouterr().err == "precision: fp32, as why fp32\n"


def test_format_that_is_named_stays_and_a_slow_one_is_warned_of_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(monkeypatch, bf16=False)
    config = small_config(precision="bf16")
    assert with_precision(config, small_net()) is config
    (line,) = capsys.readouterr().err.splitlines()[1:]
    assert line.startswith("warning: precision 'bf16' is slow here: this processor (AVX2) does not")
    assert "set precision to 'auto' or 'fp32'" in line
    assert "precision 'fp16' is slow here" in slow_message("fp16", CPU)
    assert slow_message("fp32", CPU) == slow_message("fp16", CUDA) == ""
    pretend(monkeypatch, bf16=True)
    assert slow_message("bf16", CPU) == slow_message("bf16", CUDA) == ""


def test_job_asks_for_a_format() -> None:
    with pytest.raises(ValueError, match=r"precision 'auto' names no number format yet; give Job"):
        small_job(small_config(precision="auto"))


def test_job_of_the_library_has_the_format_in_settings_and_metadata(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, bf16=True)
    config = image_config(write_images(tmp_path), precision="auto")
    net = build_net(CLASSIFICATION, config, CPU)
    job = build_job(CLASSIFICATION, config, net, training_batches(config), TestImages(config))
    assert job.config.precision == job.metadata.config["precision"] == "bf16"


def test_run_keeps_its_format_on_a_machine_that_would_take_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config, folder = write_run(tmp_path, epochs=2), tmp_path / "run"
    config.write_text(config.read_text() + "precision: auto\n")
    pretend(monkeypatch, bf16=True)
    stop_after(monkeypatch, 3)
    assert run(config, "--run", folder) == 130
    assert "precision: bf16, as this" in capsys.readouterr().err
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    assert settings["precision"] == "bf16"
    stop_after(monkeypatch, None)
    pretend(monkeypatch, bf16=False)
    # By its folder or by its file, which still says auto.
    stop_after(monkeypatch, 1)
    assert run(config, "--continue", "--run", folder) == 130
    stop_after(monkeypatch, None)
    assert run("--resume", folder) == 0
    assert capsys.readouterr().err.count("warning: precision 'bf16' is slow here") == 2
    assert yaml.safe_load((folder / "config.yaml").read_text())["precision"] == "bf16"
    results = json.loads((folder / "results.json").read_text())
    assert results["config"]["precision"] == "bf16"
    assert load_checkpoint(folder / "last.pt")[2].config["precision"] == "bf16"


def test_run_without_bf16_holds_fp32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, folder = write_run(tmp_path, epochs=0), tmp_path / "run"
    pretend(monkeypatch, bf16=False)
    assert run(config, "--run", folder, "--set", "precision=auto") == 0
    assert yaml.safe_load((folder / "config.yaml").read_text())["precision"] == "fp32"
    pretend(monkeypatch, bf16=True)  # Continued where bf16 would be faster.
    assert run(config, "--continue", "--run", folder, "--set", "precision=auto") == 0
    assert load_checkpoint(folder / "last.pt")[2].config["precision"] == "fp32"
