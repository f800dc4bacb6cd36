"""Facts about the folder that runs a network in the browser; a browser opens it in test_browser."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rsseg.cli import main as cli
from rsseg.runtime.web import export
from rsseg.runtime.web.runtime_files import MODULE, WASM
from tests.helpers.small_checkpoint import CLASSES, write_checkpoint
from tests.helpers.small_exported import description, small_net, write_onnx


@pytest.fixture(autouse=True)
def _runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let onnxruntime-web be two words."""
    monkeypatch.setattr(export, "runtime_files", lambda _: {MODULE: b"module", WASM: b"wasm"})


def given(folder: Path) -> dict[str, object]:
    line = (folder / "index.html").read_text().partition("const GIVEN = ")[2].partition(";\n")[0]
    values: dict[str, object] = json.loads(line)
    return values


def exported(tmp_path: Path) -> Path:
    told = description(task="segmentation", weights="abc")
    return write_onnx(tmp_path / "net.onnx", small_net(maps=True), told)


def results(weights: str) -> str:
    rows = {str(side): {"mean_iou": side / 100, "pixel_accuracy": 0.9} for side in (64, 32)}
    return json.dumps({"task": "segmentation", "weights": weights, "metrics": rows})


def test_folder_holds_the_exported_file_the_runtime_and_one_page(tmp_path: Path) -> None:
    path, out = exported(tmp_path), tmp_path / "web"
    (tmp_path / "results.json").write_text(results("abc"))
    assert cli.main(["export", str(path), "--web", str(out)]) == 0
    names = ["index.html", "network.onnx", MODULE, WASM]
    assert sorted(each.name for each in out.iterdir()) == sorted(names)
    assert (out / "network.onnx").read_bytes() == path.read_bytes()
    assert (out / WASM).read_bytes() == b"wasm"
    told = given(out)
    assert (told["network"], told["runtime"], told["wasm"]) == ("network.onnx", MODULE, WASM)
    model = told["model"]
    assert isinstance(model, dict)
    assert model["classes"] == CLASSES
    assert model["resolutions"] == [64, 32]
    assert model["allowed"] == [32, 48, 64]
    assert len(model["colours"]) == len(CLASSES) + 1
    assert model["accuracy"] == {"metric": "mean_iou", "values": {"64": 0.64, "32": 0.32}}


def test_results_of_another_network_are_not_told(tmp_path: Path) -> None:
    path = exported(tmp_path)
    (tmp_path / "results.json").write_text(results("of another"))
    assert cli.main(["export", str(path), "--web", str(tmp_path / "web")]) == 0
    model = given(tmp_path / "web")["model"]
    assert isinstance(model, dict)
    assert model["accuracy"] is None


def test_checkpoint_is_exported_into_an_empty_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = write_checkpoint(tmp_path / "last.pt"), tmp_path / "web"
    out.mkdir()
    assert cli.main(["export", str(path), "--web", str(out), "--resolution", "32"]) == 0
    assert "python -m http.server" in capsys.readouterr().out
    model = given(out)["model"]
    assert isinstance(model, dict)
    assert (model["task"], model["resolutions"], model["allowed"]) == ("classification", [32], [32])
    assert model["preprocessing"]["fit"] == "crop"
    assert "colours" not in model


def test_folder_that_holds_something_is_refused_and_left_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = exported(tmp_path), tmp_path / "web"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    assert cli.main(["export", str(path), "--web", str(out), "--overwrite"]) == 2
    assert f"{out} exists and is not an empty folder" in capsys.readouterr().err
    assert [each.name for each in out.iterdir()] == ["notes.txt"]


def test_nothing_is_left_of_an_export_that_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_checkpoint(tmp_path / "last.pt")
    argv = ["export", str(path), "--web", str(tmp_path / "web"), "--resolution", "50"]
    assert cli.main(argv) == 2
    assert "was not trained at resolution 50" in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ["last.pt"]


def test_what_cannot_be_is_told_before_anything_is_fetched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = exported(tmp_path)
    for argv, message in (
        ([], "give --out, the file to write, or --web DIR"),
        (["--out", "a.onnx", "--web", "web"], "--out and --web are both given"),
        (["--format", "openvino", "--web", "web"], "not --format openvino"),
        (["--resolution", "32", "--web", "web"], "is exported already; leave --resolution out"),
        (["--calibrate", "images", "--web", "web"], "--int8"),
        (["--web", str(tmp_path / "no" / "web")], "there is no folder"),
    ):
        assert cli.main(["export", str(path), *argv]) == 2
        assert message in capsys.readouterr().err
    path.write_bytes(b"no network")
    assert cli.main(["export", str(path), "--web", str(tmp_path / "web")]) == 2
    assert "is not an ONNX file" in capsys.readouterr().err
