"""Facts about benchmarks/tools.py: a cell says what a tool makes of a file, whatever that is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks import tools
from rsseg.runtime.fixed_shapes.export import FORMATS, write_compared
from rsseg.runtime.onnx.export import write_checked
from tests.helpers.small_exported import description, small_net


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tools") / "one.onnx"
    write_checked(small_net(), description(layout="one", resolution=32), made)
    return made


@pytest.mark.parametrize(
    "tool",
    [
        "ONNX Runtime, dynamic INT8",
        "ONNX Runtime, static INT8",
        "float16, onnxruntime.transformers",
        "OpenCV dnn",
        "OpenVINO",
        "onnx.version_converter, opset 17",
        "symbolic shape inference",
    ],
)
def test_file_of_one_resolution_passes_each_tool_that_the_tests_have(tool: str, path: Path) -> None:
    result = tools.cell_of_its_own(tool, path)  # Some tools crash.
    assert result["ok"], result


def test_format_of_fixed_shapes_is_compared_with_the_onnx_file(tmp_path: Path) -> None:
    net, told = small_net(), description()
    write_checked(net, told, tmp_path / "net_default.onnx")
    write_compared(net, told, tmp_path / "net_openvino", FORMATS["openvino"])
    result = tools.cell("OpenVINO, models of fixed shape", tmp_path / "net_openvino")
    assert result["ok"], result
    for weight in net.network.parameters():  # Another network's file is no match.
        weight.data.add_(1.0)
    write_checked(net, told, tmp_path / "net_default.onnx")
    assert not tools.cell("OpenVINO, models of fixed shape", tmp_path / "net_openvino")["ok"]


def test_tool_that_is_not_installed_is_neither_passed_nor_failed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(_: tools.Subject) -> str:
        raise AssertionError

    monkeypatch.setitem(tools.TOOLS, "mine", tools.Tool("no_such_package", never))
    assert tools.cell("mine", path) == {"ok": None, "text": "not installed"}


def test_result_that_differs_is_a_failure_with_its_size(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def off(subject: tools.Subject) -> str:
        size = max(abs(logits).max() for logits in subject.expected)
        return subject.check([logits + 0.5 * size for logits in subject.expected])

    monkeypatch.setitem(tools.TOOLS, "mine", tools.Tool("json", off))
    assert tools.cell("mine", path) == {
        "ok": False,
        "text": "differs by 5.0e-01 of the largest logit, at 32 pixels",
    }


def test_photo_is_cut_to_a_square_and_normalised_as_the_file_says(
    path: Path, tmp_path: Path
) -> None:
    told = description()
    photo = Image.new("RGB", (90, 40), (0, 0, 255))
    photo.paste((255, 0, 0), (0, 0, 20, 40))  # What the cut leaves out.
    photo.save(tmp_path / "photo.png")
    (image,) = tools.Subject(path, tmp_path, tmp_path / "photo.png").images
    mean, std = np.array(told.preprocessing.mean), np.array(told.preprocessing.std)
    expected = np.broadcast_to(((np.array([0, 0, 1]) - mean) / std)[:, None, None], (3, 32, 32))
    np.testing.assert_allclose(image, expected[None], atol=1e-6)


@pytest.mark.slow
def test_process_that_dies_is_a_failure(tmp_path: Path) -> None:
    """A file that is none: the process ends with an error that no cell foresees."""
    result = tools.cell_of_its_own("OpenVINO", tmp_path / "nowhere.onnx")
    assert not result["ok"]


def test_table_numbers_each_reason_once_and_leaves_out_what_was_not_run() -> None:
    cells: dict[tuple[str, str, str], dict[str, Any]] = {
        ("one", "net", "default"): {"ok": True, "text": "1e-07"},
        ("one", "net", "--compact"): {"ok": False, "text": "too large"},
        ("two", "net", "default"): {"ok": False, "text": "too large"},
        ("three", "net", "default"): {"ok": None, "text": "not installed"},
    }
    assert tools.table(cells).splitlines() == [
        "| tool | net, default | net, --compact |",
        "| --- | --- | --- |",
        "| one | ok, 1e-07 | no (1) |",
        "| two | no (1) | - |",
        "| three | not installed | - |",
        "",
        "(1) too large",
    ]


def test_table_goes_between_the_markers_alone() -> None:
    text = f"before\n{tools.BEGIN}\nold\n{tools.END}\nafter\n"
    assert tools.put_between(text, "new") == text.replace("old", "new")
    with pytest.raises(ValueError, match="expected one"):
        tools.put_between("no markers", "new")


def test_reason_is_short_and_tells_nothing_of_where_a_tool_was_built() -> None:
    error = RuntimeError("/io/opencv/modules/dnn/src/gemm.cpp:126: bad | worse" + "." * 300)
    text = tools.reason(error)
    assert text.startswith("gemm.cpp:126: bad / worse")
    assert len(text) < 200
