"""Facts about benchmarks/int8.py: accuracies are those of an evaluation, each file is what it says.

No test looks at a clock.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import yaml
from onnx import numpy_helper

import train_cls
import train_seg
from benchmarks import int8
from classification.evaluate import ClassificationEvaluator
from datasets.rooms.room import write_rooms
from rsseg.images.preprocessing import Preprocessing
from rsseg.load import load_checkpoint
from rsseg.switchable.resolutions import Resolutions
from rsseg.training.metadata import RunMetadata
from tests.helpers import small_scripts
from tests.helpers.small_exported import write_clouds
from tests.helpers.small_images import write_run


def trained_classifier(root: Path) -> Path:
    run = partial(small_scripts.run, train_cls.SCRIPT)
    config = write_run(root, epochs=2)
    settings = ("resolutions=[48,32]", "optim.lr=0.02")
    assert run(config, "--run", root / "run", "--set", *settings) == 0
    return root / "run"


def trained_segmenter(root: Path) -> Path:
    run = partial(small_scripts.run, train_seg.SCRIPT)
    write_rooms(root / "rooms.mat", 11, size=(48, 64))
    data = {"root": str(root / "rooms.mat"), "allow_absent": True}
    settings = small_scripts.segmenter_settings(data, epochs=1)
    (root / "net.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    assert run(root / "net.yaml", "--run", root / "run") == 0
    return root / "run"


def rounded_input(path: Path) -> list[float]:
    """Scales of the images in a file of 8 bits, of each branch."""
    graphs = [onnx.load(path).graph]
    scales = []
    while graphs:
        graph = graphs.pop()
        values = {v.name: v for v in graph.initializer}
        for node in graph.node:
            graphs += [a.g for a in node.attribute if a.HasField("g")]
            if node.op_type == "QuantizeLinear" and node.input[0] == "images":
                scales.append(float(numpy_helper.to_array(values[node.input[1]])))
    return scales


@pytest.mark.slow
@pytest.mark.parametrize("train", [trained_classifier, trained_segmenter])
def test_floats_have_the_accuracy_that_the_run_wrote(
    train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = train(tmp_path)
    (images := tmp_path / "images").mkdir()
    write_clouds(images)
    noun = "classifier" if train is trained_classifier else "segmenter"
    document = tmp_path / "doc.md"
    document.write_text(
        "\n".join("\n".join(int8.markers(noun, part)) for part in int8.PARTS), encoding="utf-8"
    )
    monkeypatch.setattr(int8, "DOCUMENT", document)
    command = [folder / "last.pt", "--calibrate", images, "--files", tmp_path / "files"]
    options = ["--rounds", "1", "--passes", "1", "--write"]
    assert int8.main([*map(str, command), *options]) == 0
    text = document.read_text(encoding="utf-8")
    assert text.split("-->")[1].strip().splitlines()[0] in capsys.readouterr().out
    metrics = json.loads((folder / "results.json").read_text(encoding="utf-8"))["metrics"]
    for side in [name for name in metrics if name.isdecimal()]:
        accuracy, latency = (line for line in text.splitlines() if line.startswith(f"| {side} |"))
        expected = [f"{100 * metrics[side][m]:.1f}" for m in int8.METRICS if m in metrics[side]]
        assert accuracy.split(" | ")[1] == " / ".join(expected)
        assert len(latency.split(" | ")) == 1 + 2 * len(int8.TIMED)
    files = {path.name: path for path in (tmp_path / "files").iterdir()}
    sides = load_checkpoint(folder / "last.pt")[0].resolutions
    owns = {f"a_file_of_its_own_{side}.onnx" for side in sides}
    assert set(files) == {"floats.onnx", "8_bits.onnx", "one_calibration.onnx", *owns}
    # All branches of the control round images alike; else each has the range of its own views.
    assert len(set(rounded_input(files["one_calibration.onnx"]))) == 1
    private = rounded_input(files["8_bits.onnx"])
    assert len(private) == len(sides)
    assert sorted(private) == sorted(s for o in owns for s in rounded_input(files[o]))


def test_same_class_is_the_share_of_the_places_of_an_image() -> None:
    floats = np.zeros((2, 3, 2, 2), np.float32)
    floats[:, 1] = 1
    other = floats.copy()
    other[1, 2, 0, 0] = 2
    assert int8.same_class(other, floats) == [1.0, 0.75]
    assert int8.same_class(other[:, :, 0, 0], floats[:, :, 0, 0]) == [1.0, 0.0]


def test_table_has_a_line_for_each_resolution_in_percent() -> None:
    outcomes = {}
    for kind in int8.VARIANTS:
        for side, correct in ((64, 4), (32, 1)):
            outcome = int8.Outcome(ClassificationEvaluator(), [1.0, 1.0, 1.0, 0.5])
            truth = torch.tensor([0, 1, 2, 3])
            truth[correct:] = 0
            outcome.evaluator.update(torch.eye(4), truth)
            outcomes[kind, side] = outcome
    head, _, first, second = int8.accuracy_table(outcomes).splitlines()
    assert head.startswith("| resolution | floats | 8 bits | one calibration | a file of its own |")
    assert first == f"| 64 | {'100.0 | ' * 4}87.5 % | 87.5 % | 87.5 % |"
    assert second.startswith("| 32 | 25.0 |")


def test_settings_that_change_the_network_are_refused() -> None:
    metadata = RunMetadata(
        task="classification",
        model={},
        resolutions=Resolutions((64, 32)),
        preprocessing=Preprocessing(),
    )
    with pytest.raises(ValueError, match="only data"):
        int8.open_data(metadata, ["optim.lr=1"])


def test_document_without_markers_is_left_as_it_is(tmp_path: Path) -> None:
    document = tmp_path / "doc.md"
    document.write_text("no markers", encoding="utf-8")
    with pytest.raises(ValueError, match="expected one <!-- int8, accuracy of a classifier: begin"):
        int8.write_document({"accuracy": "new"}, "classifier", document)
    assert document.read_text(encoding="utf-8") == "no markers"
