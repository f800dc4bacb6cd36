"""Running a training script, and what it says about wrong input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rsseg.cli.train import Script


def run(script: Script, *arguments: object) -> int:  # type: ignore[type-arg]
    return script.main([str(argument) for argument in arguments])


def refusal(
    script: Script,  # type: ignore[type-arg]
    capsys: pytest.CaptureFixture[str],
    *arguments: object,
) -> str:
    """What the script says about wrong input, in one line."""
    capsys.readouterr()
    assert run(script, *arguments) == 2
    output, errors = capsys.readouterr()
    # What the images are may have been printed before.
    assert all(line.startswith(("train: ", "test: ")) for line in output.splitlines())
    (line,) = errors.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


def results(folder: Path) -> dict[str, Any]:
    """Read results.json of a run."""
    content: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return content
