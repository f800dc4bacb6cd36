"""Facts about the BatchNorms in files of one resolution: less to compute, the same logits."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from rsseg.runtime.onnx.model import model_of_one
from rsseg.switchable.net import SwitchableNet
from tests.helpers import small_refinenet
from tests.helpers.small_networks import randomise

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet18": lambda: torchvision.models.resnet18(num_classes=4),
    "mobilenet_v2": lambda: torchvision.models.mobilenet_v2(num_classes=4, width_mult=0.25),
    "DenseNet": lambda: torchvision.models.DenseNet(8, (2, 2), 16, num_classes=4),
    "timm, activations in BatchNorm": lambda: timm.create_model("test_byobnet", num_classes=4),
    "RefineNet": small_refinenet.small,
}
# DenseNet normalises what it concatenates, which no convolution alone has computed: once in each of
# four layers, between two blocks, and at the end.
REMAINING = {"DenseNet": 6}


def ready(network: nn.Module, side: int) -> SwitchableNet:
    torch.manual_seed(0)
    net = SwitchableNet(network, [side])
    randomise(net)
    return net.eval()


def batchnorms(model: Any) -> int:
    return sum(node.op_type == "BatchNormalization" for node in model.graph.node)


def assert_same(model: Any, net: SwitchableNet, side: int) -> None:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    views = torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = net.predict(views).numpy()
    (logits,) = session.run(["logits"], {"images": views.numpy()})
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_folded_network_repeats_the_logits_without_any_batchnorm(name: str) -> None:
    net = ready(NETWORKS[name](), 32)
    model = model_of_one(net, 32)
    assert batchnorms(model) == REMAINING.get(name, 0)
    assert_same(model, net, 32)


# A layer, and how many of the BatchNorms behind it remain.
LAYERS: dict[str, tuple[nn.Module, int]] = {
    "bias": (nn.Sequential(nn.Conv2d(3, 4, 3, bias=True), nn.BatchNorm2d(4)), 0),
    "groups": (nn.Sequential(nn.Conv2d(3, 6, 3, groups=3), nn.BatchNorm2d(6)), 0),
    "no affine part": (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False)), 0),
    "padding by name": (nn.Sequential(nn.Conv2d(3, 4, 3, padding="same"), nn.BatchNorm2d(4)), 0),
    "transposed": (nn.Sequential(nn.ConvTranspose2d(3, 4, 3, 2), nn.BatchNorm2d(4)), 0),
    "transposed groups": (
        nn.Sequential(
            nn.Conv2d(3, 6, 1), nn.ConvTranspose2d(6, 4, 3, groups=2, bias=False), nn.BatchNorm2d(4)
        ),
        0,
    ),
    "linear": (nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 5), nn.BatchNorm1d(5)), 0),
    "linear over rows": (
        nn.Sequential(nn.Flatten(2), nn.Linear(64, 5), nn.BatchNorm1d(3)),
        1,
    ),
    "activation between": (nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)), 1),
    "two in a row": (
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4)),
        0,
    ),
    "statistics of the batch": (
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)),
        1,
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_what_can_be_folded_is_and_all_else_stays(name: str) -> None:
    network, remaining = LAYERS[name]
    net = ready(copy.deepcopy(network), 8)
    model = model_of_one(net, 8)
    assert batchnorms(model) == remaining
    assert_same(model, net, 8)


class ReadTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        normalised: Tensor = self.norm(x)
        return x + normalised


def test_convolution_that_others_read_keeps_its_weights() -> None:
    net = ready(ReadTwice(), 8)
    model = model_of_one(net, 8)
    assert batchnorms(model) == 1
    assert_same(model, net, 8)


class TwoNorms(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.first, self.second = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        normalised: Tensor = self.second(self.conv(self.first(self.conv(x))))
        return normalised


def test_convolution_that_is_used_twice_keeps_its_weights() -> None:
    net = ready(TwoNorms(), 8)
    assert_same(model_of_one(net, 8), net, 8)


def test_original_keeps_its_tensors() -> None:
    net = ready(torchvision.models.resnet18(num_classes=4), 32)
    before = copy.deepcopy(net.state_dict())
    model_of_one(net, 32)
    after = net.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


class Undecided(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        return x if x.sum() > 0 else -x


def test_network_that_torch_export_cannot_take_is_named() -> None:
    with pytest.raises(ValueError, match=r"cannot take Undecided for images of 8 pixels"):
        model_of_one(ready(Undecided(), 8), 8)
