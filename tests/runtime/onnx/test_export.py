"""Facts about rsseg/runtime/onnx/export.py and `rsseg export`: files compute what PyTorch does."""

from __future__ import annotations

import importlib.util
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from rsseg.cli import main as cli
from rsseg.common.checkpoint import write_checkpoint
from rsseg.common.config import plain
from rsseg.heads import HEADS
from rsseg.images.preprocessing import Preprocessing
from rsseg.load import load_checkpoint
from rsseg.runtime.description import KEY, Description, parse
from rsseg.runtime.onnx import check as export_check
from rsseg.runtime.onnx import export as onnx_export
from rsseg.runtime.onnx.check import Difference, check, differences
from rsseg.runtime.onnx.export import export_checkpoint, write_checked
from rsseg.runtime.opening import open_executor
from rsseg.switchable.net import SwitchableNet
from rsseg.switchable.resolutions import Resolutions
from tests.helpers.small_exported import description, log_of_opening, small_net
from tests.helpers.small_networks import randomise

RESOLUTIONS = [64, 32]
MODELS: dict[str, dict[str, Any]] = {
    "classification": {"name": "test_resnet", "classes": 3},
    "segmentation": {
        "architecture": "refinenet",
        "encoder_name": "tu-test_resnet",
        "classes": 3,
        "options": {"decoder_channels": 8},
    },
}
SIZES = [(64, 64), (32, 32), (48, 48), (48, 80), (96, 96)]


def checkpoint(path: Path, task: str = "classification", **values: Any) -> Path:
    torch.manual_seed(0)
    metadata = {
        "task": task,
        "model": MODELS[task],
        "resolutions": RESOLUTIONS,
        "batchnorm": "private",
        "preprocessing": {"fit": "crop", "mean": [0.4, 0.5, 0.6]},
        "classes": ["church", "tench", "golf ball"],
        **values,
    }
    net = SwitchableNet(
        HEADS[task].network(MODELS[task]), RESOLUTIONS, batchnorm=metadata["batchnorm"]
    )
    randomise(net)
    write_checkpoint(path, {"metadata": metadata, "net": net.state_dict()})
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("exported")
    for task in MODELS:
        checkpoint(place / f"{task}.pt", task)
        export_checkpoint(place / f"{task}.pt", place / f"{task}.onnx")
    return place


