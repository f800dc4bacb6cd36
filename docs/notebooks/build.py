"""Write NAME.ipynb for each NAME.py of this folder: the notebooks' source is plain Python.

A line `# %%` begins a cell of code, `# %% [markdown]` one of text, whose lines are comments. The
notebooks have no outputs: those would be of one machine, and hide in a diff what has changed.

    python docs/notebooks/build.py
"""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
TEXT, CODE = "# %% [markdown]\n", "# %%\n"


def cell(source: str, index: int) -> dict[str, Any]:
    """Return a cell as the format of notebooks has it, from its lines without the first."""
    kind, _, body = source.partition("\n")
    code = kind == CODE.strip()
    lines = body.strip("\n").splitlines()
    if not code:
        lines = [line.removeprefix("#").removeprefix(" ") for line in lines]
    values: dict[str, Any] = {"id": f"cell-{index}", "metadata": {}}
    values["source"] = [f"{line}\n" for line in lines[:-1]] + lines[-1:]
    outputs: dict[str, Any] = {"execution_count": None, "outputs": []} if code else {}
    return {"cell_type": "code" if code else "markdown", **values, **outputs}


def notebook(source: str) -> dict[str, Any]:
    """Return a notebook from its source."""
    parts = [f"# %%{part}" for part in f"\n{source}".split("\n# %%")[1:]]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {
        "cells": [cell(part, index) for index, part in enumerate(parts)],
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def text_of(path: Path) -> str:
    """Return the text of the notebook whose source is in a file."""
    return json.dumps(notebook(path.read_text(encoding="utf-8")), indent=1) + "\n"


def sources() -> list[Path]:
    """Return the files of this folder that are sources of notebooks."""
    return sorted(path for path in FOLDER.glob("*.py") if path.name != Path(__file__).name)


if __name__ == "__main__":
    for path in sources():
        path.with_suffix(".ipynb").write_text(text_of(path), encoding="utf-8")
        print(path.with_suffix(".ipynb"))
