"""The notebooks of docs/notebooks are those of their sources, and run from top to bottom."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.processes import ROOT

FOLDER = ROOT / "docs" / "notebooks"
BUILD: dict[str, Any] = runpy.run_path(str(FOLDER / "build.py"), run_name="build")
SOURCES: list[Path] = BUILD["sources"]()


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_notebook_is_that_of_its_source_and_holds_no_output(source: Path) -> None:
    text = source.with_suffix(".ipynb").read_text(encoding="utf-8")
    assert text == BUILD["text_of"](source), "run python docs/notebooks/build.py"
    cells = json.loads(text)["cells"]
    assert not any(cell.get("outputs") for cell in cells)
    # Nothing of the source is lost: its lines are those of the cells, in order.
    lines = [line.rstrip("\n") for cell in cells for line in cell["source"]]
    kept = source.read_text(encoding="utf-8").splitlines()
    bare = [line.lstrip("# ").rstrip() for line in kept if not line.startswith("# %%")]
    assert [x.lstrip("# ").rstrip() for x in lines if x.strip("# ")] == [
        x for x in bare if x.strip("# ")
    ]


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_notebook_runs(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    nbformat.validate(notebook)
    client = nbclient.NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
