"""The published numbers in one CSV: equal to the headers of configs/, and drawn as points."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rsseg.analysis.accuracy_plot import plot_accuracy
from rsseg.analysis.published import lines_of, numbers_of, read_numbers
from rsseg.cli import main as cli
from rsseg.common.files import RunError
from tests.helpers.processes import ROOT


def header(config: str) -> str:
    lines = (ROOT / "configs" / f"{config}.yaml").read_text(encoding="utf-8").splitlines()
    return " ".join(line for line in lines if line.startswith("#"))


def test_every_number_stands_in_the_header_of_its_configuration() -> None:
    # Table 1 is of answers, and Fig. 4 of a difference: both have a test of their own.
    numbers = [n for n in read_numbers() if n.config and n.item != "Table 1"]
    assert len(numbers) > 200
    for number in numbers:
        shown = f"0.{number.value:02.0f}" if number.metric == "alpha" else f"{number.value:.1f}"
        assert shown in header(number.config) or shown.lstrip("0") in header(number.config), number


def test_tables_are_complete() -> None:
    counts: dict[str, int] = {}
    for number in read_numbers():
        counts[number.item] = counts.get(number.item, 0) + 1
    # Twelve rows of Table 2 have five resolutions; two lack four top-5 each.
    assert counts["Table 2"] == 2 * 12 * 5 - 2 * 4
    assert counts["Table 3"] == 4 * (5 + 5 + 5)
    assert counts["Table 4"] == 5 + 3 + 5 + 5
    assert (counts["Table 5"], counts["Table 6"], counts["Table 7"]) == (20, 20, 18)
    assert (counts["Table 8"], counts["Fig. 4"], counts["Appendix A"]) == (14, 2, 15)
    assert counts["Table 1"] == 3 * 3 * 4


def test_published_differences_follow_from_the_published_accuracies() -> None:
    """Row less column of Table 1 is the difference of two accuracies of Table 2, to 0.3 points."""
    table = numbers_of("Table 1")
    for name in ("I-Nets", "parallel", "RS-Net"):
        top1 = {
            n.resolution: n.value
            for n in numbers_of("Table 2")
            if (n.network, n.name, n.metric) == ("ResNet-18", name, "top1")
        }
        shares = {(n.resolution, n.metric): n.value for n in table if n.name == name}
        difference = shares[96, "right_at_128"] - shares[128, "right_at_96"]
        assert difference == pytest.approx(top1[128] - top1[96], abs=0.31)


def test_points_of_the_literature_lie_beside_our_results(tmp_path: Path) -> None:
    (tmp_path / "rs").mkdir()
    content: dict[str, Any] = {
        "metrics": {"224": {"top1": 0.73, "top5": 0.9}},
        "resolutions": [224],
    }
    content["macs"] = {"224": 300_800_000}
    (tmp_path / "rs" / "results.json").write_text(json.dumps(content))
    (axes,) = plot_accuracy([tmp_path / "rs"], axis="macs", points=numbers_of("Table 4")).axes
    lines = {line.get_label(): np.asarray(line.get_xydata()) for line in axes.lines}
    np.testing.assert_allclose(
        lines["S-MobileNetV2"], [[0.059, 59.7], [0.097, 64.4], [0.301, 70.5]]
    )
    assert {"rs", "US-MobileNetV2", "MobileNetV2 widths", "MobileNetV2 RS-Net"} <= set(lines)
    out = tmp_path / "fig1.png"
    command = ["plot", str(tmp_path / "rs"), "--against", "macs", "--out", str(out)]
    assert cli.main([*command, "--points", "Table 4"]) == 0
    assert out.read_bytes().startswith(b"\x89PNG")


def test_points_of_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_text("# mine\nname,metric,value,resolution,note\nother,top1,50,96,a\n")
    assert lines_of(numbers_of(str(path)), "top1", "resolution") == {"other": [(96, 50.0)]}
    with pytest.raises(RunError, match="no point has the metric top1 and macs"):
        lines_of(numbers_of(str(path)), "top1", "macs")
    path.write_text("name,metric\nother,top1\n")
    with pytest.raises(RunError, match=r"cannot read .*points.csv as numbers: KeyError\('value'\)"):
        numbers_of(str(path))
    with pytest.raises(RunError, match=r"Table 9 is not a file, nor an item .*Table 2"):
        numbers_of("Table 9")


def test_points_have_no_milliseconds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["plot", "any", "--against", "milliseconds", "--points", "Table 4"]
    assert cli.main([*command, "--out", str(tmp_path / "x.png")]) == 2
    assert "--points have no milliseconds" in capsys.readouterr().err
