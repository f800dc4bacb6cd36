"""Curves of runs: what is drawn from the logs, and the verb that writes the picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image as Pictures

from rsseg.analysis.curves import LOSSES, plot_curves, read_log
from rsseg.cli import main as cli
from rsseg.common.files import RunError


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of two epochs of three steps, without ensemble, seen at two resolutions."""
    entries: list[dict[str, Any]] = []
    for epoch in (1, 2):
        for step in range(3 * epoch - 2, 3 * epoch + 1):
            losses = {"total": 6 / step, "classification": 4 / step, "distillation": 2 / step}
            entries.append({"step": step, "epoch": epoch, **losses, "ensemble": 0.0})
        metrics = {"32": {"mean_iou": epoch / 10}, "16": {"mean_iou": epoch / 20}}
        entries.append({"step": 3 * epoch, "epoch": epoch, "metrics": metrics})
    folder = tmp_path / "rs"
    folder.mkdir()
    text = "".join(f"{json.dumps(entry)}\n" for entry in entries)
    (folder / "log.jsonl").write_text(text, encoding="utf-8")
    return folder


def curves(run: Path, *options: object) -> int:
    return cli.main(["curves", str(run), "--out", str(run / "x.png"), *map(str, options)])


def test_losses_and_the_metric_of_every_resolution_are_drawn(run: Path) -> None:
    losses, metric = plot_curves([run], "mean_iou").axes
    assert losses.get_title() == "rs"
    drawn = {line.get_label(): line.get_xydata() for line in losses.lines}
    assert list(drawn) == [name for name in LOSSES if name != "ensemble"]  # it was 0 throughout
    expected = [[step, 6 / step] for step in range(1, 7)]
    np.testing.assert_allclose(np.asarray(drawn["total"]), expected)
    drawn = {line.get_label(): line.get_xydata() for line in metric.lines}
    assert list(drawn) == ["32", "16"]
    np.testing.assert_allclose(np.asarray(drawn["16"]), [[1, 5], [2, 10]])


def test_every_run_has_a_row_of_its_own(run: Path) -> None:
    assert len(plot_curves([run, run, run], "mean_iou").axes) == 6


def test_metric_of_the_task_is_drawn_where_none_is_named(run: Path) -> None:
    classifier = run.parent / "classifier"
    classifier.mkdir()
    text = (run / "log.jsonl").read_text(encoding="utf-8")
    text = text.replace('"mean_iou"', '"top5": 1.0, "top1"')
    (classifier / "log.jsonl").write_text(text, encoding="utf-8")
    axes = plot_curves([run, classifier]).axes
    assert [axes[1].get_ylabel(), axes[3].get_ylabel()] == ["mean iou (%)", "top1 (%)"]
    np.testing.assert_allclose(np.asarray(axes[3].lines[0].get_ydata()), [10, 20])


def test_run_that_was_never_evaluated_is_drawn_without_a_metric(run: Path) -> None:
    lines = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
    kept = [f"{line}\n" for line in lines if "metrics" not in line]
    (run / "log.jsonl").write_text("".join(kept), encoding="utf-8")
    losses, metric = plot_curves([run]).axes
    assert losses.lines
    assert not metric.lines


def test_run_that_logged_no_step_is_drawn_without_losses(run: Path) -> None:
    lines = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
    kept = [f"{line}\n" for line in lines if "metrics" in line]
    (run / "log.jsonl").write_text("".join(kept), encoding="utf-8")
    losses, metric = plot_curves([run]).axes
    assert not losses.lines
    assert metric.lines


def test_shares_of_the_ensemble_are_drawn_by_epoch(run: Path) -> None:
    plain = run.parent / "plain"
    plain.mkdir()
    (plain / "log.jsonl").write_text((run / "log.jsonl").read_text())
    shares = {1: (0.6, 0.4), 2: (0.7, 0.3)}
    with (run / "log.jsonl").open("a", encoding="utf-8") as log:
        for epoch, (large, small) in shares.items():
            entry = {"step": 3 * epoch, "epoch": epoch, "alpha": {"32": large, "16": small}}
            log.write(f"{json.dumps(entry)}\n")
    figure = plot_curves([run, plain])
    axes = figure.axes[2]
    drawn = {line.get_label(): line.get_xydata() for line in axes.lines}
    assert list(drawn) == ["32", "16"]
    np.testing.assert_allclose(np.asarray(drawn["32"]), [[1, 0.6], [2, 0.7]])
    assert not figure.axes[5].get_visible()  # The other run has no ensemble.


def test_verb_writes_a_picture_and_names_it(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert curves(run) == 0
    assert capsys.readouterr().out == f"curves: {run / 'x.png'}\n"
    with Pictures.open(run / "x.png") as picture:
        assert picture.format == "PNG"
        assert picture.size == (1210, 374)
    assert curves(run) == 2
    assert "x.png exists; choose another name, or give --overwrite" in capsys.readouterr().err
    assert curves(run, "--overwrite") == 0


def test_name_without_a_suffix_is_kept(run: Path) -> None:
    assert cli.main(["curves", str(run), "--out", str(run / "picture")]) == 0
    assert (run / "picture").read_bytes().startswith(b"\x89PNG")


def test_interruption_keeps_the_picture_before(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(figure: Figure, path: Path, **_: object) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    (run / "x.png").write_text("before")
    monkeypatch.setattr(Figure, "savefig", interrupted)
    assert curves(run, "--overwrite") == 130
    assert (run / "x.png").read_text() == "before"
    assert sorted(path.name for path in run.iterdir()) == ["log.jsonl", "x.png"]


def test_what_is_no_run_or_no_metric_is_named(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert curves(run, "--metric", "top1") == 2
    assert "has no metric 'top1'; it has mean_iou" in capsys.readouterr().err
    with pytest.raises(RunError, match="is not a run folder with a log"):
        read_log(run / "nowhere")
    with (run / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write("{half")
    assert curves(run) == 2
    assert "log.jsonl holds a line that is not JSON" in capsys.readouterr().err
    assert not (run / "x.png").exists()
