"""Every layout that docs/OWN_DATA.md names is read with its true labels, or refused by name."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from benchmarks.layouts import (
    LAYOUTS,
    draw,
    main,
    recognised,
    refusal,
    same_labels,
    settings_of,
    trains,
)


@pytest.mark.parametrize("name", [name for name, layout in LAYOUTS.items() if not layout.refused])
def test_layout_is_read_with_the_labels_that_were_drawn(tmp_path: Path, name: str) -> None:
    layout = LAYOUTS[name]
    samples = draw(layout.classes, void=layout.void)
    layout.make(tmp_path / "data", samples)
    assert same_labels(settings_of(layout, tmp_path / "data"), layout.classes, samples)
    # The check can fail: other labels are not the same.
    other = draw(layout.classes, void=layout.void, seed=1)
    assert not same_labels(settings_of(layout, tmp_path / "data"), layout.classes, other)


@pytest.mark.parametrize("name", [name for name, layout in LAYOUTS.items() if layout.refused])
def test_layout_that_proves_nothing_is_refused(tmp_path: Path, name: str) -> None:
    layout = LAYOUTS[name]
    samples = draw(layout.classes, void=layout.void)
    layout.make(tmp_path / "data", samples)
    assert layout.refused is not None
    assert layout.refused in refusal(layout, tmp_path / "data", samples)


@pytest.mark.parametrize("name", LAYOUTS)
def test_written_configuration_reads_the_drawn_labels_or_asks(tmp_path: Path, name: str) -> None:
    layout = LAYOUTS[name]
    samples = draw(layout.classes, void=layout.void)
    layout.make(tmp_path / "data", samples)
    out = tmp_path / "my.yaml"
    answer = recognised(tmp_path / "data", out, samples)
    assert answer in (("no",) if name == "jpeg" else ("yes", "asks"))
    if answer == "asks":
        assert "# labels: " in out.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["suffix", "colours", "camvid"])
def test_layout_trains(tmp_path: Path, name: str) -> None:
    layout = LAYOUTS[name]
    layout.make(tmp_path / "data", draw(layout.classes, void=layout.void))
    assert trains(layout, tmp_path / "data", tmp_path)


@pytest.mark.slow
def test_table_of_all_layouts_has_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.suppress(SystemExit):
        assert main(["--train"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2 + len(LAYOUTS)
