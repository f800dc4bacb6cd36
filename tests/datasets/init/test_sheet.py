"""The contact sheet of a folder: what its labels are called, and in which colours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from datasets.contact_sheet import write_sheet
from datasets.init import __main__ as program
from datasets.nyudv2.mat import load_tables
from tests.datasets.init.test_main import SIZE, labelled, photo, save
from tests.datasets.init.test_presets import nyudv2, write_lists

Legend = tuple[Sequence[str], Sequence[tuple[int, int, int]] | None]


@pytest.fixture
def legends(monkeypatch: pytest.MonkeyPatch) -> list[Legend]:
    """The names and colours of each contact sheet that is drawn."""
    drawn: list[Legend] = []

    def write_and_note(path, samples, classes, colours=None):  # type: ignore[no-untyped-def]
        drawn.append((classes, colours))
        write_sheet(path, samples, classes, colours)

    monkeypatch.setattr("datasets.init.__main__.write_sheet", write_and_note)
    return drawn


def test_colours_are_drawn_as_they_are_and_named_by_their_rgb(
    tmp_path: Path, legends: list[Legend]
) -> None:
    colours = [(0, 0, 0), (0, 200, 10), (250, 1, 2)]
    for index in range(4):
        photo(tmp_path / f"set/img/{index}.jpg", index)
        pixels = np.resize(np.array(colours, dtype=np.uint8), (*SIZE, 3))
        save(tmp_path / f"set/gt/{index}.png", pixels)
    assert program.main([str(tmp_path / "set"), "--out", str(tmp_path / "my.yaml")]) == 0
    [(names, drawn)] = legends
    assert list(drawn or ()) == colours
    assert list(names) == ["[0, 0, 0]", "[0, 200, 10]", "[250, 1, 2]"]


def test_classes_of_a_preset_have_its_names(tmp_path: Path, legends: list[Legend]) -> None:
    root = nyudv2(tmp_path / "set", *range(41))
    write_lists(root)
    assert program.main([str(root), "--out", str(tmp_path / "my.yaml")]) == 0
    assert tuple(legends[0][0]) == load_tables().classes


def test_classes_that_a_file_names_have_these_names(tmp_path: Path, legends: list[Legend]) -> None:
    root = labelled(tmp_path / "set", 0, 1, 2, 255)
    (root / "classes.txt").write_text("wall\nfloor\nlamp\n", encoding="utf-8")
    assert program.main([str(root), "--out", str(tmp_path / "my.yaml")]) == 0
    assert tuple(legends[0][0]) == ("wall", "floor", "lamp")
