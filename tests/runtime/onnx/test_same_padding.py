"""Convolutions with "SAME" padding: the operator, and the node that stands for it in a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from timm.layers import create_conv2d
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

from rsseg.runtime.onnx.executor import INPUT
from rsseg.runtime.onnx.export import export_checkpoint
from rsseg.runtime.onnx.model import model_of_all
from rsseg.runtime.onnx.same_padding import as_operators
from rsseg.save import save_checkpoint
from rsseg.switchable.net import SwitchableNet
from tests.helpers.small_networks import randomise

onnxruntime = pytest.importorskip("onnxruntime")


class Deep(nn.Module):
    """Six halvings, each padded by what its input's size asks for."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index, kernel in enumerate((3, 5, 3, 3, 5, 3)):
            width = 3 if index == 0 else 4
            layers += [create_conv2d(width, 4, kernel, stride=2, padding="same")]
            layers += [nn.BatchNorm2d(4), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(self.body(x).mean(dim=(2, 3)))
        return result


def build() -> nn.Module:
    return Deep()


def test_the_operator_computes_what_the_layer_does_and_leaves_it_as_it_was() -> None:
    torch.manual_seed(0)
    network = Deep().eval()
    assert sum(isinstance(layer, Conv2dSame) for layer in network.modules()) == 6
    images = [torch.randn(2, 3, side, side + 3) for side in (31, 32, 45, 64)]
    expected = [network(image) for image in images]
    with as_operators(network):
        for image, logits in zip(images, expected, strict=True):
            torch.testing.assert_close(network(image), logits, rtol=0, atol=0)
    assert all("forward" not in vars(layer) for layer in network.modules())


def switchable() -> SwitchableNet:
    torch.manual_seed(0)
    net = SwitchableNet(Deep(), [64, 33])
    randomise(net)
    return net.eval()


def write(net: SwitchableNet, path: Path, *, compact: bool) -> None:
    options = {"builder": build, "classes": ["a", "b", "c"], "task": "classification"}
    save_checkpoint(net, path.with_suffix(".pt"), **options)  # type: ignore[arg-type]
    export_checkpoint(path.with_suffix(".pt"), path, allow_builder=True, compact=compact)


@pytest.mark.parametrize("compact", [False, True])
def test_exported_file_pads_images_of_every_size_as_the_network_does(
    compact: bool, tmp_path: Path
) -> None:
    net = switchable()
    write(net, tmp_path / "net.onnx", compact=compact)
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    for side in (33, 64):
        for width in (side, side + 1, side + 6):
            images = torch.randn(1, 3, side, width)
            with torch.no_grad():
                expected = net.predict(images, side)
            logits = session.run(None, {INPUT: images.numpy()})[0]
            np.testing.assert_allclose(logits, expected.numpy(), rtol=1e-3, atol=1e-4)


def test_opencv_computes_the_compact_file_at_every_size(tmp_path: Path) -> None:
    """It pads by SAME_UPPER wrongly where a map of free size has an even side."""
    cv2 = pytest.importorskip("cv2")
    net = switchable()
    write(net, tmp_path / "net.onnx", compact=True)
    network = cv2.dnn.readNetFromONNX(str(tmp_path / "net.onnx"))
    for side in (64, 33, 48, 40):
        images = torch.randn(1, 3, side, side)
        network.setInput(images.numpy(), INPUT)
        with torch.no_grad():
            expected = net.predict(images)
        np.testing.assert_allclose(network.forward(), expected.numpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(1, 2, 1), (2, 2, 1), (3, 3, 2)])
def test_padding_fits_kernels_of_every_reach(kernel: int, stride: int, dilation: int) -> None:
    torch.manual_seed(0)
    same = Conv2dSame(3, 4, kernel, stride=stride, dilation=dilation)
    norm, head = nn.BatchNorm2d(4), (nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net = SwitchableNet(nn.Sequential(same, norm, nn.ReLU(), *head), [64, 32])
    randomise(net)
    net.eval()
    session = onnxruntime.InferenceSession(model_of_all(net, compact=True).SerializeToString())
    for side in (63, 64, 65, 66):
        images = torch.randn(1, 3, side, side + 1)
        with torch.no_grad():
            expected = net.predict(images)
        logits = session.run(None, {INPUT: images.numpy()})[0]
        np.testing.assert_allclose(logits, expected.numpy(), rtol=1e-3, atol=1e-4)
