"""The README's code runs: each block of Python, and the commands below it, on tiny data."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pictures

import rsseg
from rsseg.cli.main import main
from tests.helpers.processes import ROOT

# What the loops of the README are shortened to. Everything else runs as it is printed.
SHORTER = {
    r"range\(\d+\)": "range(10)",
    r"\[224, 160, 96\]": "[64, 48, 32]",
    r"\[352, 224, 96\]": "[64, 48, 32]",
    r"lr=0\.05": "lr=0.001",  # A step has two images, and the statistics few steps.
    r"DataLoader\((\w+), \d+": r"DataLoader(\1, 2",
}
_BLOCK = re.compile(r"```python\n(.*?)```((?:\n*    rsseg [^\n]*)*)", re.DOTALL)


def blocks() -> list[tuple[str, list[list[str]]]]:
    """Return each block of Python in the README's section, and the arguments of commands below."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.partition("\n## In your own code\n")[2].partition("\n## ")[0]
    return [
        (code, [shlex.split(line, comments=True)[1:] for line in below.split("\n") if line.strip()])
        for code, below in _BLOCK.findall(section)
    ]


def shortened(code: str) -> str:
    for pattern, replacement in SHORTER.items():
        code = re.sub(pattern, replacement, code)
    return code


def write_data(folder: Path) -> None:
    draw = np.random.default_rng(0)
    for name in ("birds/crow", "birds/jay", "rooms/images", "rooms/labels"):
        (folder / "data" / name).mkdir(parents=True)
        for index in range(2):
            size = (50, 70) if name == "rooms/labels" else (50, 70, 3)
            pixels = draw.integers(0, 13, size).astype(np.uint8)
            Pictures.fromarray(pixels).save(folder / "data" / name / f"{index}.png")
    Pictures.fromarray(draw.integers(0, 256, (50, 70, 3), dtype=np.uint8)).save(
        folder / "photo.jpg"
    )


def run(
    index: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, Any], list[list[str]]]:
    write_data(folder)
    monkeypatch.chdir(folder)
    torch.manual_seed(0)
    code, commands = blocks()[index]
    names: dict[str, Any] = {}
    exec(compile(shortened(code), f"README.md, block {index}", "exec"), names)
    return names, commands


def test_section_has_a_start_and_two_loops_with_their_commands() -> None:
    found = blocks()
    assert [[command[0] for command in commands] for _, commands in found] == [
        [],
        ["predict", "export"],
        ["predict", "export"],
    ]
    # Short enough to be read at once.
    assert all(len([x for x in code.splitlines() if x.strip()]) <= 28 for code, _ in found)


def test_first_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names, _ = run(0, tmp_path, monkeypatch)
    assert len(names["logits"]) == 3


@pytest.mark.slow
@pytest.mark.parametrize(("index", "file"), [(1, "birds"), (2, "rooms")])
def test_loop_trains_saves_predicts_and_exports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: int, file: str
) -> None:
    names, commands = run(index, tmp_path, monkeypatch)
    net = names["net"]
    assert torch.isfinite(names["loss"])
    assert net.scores.grad is not None
    assert net.scores.grad.abs().max() > 0
    for command in commands:
        assert main(command) == 0, command
    loaded, preprocessing, metadata = rsseg.load_checkpoint(
        f"{file}.pt", allow_builder=file == "rooms"
    )
    assert preprocessing == names["preprocessing"]
    images = torch.rand(1, 3, 48, 48)
    with torch.no_grad():
        assert torch.equal(loaded.predict(images), net.eval().predict(images))
    if file == "birds":
        assert metadata.classes == ("crow", "jay")
    assert Path(f"{file}.onnx").is_file()
