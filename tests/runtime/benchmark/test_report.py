"""Facts about `rsseg profile --measure`: what is measured, shown and saved. Times are made up."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rsseg.cli import main as cli
from rsseg.common.config import plain
from rsseg.runtime.accuracies import read_accuracies
from rsseg.runtime.benchmark import processes as measuring
from rsseg.runtime.benchmark import report as latency_profile
from rsseg.runtime.benchmark.processes import Subject
from rsseg.runtime.benchmark.report import best_row, layout, subjects
from rsseg.runtime.budget.table import Row, read_entries
from rsseg.runtime.stages import Stages
from tests.helpers.small_checkpoint import write_checkpoint
from tests.helpers.small_exported import description, small_net, write_onnx
from tests.helpers.small_latencies import HERE, entry, row


def test_row_for_a_budget_is_the_highest_whose_p95_fits() -> None:
    held = entry()
    assert best_row(held, 60.0) == held.rows[0]
    assert best_row(held, 59.9) == held.rows[1]
    assert best_row(held, 14.9) is None
    with pytest.raises(ValueError, match="budget_ms must be a positive number"):
        best_row(held, 0)


def test_layout_answers_for_a_budget_with_the_accuracy() -> None:
    rows = (row(64, 40.0, accuracy=0.712, peak_bytes=3 * 2**20), row(32, 10.0))
    text = layout(entry(HERE, *rows, metric="top1"), 60.0)
    assert text.splitlines()[2].split() == ["64", "40.00", "60.00", "40.00", "3.0", "71.2", "%"]
    assert text.splitlines()[-1] == "within 60 ms: 64, p95 60.00 ms, top1 71.2 %"
    assert layout(entry(), 1.0).endswith("within 1 ms: no resolution")


def test_layout_shows_the_stages_and_budgets_count_decoding() -> None:
    stages = Stages(decode=3, view=1, network=40, answer=2, encode=5)
    held = entry(HERE, row(64, 40.0, stages=stages), row(32, 10.0, stages=Stages(network=10)))
    head, first, *_ = layout(held, 62.0).splitlines()[1:]
    assert head.split()[-7:] == ["decode", "view", "network", "answer", "encode", "sum", "ms"]
    assert first.split()[-6:] == ["3.00", "1.00", "40.00", "2.00", "5.00", "51.00"]
    assert best_row(held, 62.9) == held.rows[1]  # 95 of 100 take 60 ms, and decoding 3.
    assert layout(held, 63.0).endswith("within 63 ms: 64, p95 60.00 ms, decoding 3.00 ms")


def test_accuracies_are_those_of_the_main_metric(tmp_path: Path) -> None:
    network = description()
    assert read_accuracies(tmp_path, plain(network)) is None
    metrics: dict[str, Any] = {
        "64": {"top1": 0.7, "top5": 0.9},
        "64_2": {"top1": 0.1, "top5": 0.2},
        "ensemble": {"top1": 0.8, "top5": 0.9},
    }
    (tmp_path / "results.json").write_text(json.dumps({"metrics": metrics}))
    assert read_accuracies(tmp_path, plain(network)) == ("top1", {64: 0.7})
    maps = {"32": {"pixel_accuracy": 0.7, "mean_accuracy": 0.5, "mean_iou": 0.4}}
    (tmp_path / "results.json").write_text(json.dumps({"metrics": maps}))
    assert read_accuracies(tmp_path, plain(network)) == ("mean_iou", {32: 0.4})
    (tmp_path / "results.json").write_text('{"metrics": 3}')
    with pytest.raises(ValueError, match=r"cannot read .* as results"):
        read_accuracies(tmp_path, plain(network))


@pytest.mark.parametrize(
    ("results", "own", "same"),
    [
        ({"weights": "1f"}, {"weights": "1f"}, True),
        ({"weights": "1f"}, {"weights": "2f"}, False),
        ({"weights": "1f"}, {}, False),
        ({}, {"weights": "1f"}, False),
        ({"classes": ["a", "b"], "epoch": 3}, {}, False),  # files of earlier versions
        ({"classes": ["church", "tench", "golf ball"], "resolutions": [64, 32]}, {}, True),
    ],
)
def test_results_of_another_network_are_not_read(
    tmp_path: Path, results: dict[str, Any], own: dict[str, Any], same: bool
) -> None:
    metrics = {"64": {"top1": 0.7, "top5": 0.9}}
    (tmp_path / "results.json").write_text(json.dumps({**results, "metrics": metrics}))
    assert (read_accuracies(tmp_path, plain(description(**own))) is not None) == same


def test_exported_files_beside_a_checkpoint_are_measured_too(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "last.pt")
    for name in ("last.onnx", "last_32.onnx", "best.onnx"):
        write_onnx(tmp_path / name, small_net(), description())

    def found(executors: Sequence[str] | None, *onnx: Path) -> list[tuple[str, str]]:
        listed = subjects(checkpoint, executors=executors, onnx=onnx, threads=1, device="cpu")
        return [(subject.executor, Path(subject.path).name) for subject in listed]

    assert found(["torch", "onnxruntime"]) == [
        ("torch", "last.pt"),
        ("onnxruntime", "last.onnx"),
        ("onnxruntime", "last_32.onnx"),
    ]
    assert found(["openvino"], tmp_path / "best.onnx") == [("openvino", "best.onnx")]
    for name in ("last.onnx", "last_32.onnx"):
        (tmp_path / name).unlink()
    assert found(None) == [("torch", "last.pt")]
    with pytest.raises(ValueError, match=r"openvino cannot be measured: there is no ONNX file"):
        found(["openvino"])
    with pytest.raises(ValueError, match="unknown executor 'tensorrt'"):
        found(["tensorrt"])


def test_executor_that_is_not_installed_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_onnx(tmp_path / "last.onnx", small_net(), description())
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"measured: openvino is not .* 'rsseg\[openvino\]'"):
        subjects(path, executors=["openvino"], onnx=(), threads=1, device="cpu")


def test_verb_measures_prints_and_saves_for_each_executor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_checkpoint(tmp_path / "last.pt")
    write_onnx(tmp_path / "last.onnx", small_net(), description())
    results = {"metrics": {"64": {"top1": 0.7, "top5": 0.9}}}
    (tmp_path / "results.json").write_text(json.dumps(results))
    asked: list[tuple[Subject, Any, int]] = []

    def times(subject: Subject, resolutions: Any, *, runs: int) -> list[Row]:
        asked.append((subject, resolutions, runs))
        return [row(32, 10.0), row(64, 40.0)]

    monkeypatch.setattr(latency_profile, "measure_times", times)
    monkeypatch.setattr(measuring, "measure_memory", lambda subject, resolution: 2**20)
    command = ["profile", str(tmp_path / "last.pt"), "--measure", "--threads", "3", "--runs", "5"]
    executors = ["--executors", "torch", "onnxruntime", "--budget", "20"]
    assert cli.main([*command, *executors, "--resolutions", "64", "32"]) == 0
    assert [(s.executor, s.threads, sides, runs) for s, sides, runs in asked] == [
        ("torch", 3, [64, 32], 5),
        ("onnxruntime", 3, [64, 32], 5),
    ]
    held = read_entries(tmp_path / "last.latency.json")
    assert [one.executor for one in held] == ["torch", "onnxruntime"]
    assert [(r.resolution, r.accuracy, r.peak_bytes) for r in held[0].rows] == [
        (64, 0.7, 2**20),
        (32, None, 2**20),
    ]
    shown = capsys.readouterr().out
    assert shown.count("within 20 ms: 32, p95 15.00 ms") == 2
    assert "latencies: " in shown
    assert cli.main([*command, "--executors", "torch", "--json", "--no-memory"]) == 0
    assert [one["executor"] for one in json.loads(capsys.readouterr().out)] == ["torch"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resnet18", "--measure"], "nothing to measure: there is no file resnet18; give a check"),
        (["resnet18", "--resolutions", "64", "--budget", "9"], "--budget is for what is measured"),
        (["FILE", "--measure", "--runs", "0"], "--runs must be at least 1, got 0"),
        (["FILE", "--measure", "--threads", "0"], "--threads must be at least 1, got 0"),
        (["FILE", "--measure", "--budget", "-1"], "budget_ms must be a positive number"),
        (["FILE", "--measure", "--classes", "3"], "leave out --classes"),
        (["FILE", "--measure", "--resolutions", "32", "64"], "must run from large to small"),
    ],
)
def test_what_is_wrong_is_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_checkpoint(tmp_path / "last.pt")
    given = [argument.replace("FILE", str(tmp_path / "last.pt")) for argument in arguments]
    assert cli.main(["profile", *given]) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert len(shown.splitlines()) == 1
