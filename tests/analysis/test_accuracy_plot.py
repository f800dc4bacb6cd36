"""Accuracy against resolution: what is drawn from results.json."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from PIL import Image as Pictures

from rsseg.analysis.accuracy_plot import plot_accuracy, read_curve
from rsseg.cli import main as cli
from rsseg.common import figures
from rsseg.common.files import RunError
from rsseg.runtime.budget.table import Entry, Machine, Row, update_entries
from rsseg.runtime.stages import Stages


def results(folder: Path, rows: dict[str, float], trained: list[int], **more: Any) -> Path:
    folder.mkdir()
    metrics = {name: {"top1": value, "top5": 1.0} for name, value in rows.items()}
    macs = {name: 10_000 * int(name.split("_")[0]) ** 2 for name in rows if name.isdigit()}
    content = {"metrics": metrics, "resolutions": trained, "macs": macs, **more}
    (folder / "results.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    rows = {"64": 0.7, "48": 0.65, "32": 0.6, "ensemble": 0.72}
    inets = [results(tmp_path / f"inet{r}", {str(r): r / 100}, [r]) for r in (64, 32)]
    return [results(tmp_path / "rs", rows, [64, 32]), *inets]


def test_line_rises_in_resolution_without_the_ensemble(folders: list[Path]) -> None:
    curve = read_curve(folders[0], None, "resolution")
    assert (curve.name, curve.x, curve.y) == ("rs", (32, 48, 64), (60, 65, 70))
    assert curve.trained == (True, False, True)
    again = read_curve(folders[0] / "results.json", "top5", "macs")
    assert again.x == pytest.approx((0.01024, 0.02304, 0.04096))
    assert again.y == (100, 100, 100)


def test_results_of_one_name_are_one_line_and_untrained_points_are_hollow(
    folders: list[Path],
) -> None:
    (axes,) = plot_accuracy(folders, names=["RS-Net", "I-Nets", "I-Nets"]).axes
    lines = {line.get_label(): line for line in axes.lines if str(line.get_label())[0] != "_"}
    assert list(lines) == ["RS-Net", "I-Nets"]
    np.testing.assert_allclose(np.asarray(lines["I-Nets"].get_xydata()), [[32, 32], [64, 64]])
    hollow = [line for line in axes.lines if line.get_markerfacecolor() == "white"]
    assert [np.ravel(line.get_xdata()).tolist() for line in hollow] == [[48]]


def test_main_metric_of_a_segmenter_is_the_mean_iou(tmp_path: Path) -> None:
    folder = results(tmp_path / "seg", {"32": 0.0}, [32], task="segmentation")
    row = {"pixel_accuracy": 0.5, "mean_accuracy": 0.4, "mean_iou": 0.3}
    content = json.loads((folder / "results.json").read_text()) | {"metrics": {"32": row}}
    (folder / "results.json").write_text(json.dumps(content))
    assert read_curve(folder, None, "resolution").y == pytest.approx((30,))
    assert plot_accuracy([folder]).axes[0].get_ylabel() == "mean iou (%)"


def test_wrong_input_is_named(folders: list[Path], tmp_path: Path) -> None:
    with pytest.raises(RunError, match="3 results for the picture, but 1 name"):
        plot_accuracy(folders, names=["a"])
    with pytest.raises(RunError, match=r"cannot read .*results with the metric top9: 'top9'"):
        plot_accuracy(folders, metric="top9")
    with pytest.raises(RunError, match="cannot read"):
        plot_accuracy([tmp_path / "nowhere"])


def test_command_writes_a_picture_and_no_picture_over_another(
    folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "x.png"
    command = ["plot", *map(str, folders), "--against", "macs", "--out", str(out)]
    assert cli.main(command) == 0
    assert np.asarray(Pictures.open(out)).std() > 0
    assert cli.main(command) == 2
    assert "exists; choose another name" in capsys.readouterr().err


def test_results_of_several_seeds_are_their_mean_and_range(tmp_path: Path) -> None:
    seeds = [
        results(tmp_path / f"seed{n}", {"64": 0.6 + n / 100, "32": 0.5}, [64, 32]) for n in range(3)
    ]
    (axes,) = plot_accuracy(seeds, names=["RS-Net"] * 3).axes
    (line,) = [line for line in axes.lines if line.get_label() == "RS-Net"]
    np.testing.assert_allclose(np.asarray(line.get_xydata()), [[32, 50], [64, 61]])
    (bar,) = axes.collections  # None where all seeds agree.
    assert isinstance(bar, LineCollection)
    np.testing.assert_allclose(bar.get_segments()[0], [[64, 60], [64, 62]])


def latency(path: Path, rows: dict[int, float], executor: str = "torch") -> Entry:
    times = [
        Row(resolution=r, median_ms=ms, p95_ms=2 * ms, network_ms=ms / 2) for r, ms in rows.items()
    ]
    return Entry(
        machine=Machine(cpu="any", cores=2),
        executor=executor,
        threads=1,
        file=path.name,
        rows=tuple(times),
        runs=3,
        image=(480, 640),
    )


def test_milliseconds_are_those_of_whole_predictions(folders: list[Path], tmp_path: Path) -> None:
    table = tmp_path / "last.latency.json"
    fast = latency(tmp_path / "x.onnx", {64: 1.0, 48: 0.8, 32: 0.5}, "onnxruntime")
    update_entries(table, [latency(tmp_path / "last.pt", {64: 9.0, 48: 7.0, 32: 4.0}), fast])
    command = ["plot", str(folders[0]), "--against", "milliseconds", "--latency", str(table)]
    assert cli.main([*command, "--out", str(tmp_path / "a.png")]) == 0
    curve = read_curve(folders[0], None, "milliseconds", {64: 9.0, 48: 7.0, 32: 4.0})
    assert (curve.x, curve.y) == ((4, 7, 9), (60, 65, 70))
    assert cli.main([*command, "--executor", "onnxruntime", "--out", str(tmp_path / "b.png")]) == 0
    first, second = (np.asarray(Pictures.open(tmp_path / f"{n}.png")) for n in "ab")
    assert (first != second).any()


@pytest.mark.parametrize("decode", [None, 2.0])
def test_milliseconds_are_end_to_end_where_the_table_knows_decoding(
    folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decode: float | None
) -> None:
    table, drawn = tmp_path / "last.latency.json", list[Figure]()
    held = latency(tmp_path / "last.pt", {64: 9.0, 48: 7.0, 32: 4.0})
    stages = None if decode is None else Stages(decode=decode)
    rows = tuple(replace(row, stages=stages) for row in held.rows)
    update_entries(table, [replace(held, rows=rows)])
    monkeypatch.setattr(figures, "save_figure", lambda figure, _: drawn.append(figure))
    command = ["plot", str(folders[0]), "--against", "milliseconds", "--latency", str(table)]
    assert cli.main([*command, "--out", str(tmp_path / "a.png")]) == 0
    axes = drawn[0].axes[0]
    ends = "end-to-end milliseconds for one image" if decode else "milliseconds for one image"
    assert axes.get_xlabel() == ends
    times = [4 + (decode or 0), 7 + (decode or 0), 9 + (decode or 0)]
    assert np.asarray(axes.lines[0].get_xdata()).tolist() == times


def test_times_that_are_missing_are_named(
    folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, table = ["--out", str(tmp_path / "x.png")], tmp_path / "last.latency.json"
    update_entries(table, [latency(tmp_path / "last.pt", {64: 9.0})])
    command = ["plot", str(folders[0]), "--against", "milliseconds"]
    assert cli.main([*command, *out]) == 2
    assert "go together" in capsys.readouterr().err
    assert cli.main([*command, "--latency", str(table), *out]) == 2
    assert "no time of 48 pixels, there are those of [64]" in capsys.readouterr().err
    assert cli.main([*command, "--latency", str(table), "--executor", "openvino", *out]) == 2
    assert "no times of executor openvino; it has those of torch" in capsys.readouterr().err
