"""The change against the I-Nets: `rsseg gains` (Tables 2, 3, 7, Fig. 5, 9)."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.patches import Rectangle

from rsseg.analysis.gains import gains_table, plot_gains, read_gains
from rsseg.cli import main as cli
from rsseg.common.files import RunError

INETS = {"224": (71.0, 90.0), "96": (62.6, 84.1)}  # Published, Table 2.
PAIR = {"224": (72.6, 91.0), "96": (61.8, 83.5)}  # The top-1 is published, METHOD: Fig. 5.


def write(folder: Path, rows: dict[str, tuple[float, float]], trained: list[int]) -> Path:
    folder.mkdir()
    metrics = {side: {"top1": a / 100, "top5": b / 100} for side, (a, b) in rows.items()}
    content = {"metrics": metrics, "resolutions": trained}
    (folder / "results.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def base(tmp_path: Path) -> list[Path]:
    # The first was tested lower as well, which is not what the other is compared with.
    first = write(tmp_path / "inet224", {"224": INETS["224"], "96": (42.5, 67.9)}, [224])
    return [first, write(tmp_path / "inet96", {"96": INETS["96"]}, [96])]


def test_published_pair_gains_at_224_and_loses_at_96(tmp_path: Path, base: list[Path]) -> None:
    gains = read_gains([write(tmp_path / "pair", PAIR, [224, 96])], base, metrics=["top1"])
    assert [(gain.resolution, str(gain)) for gain in gains] == [("224", "+1.6"), ("96", "-0.8")]


def test_spread_is_that_of_every_pair_of_seeds(tmp_path: Path, base: list[Path]) -> None:
    seeds = [
        write(tmp_path / f"s{n}", {"224": (a, 90), "96": (62.6, 84), "ensemble": (74, 92)}, [224])
        for n, a in enumerate((72.0, 73.0, 75.0))
    ]
    base.append(write(tmp_path / "again", {"224": (72.0, 90.0)}, [224]))
    gains = read_gains(seeds, base, names=["RS"] * 3, metrics=["top1"])
    differences = np.subtract.outer([72.0, 73.0, 75.0], [71.0, 72.0])
    first = gains[0]
    expected = (differences.mean(), differences.min(), differences.max())
    assert (first.change, first.lowest, first.highest) == pytest.approx(expected)
    assert (first.runs, first.base_runs) == (3, 2)
    assert gains_table(gains).splitlines()[2].split("  ")[-2:] == [
        "+1.8 (+0.0 to +4.0)",
        "+0.0 (+0.0 to +0.0)",
    ]
    patches = plot_gains(gains).axes[0].patches
    bars = [box.get_height() for box in patches if isinstance(box, Rectangle)]
    np.testing.assert_allclose(bars, [differences.mean(), 0], atol=1e-12)
    (spread,) = [c for c in plot_gains(gains).axes[0].collections if isinstance(c, LineCollection)]
    np.testing.assert_allclose(spread.get_segments()[0][:, 1], [0, 4], atol=1e-9)


def test_equal_resolutions_have_one_inet(tmp_path: Path, base: list[Path]) -> None:
    twice = write(tmp_path / "x5", {"96": (63.0, 84), "96_2": (63.5, 84)}, [96, 96])
    gains = read_gains([twice], base, metrics=["top1"])
    assert {gain.resolution: round(gain.change, 6) for gain in gains} == {"96": 0.4, "96_2": 0.9}


def test_verb_prints_the_table_and_writes_bars_and_numbers(
    tmp_path: Path, base: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    pair, out = write(tmp_path / "pair", PAIR, [224, 96]), tmp_path / "fig5.png"
    command = ["gains", str(pair), "--base", *map(str, base), "--out", str(out)]
    assert cli.main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[1:4]] == [
        ["name", "metric", "224", "96"],
        ["pair", "top1", "+1.6", "-0.8"],
        ["pair", "top5", "+1.0", "-0.6"],
    ]
    with (tmp_path / "fig5.csv").open() as file:
        changes = [float(row["change"]) for row in csv.DictReader(file)]
    assert changes == pytest.approx([1.6, -0.8, 1.0, -0.6])
    assert out.read_bytes().startswith(b"\x89PNG")
    assert cli.main(command) == 2
    assert "fig5.png exists" in capsys.readouterr().err


def test_what_is_not_an_inet_is_named(tmp_path: Path, base: list[Path]) -> None:
    pair = write(tmp_path / "pair", PAIR, [224, 96])
    with pytest.raises(RunError, match=r"pair.* is not an I-Net: it has the resolutions \[224, 96"):
        read_gains([pair], [pair])
    with pytest.raises(RunError, match="no I-Net has a resolution of the results: they have 64"):
        read_gains([write(tmp_path / "other", {"64": (1, 2)}, [64])], base)
    with pytest.raises(RunError, match="1 result, but 2 names"):
        read_gains([pair], base, names=["a", "b"])
    with pytest.raises(RunError, match="no change of the metric top9; there are top1, top5"):
        plot_gains(read_gains([pair], base), "top9")