@pytest.mark.parametrize("executor", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("task", MODELS)
def test_one_file_predicts_at_every_size(folder: Path, task: str, executor: str) -> None:
    net, _, _ = load_checkpoint(folder / f"{task}.pt")
    opened, _ = open_executor(folder / f"{task}.onnx", executor, threads=1)
    for height, width in SIZES:
        images = torch.randn(2, 3, height, width)
        with torch.no_grad():
            expected = net.predict(images).numpy()
        computed = opened.logits(images.numpy(), min(height, width))
        np.testing.assert_allclose(computed, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("task", MODELS)
def test_file_opens_without_a_warning(
    folder: Path, task: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert log_of_opening(folder / f"{task}.onnx", capfd) == ""


def test_file_tells_classes_resolutions_and_preprocessing(folder: Path) -> None:
    path = folder / "classification.onnx"
    model = onnx.load(path)
    told = parse({entry.key: entry.value for entry in model.metadata_props}[KEY], path)
    _, preprocessing, metadata = load_checkpoint(folder / "classification.pt")
    expected = Description(
        task="classification",
        name="classification",
        classes=metadata.classes,
        resolutions=Resolutions(RESOLUTIONS),
        preprocessing=preprocessing,
    )
    assert told == expected
    assert (told.layout, told.resolution, told.unseen) == ("all", None, "interpolate")


def test_file_says_what_it_takes_without_our_json(folder: Path) -> None:
    model = onnx.load(folder / "segmentation.onnx")
    entries = {entry.key: entry.value for entry in model.metadata_props}
    assert [float(value) for value in entries["mean"].split(",")] == [0.4, 0.5, 0.6]
    assert [float(value) for value in entries["std"].split(",")] == [0.229, 0.224, 0.225]
    assert entries["resolutions"] == "64,32"
    assert entries["classes"] == "church,tench,golf ball"
    assert model.producer_name == "rsseg"
    assert "Input 'images': float32, (N, 3, H, W), RGB" in model.doc_string
    assert "rsseg export --compact" in model.doc_string


def test_every_node_has_a_name_of_its_own(folder: Path) -> None:
    names = node_names(onnx.load(folder / "segmentation.onnx").graph)
    assert all(names)
    assert len(names) == len(set(names))


def node_names(graph: Any) -> list[str]:
    """Return the names of all nodes, those in branches included."""
    names = [node.name for node in graph.node]
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                names += node_names(attribute.g)
    return names


def test_file_of_one_resolution_predicts_it(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source, out = folder / "classification.pt", tmp_path / "one.onnx"
    export = export_checkpoint(source, out, resolution=32)
    assert (export.description.layout, export.description.resolution) == ("one", 32)
    assert [(d.height, d.width, d.trained) for d in export.differences] == [(32, 32, True)]
    assert export.size == out.stat().st_size
    assert log_of_opening(out, capfd) == ""
    run = onnx_export.runner(out)
    net, _, _ = load_checkpoint(source)
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        expected = net.predict(images).numpy()
    np.testing.assert_allclose(run(images.numpy()), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("preprocessing", "free"),
    [(Preprocessing(fit="square"), False), (Preprocessing(fit="aspect"), True)],
)
def test_file_of_one_resolution_is_as_free_as_its_views(
    preprocessing: Preprocessing, free: bool, tmp_path: Path
) -> None:
    told = description(layout="one", resolution=64, preprocessing=preprocessing)
    export = write_checked(small_net(), told, tmp_path / "one.onnx")
    dim = onnx.load(export.path).graph.input[0].type.tensor_type.shape.dim
    assert [bool(axis.dim_param) for axis in dim] == [True, False, free, free]


def test_network_with_shared_batchnorms_is_exported_too(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "shared.pt", batchnorm="shared")
    export = export_checkpoint(source, tmp_path / "all.onnx")
    assert export.description.batchnorm == "shared"
    assert [d.trained for d in export.differences] == [True, True, False, False]


# What is compared, and what is refused.


def off_by(difference: float, net: SwitchableNet, images: Any) -> Any:
    """Give the logits of a network, and so much more."""
    with torch.no_grad():
        return net.predict(torch.from_numpy(images)).numpy() + difference


def test_comparison_finds_what_differs_where() -> None:
    net = small_net()

    def wrong(images: Any) -> Any:
        return off_by(0.5 if images.shape[-1] == 32 else 0, net, images)

    found = differences(net, wrong, [64, 32], untrained=True)
    assert [(d.height, d.width, d.trained) for d in found] == [
        *[(64, 64, True), (32, 32, True)],
        *[(48, 48, False), (96, 128, False)],
    ]
    assert [d.largest for d in found] == pytest.approx([0, 0.5, 0, 0])
    with pytest.raises(ValueError, match=r"more than 0.001 at 32x32 \(trained\): .* 5.0e-01"):
        check(found)
    check(found, 0.6)


def test_logits_that_are_no_numbers_or_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="differs from PyTorch"):
        check([Difference(32, 32, True, float("nan"), 1)])
    with pytest.raises(ValueError, match=r"\(2, 1\) for images of 64x64 pixels, .* \(2, 3\)"):
        differences(small_net(), lambda _: np.zeros((2, 1), np.float32), [64], untrained=False)


def test_file_that_a_runtime_cannot_compute_is_an_error_with_the_size() -> None:
    def fail(images: NDArray[np.float32]) -> NDArray[np.float32]:
        raise RuntimeError(f"invalid index in {images.ndim} axes\n at node 7")

    text = "fails on images of 64x64 pixels, and nothing was written: invalid index in 4 axes$"
    with pytest.raises(ValueError, match=text):
        differences(small_net(), fail, [64], untrained=False)


def test_untrained_sizes_are_those_that_the_network_takes() -> None:
    class Halving(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if x.shape[-1] % 32 or x.shape[-2] % 32:
                raise RuntimeError("a multiple of 32, please")
            normalised: torch.Tensor = self.norm(x)
            return normalised

    net = SwitchableNet(Halving(), [96, 64, 32]).eval()
    assert list(export_check._untrained_sizes(net)) == [(128, 128), (160, 192)]


def test_file_that_differs_gets_no_name_and_an_older_one_is_kept(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, written = tmp_path / "all.onnx", (folder / "classification.onnx").read_bytes()
    monkeypatch.setattr(onnx_export, "write", lambda _, __, path, **___: path.write_bytes(written))
    monkeypatch.setattr(
        onnx_export, "runner", lambda _: lambda images: np.ones((len(images), 3), np.float32)
    )
    for before in (None, b"older"):
        if before:
            out.write_bytes(before)
        with pytest.raises(ValueError, match="nothing was written"):
            write_checked(small_net(), description(), out)
        assert [path.read_bytes() for path in tmp_path.iterdir()] == ([before] if before else [])


def test_network_that_outgrows_the_format_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "_LARGEST", 1000)
    with pytest.raises(ValueError, match=r"an ONNX file ends at 2; use the checkpoint"):
        write_checked(small_net(), description(), tmp_path / "all.onnx")


# The command.


def test_command_prints_differences_and_size(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "all.onnx"
    given = ["export", str(folder / "classification.pt"), "--out", str(out), "--compact"]
    assert cli.main(given) == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert [line.split(":")[0] for line in lines[:4]] == [
        *["64x64 (trained)", "32x32 (trained)"],
        *["48x48 (not trained)", "96x128 (not trained)"],
    ]
    assert lines[4].startswith(f"{out}: ")
    assert shown.err == ""
    assert cli.main(given) == 2
    assert "give --overwrite" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--out", "all.pt2"],
            "all.pt2: files are exported as ONNX; give a name that ends in .onnx",
        ),
        (["--out", "one.pt2", "--resolution", "32"], "give a name that ends in .onnx"),
        (["--out", "all.tflite"], "give a name that ends in .onnx"),
        (["--out", "nowhere/all.onnx"], "there is no folder nowhere"),
        (["--out", "x.onnx", "--resolution", "48"], "is for one of 64, 32"),
        (["--out", "x.onnx", "--resolution", "32", "--compact"], "compact is a form of the file"),
    ],
)
def test_what_is_wrong_is_one_line_and_status_2(
    folder: Path,
    options: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    before = sorted(folder.iterdir())
    assert cli.main(["export", "classification.pt", *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("rsseg export: ")
    assert message in line
    assert sorted(folder.iterdir()) == before


def test_tolerance_is_that_of_the_command(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = (folder / "classification.onnx").read_bytes()
    net, _, _ = load_checkpoint(folder / "classification.pt")
    monkeypatch.setattr(onnx_export, "write", lambda _, __, path, **___: path.write_bytes(written))
    monkeypatch.setattr(onnx_export, "runner", lambda _: partial(off_by, 0.5, net))
    given = ["export", str(folder / "classification.pt"), "--out", str(tmp_path / "x.onnx")]
    assert cli.main([*given, "--tolerance", "0.4"]) == 2
    told = "rsseg export: the exported network differs from PyTorch by more than 0.4 at 64x64"
    assert capsys.readouterr().err.startswith(told)
    assert not list(tmp_path.iterdir())
    assert cli.main([*given, "--tolerance", "0.6"]) == 0
    assert (tmp_path / "x.onnx").read_bytes() == written


def test_file_that_is_no_checkpoint_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = str(folder / "classification.onnx")
    assert cli.main(["export", given, "--out", str(folder / "x.onnx")]) == 2
    assert capsys.readouterr().err == (
        f"rsseg export: {given} is an exported file; give the checkpoint (.pt or packed "
        ".safetensors) that it was made from\n"
    )


def test_missing_package_is_named_with_the_remedy(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnxscript" else object()
    )
    given = str(folder / "classification.pt")
    assert cli.main(["export", given, "--out", str(folder / "x.onnx")]) == 2
    message = "rsseg export: onnxscript is not installed; pip install 'rsseg[onnx]'\n"
    assert capsys.readouterr().err == message


def test_description_is_json_of_one_format() -> None:
    text = json.dumps(plain(description()))
    assert parse(text, Path("x.onnx")) == description()


def test_checkpoint_is_never_written_over(tmp_path: Path) -> None:
    checkpoint = tmp_path / "last.onnx"
    checkpoint.write_text("mine")
    with pytest.raises(ValueError, match="is the checkpoint itself"):
        export_checkpoint(checkpoint, tmp_path / "." / "last.onnx", overwrite=True)
    assert checkpoint.read_text() == "mine"


@pytest.mark.parametrize("tolerance", [float("nan"), -1.0, 0.0])
def test_tolerance_is_checked_before_anything_is_exported(tmp_path: Path, tolerance: float) -> None:
    with pytest.raises(ValueError, match="tolerance must be a positive number"):
        export_checkpoint(tmp_path / "last.pt", tmp_path / "net.onnx", tolerance=tolerance)
