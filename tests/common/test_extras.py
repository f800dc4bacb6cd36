"""Facts about rsseg/common/extras.py: a package that is missing is one line with the command."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pictures

from rsseg.cli import main as cli
from rsseg.common.extras import EXTRAS, import_extra, missing_extra
from tests.helpers.small_exported import description, small_net, write_onnx

ROOT = Path(__file__).parents[2]


def test_every_package_is_in_the_extra_that_is_named() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    for package, extra in EXTRAS.items():
        names = [re.split("[><=]", name)[0].replace("-", "_") for name in extras[extra]]
        assert package in names


def test_package_that_is_missing_is_named_with_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert import_extra("onnxruntime").__name__ == "onnxruntime"
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ImportError) as caught:
        import_extra("openvino")
    message = "openvino is not installed; pip install 'rsseg[openvino]'"
    assert str(caught.value) == missing_extra(caught.value) == message
    inside = ModuleNotFoundError("No module named", name="starlette.routing")
    assert missing_extra(inside) == "starlette is not installed; pip install 'rsseg[serve]'"
    assert missing_extra(ImportError("cannot import name 'x'", name="rsseg.load")) is None


@pytest.mark.parametrize(
    ("verb", "options"),
    [
        ("predict", ["FILE", "IMAGE"]),
        ("predict", ["FILE", "VIDEO", "--video", "--out", "OUT"]),
        ("serve", ["FILE", "--port", "0"]),
        ("profile", ["FILE", "--measure", "--executors", "onnxruntime"]),
    ],
)
def test_verbs_name_the_missing_executor_in_one_line(
    verb: str,
    options: list[str],
    *,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    write_onnx(tmp_path / "net.onnx", small_net(), description())
    Pictures.fromarray(np.zeros((20, 20, 3), np.uint8)).save(tmp_path / "a.png")
    places = {"FILE": "net.onnx", "IMAGE": "a.png", "VIDEO": "a.png", "OUT": "out.mp4"}
    given = [str(tmp_path / places[one]) if one in places else one for one in options]
    assert cli.main([verb, *given]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"rsseg {verb}: ")
    assert line.endswith("onnxruntime is not installed; pip install 'rsseg[onnx]'")


def test_fault_of_the_program_is_no_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ImportError("cannot import name 'profile'", name="rsseg.analysis")

    monkeypatch.setattr("rsseg.analysis.profile.profile", broken)
    with pytest.raises(ImportError, match="cannot import name"):
        cli.main(["profile", "resnet18", "--resolutions", "32"])
