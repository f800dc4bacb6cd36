"""Facts about rsseg/runtime/cascade: up where it is not sure, and honest about its worth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rsseg.cli import main as cli
from rsseg.images.preprocessing import Image
from rsseg.runtime.budget.table import Entry, Machine, Row, update_entries
from rsseg.runtime.cascade.cascade import Cascade, read_thresholds
from rsseg.runtime.cascade.report import report
from rsseg.runtime.predictor import Predictor
from rsseg.runtime.protocol import Logits, Views
from tests.helpers.small_exported import CLASSES, description
from tests.helpers.small_outcomes import SIDES, outcomes


class Sure:
    """An executor whose margin at each resolution is given; the best class is that of its place."""

    name = "sure"
    device = "cpu"

    def __init__(self, **margins: float) -> None:
        self.margins = {int(side[1:]): margin for side, margin in margins.items()}
        self.resolutions = tuple(sorted(self.margins, reverse=True))

    def logits(self, images: Views, resolution: int) -> Logits:
        # Two classes share 1 as (1 + m) / 2 and (1 - m) / 2, the third gets nothing.
        margin, best = self.margins[resolution], sorted(self.margins).index(resolution)
        logits = np.full((1, 3), -30.0, np.float32)
        logits[0, [best, best - 1]] = np.log([(1 + margin) / 2, (1 - margin) / 2])
        return logits


def cascade(executor: Sure, **told: Any) -> Cascade:
    predictor = Predictor(executor, description(resolutions=executor.resolutions, **told))
    return Cascade(predictor, {64: 0.0, 32: 0.5, 48: 0.8})


def drawn() -> Image:
    return np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("margins", "ran"),
    [
        ({"r32": 0.6, "r48": 0.1, "r64": 0.1}, (32,)),
        ({"r32": 0.4, "r48": 0.9, "r64": 0.1}, (32, 48)),
        ({"r32": 0.4, "r48": 0.7, "r64": 0.1}, (32, 48, 64)),
    ],
)
def test_cascade_goes_up_while_the_margin_is_below_its_threshold(
    margins: dict[str, float], ran: tuple[int, ...]
) -> None:
    answer = cascade(Sure(**margins)).predict(drawn())
    assert (answer.ran, answer.resolution) == (ran, ran[-1])
    assert answer.classes[answer.label] == CLASSES[len(ran) - 1]
    assert answer.margin == pytest.approx(margins[f"r{ran[-1]}"], abs=1e-5)
    assert answer.milliseconds >= answer.network_ms > 0


def test_cascade_needs_a_classifier_and_margins_for_thresholds() -> None:
    executor = Sure(r32=0.1, r48=0.1, r64=0.1)
    with pytest.raises(ValueError, match="is a network for segmentation; a cascade needs a class"):
        cascade(executor, task="segmentation")
    predictor = Predictor(executor, description())
    for thresholds, message in (
        ({}, "no resolution given"),
        ({32: 1.5}, r"threshold of resolution 32 is a margin, 0\.\.1, got 1\.5"),
        ({32: float("nan")}, "is a margin"),
        ({0: 0.5}, "is not a whole number of pixels"),
        ({7: 0.5, 64: 0.5}, "name resolution 7, but .* was trained for 32 to 64"),
        ({32: 0.5, 999: 0.0}, "name resolution 999"),
    ):
        with pytest.raises(ValueError, match=message):
            Cascade(predictor, thresholds)


@pytest.mark.parametrize("text", ["[]", "{}", '{"thresholds": {"a": 1}}', '{"thresholds": {}}'])
def test_file_without_thresholds_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "cascade.json").write_text(text)
    with pytest.raises(ValueError, match=r"cascade\.json holds no thresholds of a cascade"):
        read_thresholds(tmp_path / "cascade.json")


def evaluation(folder: Path, images: int = 300, *, margins: bool = True) -> Path:
    answers = outcomes(images)
    arrays: dict[str, Any] = {"names": np.array([f"{i:04}" for i in range(images)])}
    for row, side in enumerate(SIDES):
        arrays[f"correct_{side}"] = answers.correct[row]
        if margins:
            arrays[f"margin_{side}"] = answers.margins[row]
    folder.mkdir()
    np.savez(folder / "correctness.npz", **arrays)
    macs = {"64": 4000, "48": 2000, "32": 1000, "64_2": 4000}
    (folder / "results.json").write_text(json.dumps({"macs": macs}))
    return folder


def times(executor: str) -> Entry:
    rows = [
        Row(resolution=side, median_ms=ms, p95_ms=ms, network_ms=ms)
        for side, ms in ((64, 10.0), (48, 8.0), (32, 6.0))
    ]
    machine = Machine(cpu="a", cores=2)
    held: dict[str, Any] = {"machine": machine, "threads": 2, "file": "last.pt", "runs": 3}
    return Entry(executor=executor, rows=tuple(rows), image=(480, 640), **held)


def test_verb_prints_the_curve_and_writes_what_a_cascade_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = evaluation(tmp_path / "run")
    picture = tmp_path / "curve.png"
    assert cli.main(["cascade", str(folder), "--cost", "0.6", "--plot", str(picture)]) == 0
    shown = capsys.readouterr().out
    assert "32 alone                 0.250" in shown
    assert "chosen for a mean cost of at most 0.6: 32 below" in shown
    assert picture.stat().st_size > 1000
    written = json.loads((folder / "cascade.json").read_text())
    assert written["chosen"]["own"]["cost"] <= 0.6
    assert len(written["curve"]) == 15
    opened = Cascade.open(
        Predictor(Sure(r32=1.0, r48=1.0, r64=1.0), description()), folder / "cascade.json"
    )
    assert opened.thresholds == report(folder, target=0.6).selection.thresholds
    assert cli.main(["cascade", str(folder)]) == 2
    assert "cascade.json exists" in capsys.readouterr().err


def test_measured_times_may_be_the_costs(tmp_path: Path) -> None:
    folder, table = evaluation(tmp_path / "run"), tmp_path / "last.latency.json"
    update_entries(table, [times("torch"), times("openvino")])
    found = report(folder, target=0.9, latency=table, executor="torch", resolutions=[64, 32])
    assert found.outcomes.costs == (0.6, 0.8, 1.0)
    assert list(found.selection.thresholds) == [32, 64]
    for executor in (None, "onnxruntime"):
        with pytest.raises(ValueError, match=r"expected one; there are torch .*, openvino"):
            report(folder, target=0.9, latency=table, executor=executor)


def test_answers_without_margins_have_to_be_evaluated_again(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no margins.*: evaluate the checkpoint again"):
        report(evaluation(tmp_path / "run", margins=False), target=0.6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cost", "0"], "--cost must be above 0"),
        (["--cost", "nan"], "--cost must be above 0"),
        (["--resolutions", "32", "32"], "resolution 32 is given twice"),
        (["--levels", "32", "96"], "resolution 96 has no answers or no cost; there are [32, 48"),
        (["--executor", "torch"], "--executor says whose times of --latency"),
        (["--cost", "0.1"], "below that of the cheapest resolution alone, 0.25"),
    ],
)
def test_what_is_wrong_is_one_line(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["cascade", str(evaluation(tmp_path / "run")), *options]) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert len(shown.splitlines()) == 1
    assert not (tmp_path / "run" / "cascade.json").exists()
