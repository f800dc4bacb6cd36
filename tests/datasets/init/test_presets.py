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
