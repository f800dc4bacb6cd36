"""Own label maps from the training to the prediction: one reading, names and colours throughout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image as Pictures

import train_seg
from benchmarks.layouts.labels import LAYOUTS, draw, run_settings
from rsseg.cli.main import main as rsseg
from rsseg.segmentation.label_files import read_label_values

COLOURS = [[9, 9, 9], [200, 0, 0], [0, 200, 0], [0, 0, 200], [200, 200, 0]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels from 1 with void 0, a network trained on them, and its exported file."""
    root = tmp_path_factory.mktemp("own")
    layout = LAYOUTS["from_one"]
    layout.make(root / "data", draw(5, void=True))
    names = [f"thing {index}" for index in range(5)]
    data = {"root": str(root / "data"), **layout.data, "names": names, "colours": COLOURS}
    (root / "own.yaml").write_text(yaml.safe_dump(run_settings(data, 5)), encoding="utf-8")
    assert train_seg.main([str(root / "own.yaml"), "--run", str(root / "run")]) == 0
    assert rsseg(["export", str(root / "run/last.pt"), "--out", str(root / "net.onnx")]) == 0
    return root


@pytest.mark.parametrize("network", ["run/last.pt", "net.onnx"])
def test_predict_reads_label_maps_as_the_training_did(
    folder: Path, tmp_path: Path, network: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = folder / "data"
    options = ["--out", str(tmp_path / "out"), "--resolutions", "64", "--name", "net"]
    images = str(data / "images/val")
    labels = ["--labels", str(data / "labels/val")]
    assert rsseg(["predict", str(folder / network), images, *options, *labels]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if ".jpg" in line]
    for row in rows:
        stem = row[0].removesuffix(".jpg")
        predicted = read_label_values(tmp_path / f"out/labels/net_64/{stem}.png")
        truth = read_label_values(data / f"labels/val/{stem}.png")
        accuracy = 100 * np.mean((predicted == truth - np.uint8(1))[truth != 0])
        assert row[-2] == f"{accuracy:.1f}"
    assert len(rows) == 2


def test_pictures_have_the_given_colours(folder: Path, tmp_path: Path) -> None:
    image = str(folder / "data/images/val/003.jpg")
    network = str(folder / "run/last.pt")
    out = ["--out", str(tmp_path / "out"), "--resolutions", "64", "--name", "net"]
    assert rsseg(["predict", network, image, *out]) == 0
    with Pictures.open(tmp_path / "out/labels/net_64/003.png") as picture:
        values, colours = np.asarray(picture), np.asarray(picture.convert("RGB"))
    np.testing.assert_array_equal(colours, np.array(COLOURS)[values])


def test_the_checkpoint_and_the_results_say_what_the_labels_meant(folder: Path) -> None:
    results = json.loads((folder / "run/results.json").read_text(encoding="utf-8"))
    assert results["data"]["labels"]["offset"] == 1
    assert results["data"]["labels"]["void"] == [0]
    assert results["classes"][3] == "thing 3"


def test_evaluation_prints_its_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_seg.main(["--evaluate", str(folder / "run/last.pt")]) == 0
    line = capsys.readouterr().out.splitlines()[0]
    assert line.startswith("test: 2 images, labels classes 1..5, void 0 (stated")
    assert "void 3.1 % of the pixels, classes without a pixel: none" in line
