"""Running a training script, and what it says about wrong input."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from rsseg.cli.train import Script


def run(script: Script, *arguments: object) -> int:  # type: ignore[type-arg]
    return script.main([str(argument) for argument in arguments])


def segmenter_settings(data: Mapping[str, Any], **values: Any) -> dict[str, Any]:
    """Settings of a small segmenter that trains in moments; `values` take the place of others."""
    return {
        "model": {"encoder_name": "tu-test_resnet", "decoder_channels": 4, "dropout": 0.0},
        "resolutions": [64, 32],
        "data": dict(data),
        "augmentation": {"shorter_side": 48, "crop": 64},
        "epochs": 2,
        "batch_size": 2,
        "optim": {"lr": 0.02},
        "workers": 0,
        "device": "cpu",
        **values,
    }


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
