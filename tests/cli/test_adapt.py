"""A trained segmenter becomes switchable: its start, its teacher, what the run says of it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml

import train_seg
from datasets.rooms.room import write_rooms
from datasets.segmentation import TestSamples, training_batches
from rsseg.common.checkpoint import read_checkpoint, write_checkpoint
from rsseg.common.config import validate
from rsseg.load import load_checkpoint
from rsseg.segmentation.config import SegmentationConfig
from rsseg.segmentation.task import SEGMENTATION
from rsseg.training.step import Outputs
from rsseg.training.task import build_job, build_net
from tests.helpers import small_scripts
from tests.helpers.small_runs import assert_runs_are_equal, stop_after

run = partial(small_scripts.run, train_seg.SCRIPT)
refusal = partial(small_scripts.refusal, train_seg.SCRIPT)
CPU = torch.device("cpu")

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")


def settings(root: Path, **values: Any) -> dict[str, Any]:
    data = {"root": str(root / "rooms.mat"), "allow_absent": True}
    return small_scripts.segmenter_settings(data, **values)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rooms, a network trained at 64 pixels alone, and it adapted to 64 and 32."""
    root = tmp_path_factory.mktemp("adapt")
    write_rooms(root / "rooms.mat", 11, size=(48, 64))
    plain = settings(root, resolutions=[64], distillation="none")
    adapted = settings(root, adapt={"teacher": 0.5})
    for name, values in (("plain", plain), ("adapt", adapted)):
        (root / f"{name}.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    assert run(root / "plain.yaml", "--run", root / "plain") == 0
    options = ("--init", root / "plain/last.pt", "--run", root / "adapted")
    assert run(root / "adapt.yaml", *options) == 0
    return root


def results(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((path / "results.json").read_text(encoding="utf-8"))
    return values


def test_the_start_is_the_original_tested_at_each_resolution(folder: Path) -> None:
    lower = folder / "lower"
    options = ("--resolutions", 64, 32, "--unseen", "nearest", "--out", lower)
    assert run("--evaluate", folder / "plain/last.pt", *options) == 0
    start = results(folder / "adapted")["start"]
    for resolution, metrics in results(lower)["metrics"].items():
        assert start[resolution] == pytest.approx(metrics)
    assert results(folder / "adapted")["metrics"]["64"] != start["64"]


def test_before_and_after_are_one_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--resume", folder / "adapted") == 0
    lines = capsys.readouterr().out.splitlines()
    head = next(index for index, line in enumerate(lines) if "original  adapted  change" in line)
    start, end = (results(folder / "adapted")[key] for key in ("start", "metrics"))
    for line, resolution in zip(lines[head + 1 :], ("64", "32"), strict=True):
        before, after = (100 * part[resolution]["pixel_accuracy"] for part in (start, end))
        cells = [f"{before:.1f}", f"{after:.1f}", f"{after - before:+.1f}"]
        assert line.split()[:4] == [resolution, *cells]


def test_the_original_teaches_every_resolution_by_its_divergence(folder: Path) -> None:
    values = settings(folder, init=str(folder / "plain/last.pt"))
    taught = {**values, "adapt": {"teacher": 0.5}}
    configs = [validate(SegmentationConfig, v, "test") for v in (values, taught)]
    original, _, _ = load_checkpoint(folder / "plain/last.pt")
    losses = []
    for config in configs:
        data, batches = TestSamples(config), training_batches(config)
        net = build_net(SEGMENTATION, config, CPU, classes=data.classes)
        job = build_job(SEGMENTATION, config, net, batches, data)
        torch.manual_seed(1)
        views = [torch.randn(2, 3, r, r) for r in (64, 32)]
        logits = [torch.randn(2, 40, 16, 16), torch.randn(2, 40, 8, 8)]
        target = torch.randint(0, 40, (2, 64, 64)).byte()
        with torch.no_grad():
            losses.append(job.loss(Outputs(logits, target, torch.zeros(2), views)).distillation)
    with torch.no_grad():
        p = F.interpolate(original.predict(views[0], 64), (64, 64), mode="bilinear").softmax(1)
    added = torch.zeros(())
    for z in logits:
        log_q = F.interpolate(z, (64, 64), mode="bilinear").log_softmax(1)
        added = added + (p * (p.log() - log_q)).sum(1).mean()
    torch.testing.assert_close(losses[1] - losses[0], 0.5 * added, rtol=1e-4, atol=1e-4)


def test_a_run_that_was_stopped_goes_on_with_the_same_teacher_and_start(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = tmp_path / "again"
    stop_after(monkeypatch, 3)
    options = ("--init", folder / "plain/last.pt", "--run", again)
    assert run(folder / "adapt.yaml", *options) == 130
    stop_after(monkeypatch, None)
    assert run("--resume", again) == 0
    assert_runs_are_equal(folder / "adapted", again)
    assert results(again)["start"] == results(folder / "adapted")["start"]


def test_statistics_are_measured_at_the_start_and_not_when_a_run_goes_on(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ("--init", folder / "plain/last.pt", "--set", "adapt.recalibrate=3", "epochs=1")
    assert run(folder / "adapt.yaml", "--run", tmp_path / "whole", *options) == 0
    lines = capsys.readouterr().err.splitlines()
    (line,) = (line for line in lines if line.startswith("recalibrate "))
    assert "recalibrate 32: divergence from the original at 64" in line
    start = read_checkpoint(folder / "plain/last.pt")["net"]
    stop_after(monkeypatch, 2)
    assert run(folder / "adapt.yaml", "--run", tmp_path / "again", *options) == 130
    stop_after(monkeypatch, None)
    capsys.readouterr()
    assert run("--resume", tmp_path / "again") == 0
    assert "recalibrate 32" not in capsys.readouterr().err
    assert_runs_are_equal(tmp_path / "whole", tmp_path / "again")
    # Without a step, what was kept is the start.
    assert run(folder / "adapt.yaml", "--run", tmp_path / "zero", *options, "epochs=0") == 0
    line = next(x for x in capsys.readouterr().err.splitlines() if x.startswith("recalibrate "))
    net = read_checkpoint(tmp_path / "zero/last.pt")["net"]
    key = "network.encoder.model.bn1.sets.{}.running_mean"
    assert torch.equal(net[key.format(64)], start[key.format(64)])
    is_copy = torch.equal(net[key.format(32)], start[key.format(64)])
    assert is_copy is line.endswith("the copied ones are kept")


@pytest.mark.parametrize(("resolutions", "warned"), [("[48,32]", True), ("[64,48]", False)])
def test_resolutions_without_that_of_the_original_are_warned_of(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    resolutions: str,
    warned: bool,
) -> None:
    options = ("--init", folder / "plain/last.pt", "--run", tmp_path / "run", "--set", "epochs=0")
    assert run(folder / "adapt.yaml", *options, f"resolutions={resolutions}") == 0
    text = "was trained at 64 pixels, which is not among the resolutions of this run (48, 32)"
    assert (text in capsys.readouterr().err) is warned


def test_another_reading_of_label_maps_is_warned_of_at_the_start(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The names of the classes are taken away from the checkpoint, as where none were known."""
    content = read_checkpoint(folder / "plain/last.pt")
    names = [f"class {index}" for index in range(40)]
    metadata = {**content["metadata"], "classes": names, "data": {"labels": {"offset": 1}}}
    write_checkpoint(tmp_path / "w.pt", {"metadata": metadata, "net": content["net"]})
    config = validate(SegmentationConfig, settings(folder, init=str(tmp_path / "w.pt")), "test")
    for offset in (1, 0):
        build_net(SEGMENTATION, config, CPU, classes=names, labels={"offset": offset})
        text = "were read as {offset: 1}, those of the data are read as {offset: 0}"
        assert (text in capsys.readouterr().err) is (offset == 0)


def test_adapt_without_a_network_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = refusal(capsys, folder / "adapt.yaml", "--run", tmp_path / "run")
    assert "init names none; set init (--init PATH)" in text
