"""Folders that look as a preset's: when it is taken, and what is asked beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datasets.check import main as check
from datasets.init.__main__ import main
from rsseg.common.yaml_files import read_yaml
from tests.datasets.init.test_main import SIZE, photo, save


def nyudv2(root: Path, *values: int, count: int = 16) -> Path:
    """Write images/ and labels40/ in which just these values occur."""
    for index in range(count):
        photo(root / f"images/{index}.png", index)
        save(root / f"labels40/{index}.png", np.resize(np.array(values, dtype=np.uint8), SIZE))
    return root


def write_lists(root: Path, count: int = 16) -> None:
    names = [str(index) for index in range(count)]
    (root / "train.txt").write_text("\n".join(names[4:]), encoding="utf-8")
    (root / "test.txt").write_text("\n".join(names[:4]), encoding="utf-8")


def test_folder_of_nyudv2_without_lists_becomes_a_configuration_that_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = nyudv2(tmp_path / "set", *range(41)), tmp_path / "my.yaml"
    assert main([str(root), "--out", str(out), "--classes", "40"]) == 0
    data = read_yaml(out)["data"]
    assert (data.get("preset"), data["test_share"]) == (None, 0.2)
    assert data["train"] == {"images": "images", "labels": "labels40"}
    settings = ["--set", "data.labels={offset: 1, void: [0]}"]
    assert check([str(out), *settings]) == 0, capsys.readouterr().out


def test_folder_of_nyudv2_with_both_lists_has_the_preset(tmp_path: Path) -> None:
    root, out = nyudv2(tmp_path / "set", *range(41)), tmp_path / "my.yaml"
    write_lists(root)
    assert main([str(root), "--out", str(out)]) == 0
    assert read_yaml(out)["data"] == {"root": str(root), "preset": "nyudv2"}
    assert check([str(out)]) == 0


def test_classes_without_a_pixel_are_a_question_whose_answer_lets_the_training_begin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = nyudv2(tmp_path / "set", *range(20), 40), tmp_path / "my.yaml"
    write_lists(root)
    save(root / "labels40/0.png", np.full(SIZE, 30, dtype=np.uint8))  # In the test alone.
    assert main([str(root), "--out", str(out)]) == 0
    text = out.read_text(encoding="utf-8")
    assert "# QUESTION: 20 of 40 classes have no pixel in the training samples (" in text
    assert "1 question is marked" in capsys.readouterr().out
    assert check([str(out)]) == 1
    out.write_text(text.replace("# allow_absent", "allow_absent"), encoding="utf-8")
    assert check([str(out)]) == 0


def test_values_of_nyudv2_that_count_from_0_are_drawn(tmp_path: Path) -> None:
    root = nyudv2(tmp_path / "set", *range(40), 255)
    write_lists(root)
    assert main([str(root), "--out", str(tmp_path / "my.yaml")]) == 0
    assert "QUESTION" not in (tmp_path / "my.yaml").read_text(encoding="utf-8")


def test_absent_classes_are_a_question_where_every_reading_leaves_some(tmp_path: Path) -> None:
    root = nyudv2(tmp_path / "set", 0, 5, 39)
    assert main([str(root), "--out", str(tmp_path / "my.yaml"), "--classes", "40"]) == 0
    text = (tmp_path / "my.yaml").read_text(encoding="utf-8")
    assert "37 classes or more have no pixel in 16 label maps" in text
