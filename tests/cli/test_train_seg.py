"""The training script on drawn rooms: whole runs, resuming, evaluation and wrong input."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import train_seg
from datasets.rooms.room import write_rooms
from datasets.segmentation import TestSamples
from rsseg.common.config import validate
from rsseg.load import load_checkpoint
from rsseg.segmentation.config import SegmentationConfig
from rsseg.segmentation.evaluate import SegmentationEvaluator
from tests.helpers import small_scripts
from tests.helpers.small_runs import assert_runs_are_equal, stop_after

STEPS, EPOCHS = 4, 3  # 9 rooms for training, in batches of 2
CONFIG = """
model: {{encoder_name: tu-test_resnet, decoder_channels: 4, dropout: 0.2}}
resolutions: [64, 32]
data: {{root: {root}, allow_absent: true}}
augmentation: {{shorter_side: 48, crop: 64}}
epochs: 3
batch_size: 2
optim: {{lr: 0.02}}
workers: 0
device: cpu
"""

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rooms")
    write_rooms(folder / "rooms.mat", 11, size=(48, 64))
    path = folder / "small.yaml"
    path.write_text(CONFIG.format(root=folder / "rooms.mat"))
    return path


@pytest.fixture(scope="module")
def whole(config: Path) -> Path:
    """A complete run."""
    folder = config.parent / "whole"
    assert run(config, "--run", folder) == 0
    return folder


run = partial(small_scripts.run, train_seg.SCRIPT)
refusal = partial(small_scripts.refusal, train_seg.SCRIPT)


def test_run_folder_holds_all_that_a_run_is(
    whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {path.name for path in whole.iterdir()}
    files = {"config.yaml", "last.pt", "best.pt", "log.jsonl", "results.json", "results.csv"}
    files.add("previous.pt")
    assert names == files | {"per_class.csv", "tensorboard"}
    results = json.loads((whole / "results.json").read_text())
    assert list(results["metrics"]) == ["64", "32", "ensemble"]
    assert len(results["alpha"]) == 2
    assert list(results["alpha"]) == ["64", "32"]
    assert sum(results["alpha"].values()) == pytest.approx(1)
    assert set(results["macs"]) == {"64", "32"}
    assert (results["epoch"], results["chosen"]) == (EPOCHS, "the last epoch")
    assert len((whole / "per_class.csv").read_text().splitlines()) == 1 + 3 * 40


@pytest.mark.parametrize(("step", "workers"), [(1, 0), (4, 0), (6, 2), (11, 0)])
def test_run_stopped_at_a_step_ends_as_if_it_was_not(
    config: Path,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    step: int,
    workers: int,
) -> None:
    folder = tmp_path / "run"
    stop_after(monkeypatch, step)
    assert run(config, "--run", folder, "--set", f"workers={workers}") == 130
    assert f"continue with --resume {folder}" in capsys.readouterr().err
    stop_after(monkeypatch, None)
    assert run("--resume", folder, "--set", "workers=0") == 0
    assert_runs_are_equal(whole, folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "everyone"),
    [
        (signal.SIGINT, True),
        (signal.SIGTERM, True),
        (signal.SIGTERM, False),
        (signal.SIGUSR1, True),
    ],
)
def test_real_signal_saves_a_run_that_goes_on_as_if_nothing_was(
    config: Path, tmp_path: Path, number: signal.Signals, *, everyone: bool
) -> None:
    settings = ["--set", "epochs=12", "optim.lr=0.002"]  # Twelve epochs at 0.02 diverge.
    assert run(config, "--run", tmp_path / "whole", *settings) == 0
    script, folder = Path(train_seg.__file__), tmp_path / "run"
    command = [sys.executable, script, config, "--run", folder, *settings, "workers=2"]
    with subprocess.Popen(
        [str(part) for part in command],
        cwd=script.parent,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        while not (folder / "log.jsonl").exists() and process.poll() is None:
            time.sleep(0.01)
        if everyone:  # A terminal and some clusters send it to the worker processes as well.
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert errors.splitlines()[-1].startswith("stopped ")
    assert "Traceback" not in errors
    assert run("--resume", folder, "--set", "workers=0") == 0
    assert_runs_are_equal(tmp_path / "whole", folder)


def test_complete_run_prints_its_results_without_training(
    whole: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a complete run is trained")

    monkeypatch.setattr("rsseg.training.state.train_step", refuse)
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    assert run("--resume", whole) == 0
    summary, test_summary, head, *rows = capsys.readouterr().out.splitlines()
    assert summary.startswith("train: 9 images, labels 0..894 of the official file")
    assert test_summary.startswith("test: 2 images, labels 0..894")
    assert head.split()[:3] == ["resolution", "pixel", "accuracy"]
    assert [row.split()[0] for row in rows] == ["64", "32", "ensemble"]
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before


@pytest.mark.parametrize("batchnorm", ["shared", "private"])
def test_parallel_run_has_no_scores_and_frozen_batchnorm_stays(
    config: Path, tmp_path: Path, batchnorm: str
) -> None:
    settings = ["epochs=1", "distillation=none", f"batchnorm={batchnorm}", "freeze_batchnorm=true"]
    assert run(config, "--run", tmp_path / "run", "--set", *settings) == 0
    net, _, _ = load_checkpoint(tmp_path / "run" / "last.pt")
    assert net.scores is None
    means = [value for name, value in net.state_dict().items() if "running_mean" in name]
    assert not torch.stack([mean.abs().max() for mean in means]).any()
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["alpha"] is None
    assert "ensemble" in results["metrics"]


def test_deterministic_run_equals_an_ordinary_one(
    config: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    try:
        assert run(config, "--run", tmp_path / "run", "--set", "deterministic=true") == 0
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
    first, second = (
        json.loads((p / "results.json").read_text()) for p in (whole, tmp_path / "run")
    )
    assert first["metrics"] == second["metrics"]


def test_all_settings_of_the_command_line_count(config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run(config, "--set", "epochs=1", "seed=5", "--run", folder, "--set", "precision=bf16")
    settings = json.loads((folder / "results.json").read_text())["config"]
    assert (settings["epochs"], settings["seed"], settings["precision"]) == (1, 5, "bf16")


def test_run_needs_a_new_folder(
    config: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (whole / "last.pt").read_bytes()
    assert f"run folder {whole} exists; continue that run with --resume" in refusal(
        capsys, config, "--run", whole
    )
    assert (whole / "last.pt").read_bytes() == before


def test_loss_that_is_not_a_number_ends_the_run_with_one_clear_line(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert run(config, "--run", folder, "--set", "optim.lr=1e30") == 2
    errors = capsys.readouterr().err
    assert "Traceback" not in errors
    assert errors.splitlines()[-1].startswith("error: epoch 1, step ")
    assert (
        f"the last good checkpoint is {folder / 'last.pt'}; continue from it with --resume"
        in errors
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["optim.momentm=0.9"], "'optim.momentm' in --set optim.momentm=0.9; did you mean 'mom"),
        (["data.root=/gone/nyu.mat"], "/gone/nyu.mat"),
        (["resolutions=[32, 64]"], "must run from large to small, got [32, 64]; write [64, 32]"),
        (["resolutions=[64, 16]"], "resolution 16 is too small: the encoder halves a view"),
        (["resolutions=[5000]"], "resolution 5000 is not a whole number of pixels from 1 to 4096"),
        (["epochs=many"], "'epochs' in --set epochs=many: Input should be a valid integer"),
        (["model.encoder_name=resnet19"], "resnet19"),
        (["batch_size=99"], "the training set has 9 images, fewer than one batch of 99"),
        (["device=gpu"], "device 'gpu' cannot be used here"),
        (["epochs"], "--set expects key=value"),
    ],
)
def test_wrong_setting_is_one_clear_line_and_makes_no_folder(
    config: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    settings: list[str],
    message: str,
) -> None:
    folder = tmp_path / "run"
    assert message in refusal(capsys, config, "--run", folder, "--set", *settings)
    assert not folder.exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_where_there_is_none_is_named(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refusal(capsys, config, "--run", tmp_path / "run", "--set", "device=cuda")
    assert message.startswith("device 'cuda' cannot be used here (")


def test_missing_configuration_and_foreign_data_are_named(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "cannot read gone.yaml" in refusal(capsys, "gone.yaml")
    (tmp_path / "foreign.mat").write_bytes(b"no matrices")
    settings = ["--set", f"data.root={tmp_path / 'foreign.mat'}"]
    assert "foreign.mat" in refusal(capsys, config, "--run", tmp_path / "run", *settings)


def test_run_is_not_resumed_as_another_run(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refusal(capsys, "--resume", whole, "--set", "epochs=9")
    assert "--set epochs=9 would change it" in message
    assert "is not a run folder" in refusal(capsys, "--resume", tmp_path)


def test_damaged_checkpoint_is_named(
    config: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    (folder / "last.pt").write_bytes((whole / "last.pt").read_bytes()[:-1000])
    (folder / "previous.pt").unlink()
    for arguments in (["--resume", folder], ["--evaluate", folder / "last.pt"]):
        assert f"{folder / 'last.pt'} is not an rsseg checkpoint, or is damaged" in refusal(
            capsys, *arguments
        )


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["a.yaml", "--resume", "run"],
        ["a.yaml", "--resolutions", "64"],
        ["a.yaml", "--unseen", "nearest"],
        ["--resume", "run", "--out", "a.json"],
        ["--resume", "run", "--run", "other"],
    ],
)
def test_options_that_do_not_belong_together_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(*arguments)


def test_evaluation_repeats_the_results_of_the_run(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "again"
    assert run("--evaluate", whole / "last.pt", "--out", out) == 0
    first, again = (json.loads((folder / "results.json").read_text()) for folder in (whole, out))
    for name in ("results.csv", "per_class.csv"):
        assert (out / name).read_text() == (whole / name).read_text()
    assert again["metrics"] == first["metrics"]
    assert again["alpha"] == first["alpha"]
    assert again["unseen"] == "interpolate"


@torch.no_grad()
def test_evaluation_at_unseen_resolutions_follows_the_rule(whole: Path, tmp_path: Path) -> None:
    net, preprocessing, metadata = load_checkpoint(whole / "last.pt")
    config = validate(SegmentationConfig, metadata.config, "the test")
    reader = TestSamples(config).reader
    for rule in ("interpolate", "nearest"):
        out = tmp_path / rule
        arguments = ["--resolutions", 40, 64, "--unseen", rule, "--out", out]
        assert run("--evaluate", whole / "last.pt", *arguments) == 0
        results = json.loads((out / "results.json").read_text())
        net.unseen = rule
        evaluator = SegmentationEvaluator(40)
        # In the batches of the run: of another number of images the rounding may be another.
        for first in range(0, len(reader), config.batch_size):
            samples = [reader[i] for i in range(first, min(first + config.batch_size, len(reader)))]
            views = torch.stack([preprocessing.view(sample.image, 40) for sample in samples])
            logits = net.predict(preprocessing.normalise(views), 40)
            for one, sample in zip(logits, samples, strict=True):
                evaluator.update(one[None], torch.from_numpy(sample.labels)[None])
        assert results["metrics"]["40"] == pytest.approx(evaluator.result())
        assert list(results["metrics"]) == list(results["macs"]) == ["64", "40"]
        assert (results["unseen"], results["alpha"]) == (rule, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--unseen", "guess"], "unknown rule 'guess' for unseen resolutions; expected"),
        (["--resolutions", 64, 0], "resolution 0 is not a whole number of pixels from 1 to 4096"),
        (["--set", "data.root=/gone"], "/gone"),
        (["--set", "optim.lr=1"], "changes nothing in a trained network"),
        (["--set", "model.classes=3"], "changes nothing in a trained network"),
    ],
)
def test_evaluation_that_cannot_be_is_refused(
    whole: Path, capsys: pytest.CaptureFixture[str], arguments: list[object], message: str
) -> None:
    assert message in refusal(capsys, "--evaluate", whole / "last.pt", *arguments)


def test_results_that_exist_are_not_overwritten(
    whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (whole / "results.json").read_bytes()
    message = refusal(capsys, "--evaluate", whole / "last.pt", "--out", whole)
    assert message.startswith(f"run folder {whole} exists")
    assert (whole / "results.json").read_bytes() == before


def test_settings_of_an_evaluation_are_in_its_results(whole: Path, tmp_path: Path) -> None:
    out, settings = tmp_path / "aspect", ["--set", "preprocessing.fit=aspect"]
    assert run("--evaluate", whole / "last.pt", "--out", out, *settings) == 0
    results = json.loads((out / "results.json").read_text())
    square = json.loads((whole / "results.json").read_text())
    assert results["preprocessing"]["fit"] == results["config"]["preprocessing"]["fit"] == "aspect"
    assert results["macs"]["64"] > 1.2 * square["macs"]["64"]


def test_other_classes_than_those_of_the_checkpoint_are_refused(
    whole: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = TestSamples.__init__

    def renamed(self: TestSamples, config: SegmentationConfig) -> None:
        original(self, config)
        self.classes = (*self.classes[1:], self.classes[0])

    monkeypatch.setattr(TestSamples, "__init__", renamed)
    message = refusal(capsys, "--evaluate", whole / "last.pt")
    assert "class 0 of the data set is 'floor', of the checkpoint 'wall'" in message


def test_continue_begins_a_run_and_then_goes_on_with_it(
    config: Path,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = [config, "--continue", "--run", tmp_path / "run"]
    stop_after(monkeypatch, 3)
    assert run(*arguments) == 130
    stop_after(monkeypatch, None)
    assert run(*arguments) == 0
    assert_runs_are_equal(whole, tmp_path / "run")
    message = refusal(capsys, *arguments, "--set", "seed=7")
    assert "was begun with another seed; continue it" in message
    config.with_name("other.yaml").write_text(config.read_text() + "seed: 5\n")
    message = refusal(capsys, config.with_name("other.yaml"), *arguments[1:])
    assert "was begun with another seed" in message


def test_failing_evaluation_does_not_lose_the_epoch(
    config: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("a label map is damaged")

    with monkeypatch.context() as patch:
        patch.setattr("rsseg.training.task.evaluate_net", fail)
        assert run(config, "--run", tmp_path / "run") == 2
    saved = torch.load(tmp_path / "run" / "last.pt", weights_only=True)["progress"]
    assert (saved["epoch"] > 0, saved["step"], saved["evaluated"]) == (True, 0, -1)
    assert run("--resume", tmp_path / "run") == 0
    assert_runs_are_equal(whole, tmp_path / "run")


def test_interruption_while_evaluating_is_no_traceback(
    whole: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rsseg.training.task.evaluate_net", stop)
    assert run("--evaluate", whole / "last.pt") == 130
    assert capsys.readouterr().err == "interrupted; what has been written is whole\n"


def test_run_that_learns_one_class_says_so_and_ends_well(
    config: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def of_one_class(logits: Tensor, size: Sequence[int], *, dtype: torch.dtype) -> Tensor:
        return torch.full(tuple(size), 3, dtype=dtype)

    monkeypatch.setattr("rsseg.segmentation.evaluate.predict_labels", of_one_class)
    folder = tmp_path / "run"
    assert run(config, "--run", folder, "--set", "epochs=1") == 0
    errors = capsys.readouterr().err
    assert errors.count("warning: at 64, 32, ensemble the network predicts ") == 1
    results = json.loads((folder / "results.json").read_text())
    assert list(results["constant_output"]) == ["64", "32", "ensemble"]
    assert run("--evaluate", folder / "last.pt", "--out", tmp_path / "again") == 0
    assert "warning: at 64, 32, ensemble the network predicts " in capsys.readouterr().err
    again = json.loads((tmp_path / "again" / "results.json").read_text())
    assert again["constant_output"] == results["constant_output"]
