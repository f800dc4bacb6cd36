"""Facts about rsseg/runtime/fixed_shapes and `rsseg export --format`: weights once, same logits.

The formats of packages that are not installed are skipped; `pip install 'rsseg[executorch]'`.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image as Pictures
from timm.layers import create_conv2d
from torch import nn

from rsseg.cli import main as cli
from rsseg.common.file_kinds import FileKind, file_kind
from rsseg.load import load_checkpoint
from rsseg.quantization.convert import QuantizerSettings, quantize
from rsseg.runtime import Predictor
from rsseg.runtime.fixed_shapes.export import FORMATS, export_fixed, write_compared, written_folder
from rsseg.runtime.opening import open_executor
from rsseg.segmentation.refinenet import RefineNet
from rsseg.switchable.convert import switchable_layers
from rsseg.switchable.net import SwitchableNet
from tests.helpers.processes import ROOT, environment
from tests.helpers.small_checkpoint import RESOLUTIONS, write_checkpoint
from tests.helpers.small_exported import description, small_net
from tests.helpers.small_networks import randomise

TOLERANCE = 1e-4


def _installed(name: str) -> Any:
    missing = [p for p in FORMATS[name].packages if importlib.util.find_spec(p) is None]
    skip = pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} is not installed")
    return pytest.param(name, marks=skip)


each_format = pytest.mark.parametrize("name", [_installed(name) for name in FORMATS])


def place(folder: Path, name: str, stem: str = "net") -> Path:
    return folder / f"{stem}{FORMATS[name].suffix}"


def bytes_of(path: Path) -> int:
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


def compare(net: SwitchableNet, path: Path) -> None:
    """Check a file against PyTorch at each resolution, two images at once."""
    executor, _ = open_executor(path, threads=1)
    for side in net.resolutions:
        images = torch.randn(2, 3, side, side)
        with torch.no_grad():
            expected = net.predict(images).numpy()
        computed = executor.logits(images.numpy(), side)
        np.testing.assert_allclose(computed, expected, rtol=TOLERANCE, atol=TOLERANCE)


def write(path: Path, name: str, net: SwitchableNet, **values: Any) -> Path:
    told = description(**{"layout": "fixed", "resolutions": net.resolutions, **values})
    compared = write_compared(net.eval(), told, path, FORMATS[name]).differences
    assert [d.trained for d in compared] == [True] * len(told.usable)
    return path


@each_format
@pytest.mark.parametrize("maps", [False, True])
def test_file_predicts_at_each_resolution(name: str, maps: bool, tmp_path: Path) -> None:
    net, task = small_net(maps=maps), "segmentation" if maps else "classification"
    path = write(place(tmp_path, name), name, net, task=task)
    assert file_kind(path) is FORMATS[name].kind
    compare(net, path)
    predictor = Predictor.open(path, threads=1)
    assert (predictor.executor.name, predictor.resolutions) == (name, (64, 32))
    answer = predictor.predict(np.full((40, 60, 3), 99, np.uint8), 32)
    assert answer.resolution == 32
    if maps:
        assert answer.label_map is not None
        assert answer.label_map.shape == (40, 60)


@each_format
def test_weights_are_stored_once(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 64, 3, stride=2), nn.BatchNorm2d(64), nn.ReLU())
    more = (nn.Conv2d(64, 640, 3, stride=2), nn.BatchNorm2d(640), nn.AdaptiveAvgPool2d(1))
    net = SwitchableNet(nn.Sequential(*layers, *more, nn.Flatten()), [64, 48, 32])
    randomise(net)
    every = write(place(tmp_path, name), name, net)
    one = place(tmp_path, name, "one")
    write(one, name, net, layout="one", resolution=64)
    assert bytes_of(one) > 4 * 64 * 640 * 9
    assert bytes_of(every) < 1.05 * bytes_of(one)


@each_format
def test_file_of_one_resolution_refuses_others(name: str, tmp_path: Path) -> None:
    net = small_net()
    path = write(place(tmp_path, name), name, net, layout="one", resolution=32)
    executor, _ = open_executor(path)
    assert executor.resolutions == (32,)
    with pytest.raises(ValueError, match="holds resolution 32 alone, got 64"):
        executor.logits(np.zeros((1, 3, 64, 64), np.float32), 64)


@each_format
def test_untrained_resolutions_and_other_views_are_refused(name: str, tmp_path: Path) -> None:
    executor, _ = open_executor(write(place(tmp_path, name), name, small_net()))
    with pytest.raises(ValueError, match="holds resolution 64, 32 alone, got 48"):
        executor.logits(np.zeros((1, 3, 48, 48), np.float32), 48)
    with pytest.raises(ValueError, match="views of 32x32 pixels at resolution 32, got 40x32"):
        executor.logits(np.zeros((1, 3, 32, 40), np.float32), 32)


@each_format
@pytest.mark.parametrize("basis", ["shared", "private"])
def test_quantised_network_keeps_its_levels(name: str, basis: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        *(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()),
        *(nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()),
        *(nn.Conv2d(6, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    )
    quantize(network, 2, 2, settings=QuantizerSettings(basis=basis))
    net = SwitchableNet(network, [16, 8])
    net.train()
    net([torch.randn(4, 3, side, side) for side in (16, 8)])
    compare(net.eval(), write(place(tmp_path, name), name, net))


@each_format
def test_same_padding_is_the_padding_of_each_size(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    same = (create_conv2d(3, 4, 3, stride=2, padding="same"), nn.BatchNorm2d(4), nn.ReLU())
    net = SwitchableNet(nn.Sequential(*same, nn.AdaptiveAvgPool2d(1), nn.Flatten()), [33, 32])
    randomise(net)
    compare(net.eval(), write(place(tmp_path, name), name, net))


@each_format
@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "options"),
    [("test_convnext", {}), ("test_vit", {"img_size": 64, "dynamic_img_size": True})],
)
def test_private_layernorms_predict_at_each_resolution(
    name: str, network: str, options: dict[str, Any], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    plain = timm.create_model(network, num_classes=3, **options)
    net = SwitchableNet(plain, [64, 32], norms=["layer"])
    for layer in switchable_layers(net):
        for tensor in layer.state_dict().values():
            nn.init.uniform_(tensor, 0.5, 1.5)
    path = write(place(tmp_path, name), name, net)
    compare(net, path)
    shared = sum(p.numel() for key, p in net.named_parameters() if ".sets." not in key)
    assert bytes_of(path) < 1.7 * 4 * shared  # once: two copies would be twice


@each_format
@pytest.mark.slow
def test_refinenet_answers_with_logits_of_its_own_size(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = SwitchableNet(RefineNet("resnet18", classes=3, decoder_channels=8), [64, 32])
    randomise(net)
    compare(net.eval(), write(place(tmp_path, name), name, net, task="segmentation"))


@each_format
@pytest.mark.slow
def test_command_exports_and_predicts(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = write_checkpoint(tmp_path / "last.pt"), place(tmp_path, name)
    words = ["export", str(source), "--format", name, "--out", str(out)]
    assert cli.main(words) == 0
    shown = capsys.readouterr().out
    assert all(f"{side}x{side} (trained)" in shown for side in RESOLUTIONS)
    net, _, _ = load_checkpoint(source)
    compare(net, out)
    assert cli.main(words) != 0
    assert "--overwrite" in capsys.readouterr().err
    assert cli.main([*words, "--overwrite"]) == 0
    Pictures.new("RGB", (50, 40)).save(tmp_path / "photo.png")
    told = ["predict", str(out), str(tmp_path / "photo.png"), "--out", str(tmp_path / "answers")]
    assert cli.main(told) == 0


# What is refused at the door.


def test_unknown_format_and_wrong_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown format 'executorc'; did you mean 'executorch'"):
        export_fixed(tmp_path / "last.pt", tmp_path / "net.pte", "executorc")
    with pytest.raises(ValueError, match=r"ends in \.pte"):
        export_fixed(tmp_path / "last.pt", tmp_path / "net.onnx", "executorch")
    with pytest.raises(ValueError, match="has no suffix, for a folder"):
        export_fixed(tmp_path / "last.pt", tmp_path / "net.xml", "openvino")


def test_folder_of_something_else_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").touch()
    with pytest.raises(ValueError, match="did not write; choose another name"):
        export_fixed(tmp_path / "last.pt", tmp_path / "photos", "openvino", overwrite=True)
    assert (tmp_path / "photos" / "holiday.jpg").exists()


@each_format
def test_views_of_any_shape_are_refused(name: str, tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "last.pt", preprocessing={"fit": "aspect"})
    with pytest.raises(ValueError, match=r"aspect\), so its views have no fixed shape"):
        export_fixed(source, place(tmp_path, name), name)


def test_package_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ImportError, match=r"pip install 'rsseg\[executorch\]'"):
        export_fixed(tmp_path / "last.pt", tmp_path / "net.pte", "executorch")


def test_failed_folder_leaves_the_one_before(tmp_path: Path) -> None:
    out = tmp_path / "net"
    out.mkdir()
    (out / "old").touch()

    def fail() -> None:
        with written_folder(out) as temporary:
            (temporary / "new").touch()
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["net"]
    assert [path.name for path in out.iterdir()] == ["old"]


# What is opened.


ALONE = """
import sys
import numpy as np
from rsseg.runtime.predictor import Predictor
logits = Predictor.open(sys.argv[1], threads=1).executor.logits
assert logits(np.zeros((1, 3, 32, 32), np.float32), 32).shape == (1, 3)
assert "torch" not in sys.modules
"""


def test_openvino_folder_is_run_without_pytorch(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    path = write(tmp_path / "net", "openvino", small_net())
    command = [sys.executable, "-c", ALONE, str(path)]
    subprocess.run(command, cwd=ROOT, env=environment(), check=True)


def test_damaged_openvino_folder_says_so(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    path = write(tmp_path / "net", "openvino", small_net())
    (path / "32.xml").unlink()
    with pytest.raises(ValueError, match=r"32\.xml of its description is missing"):
        open_executor(path)
    (path / "64.xml").write_text("<net/>")
    with pytest.raises(ValueError, match="not an OpenVINO model that can be run"):
        open_executor(path)


def test_program_that_is_not_one_says_so(tmp_path: Path) -> None:
    path = tmp_path / "net.pte"
    path.write_bytes(b"\x00\x01\x00\x00ET12" + bytes(99))
    assert file_kind(path) is FileKind.EXECUTORCH
    if importlib.util.find_spec("executorch") is None:
        with pytest.raises(ImportError, match=r"pip install 'rsseg\[executorch\]'"):
            Predictor.open(path)
    else:
        with pytest.raises(ValueError, match="not an ExecuTorch program that can be run"):
            Predictor.open(path)
    with pytest.raises(ValueError, match="give the checkpoint"):
        load_checkpoint(path)
