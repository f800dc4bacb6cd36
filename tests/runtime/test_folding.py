"""Facts about rsseg/runtime/folding.py: less to compute, the same logits, nothing changed."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import timm
import torch
import torchvision
from torch import Tensor, fx, nn

from rsseg.runtime.folding import fold_batchnorms
from rsseg.switchable.net import SwitchableNet
from tests.helpers import small_refinenet
from tests.helpers.small_networks import randomise

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet18": lambda: torchvision.models.resnet18(num_classes=4),
    "mobilenet_v2": lambda: torchvision.models.mobilenet_v2(num_classes=4, width_mult=0.25),
    "timm, activations in BatchNorm": lambda: timm.create_model("test_byobnet", num_classes=4),
    "RefineNet": small_refinenet.small,
}


def ready(network: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    randomise(network)
    return network.eval()


def images(side: int = 32, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(1))


def batchnorms(network: fx.GraphModule) -> int:
    return sum("batch_norm" in str(node.target) for node in network.graph.nodes)


def assert_same(folded: nn.Module, network: nn.Module, views: Tensor) -> None:
    with torch.no_grad():
        torch.testing.assert_close(folded(views), network(views), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_folded_network_repeats_the_logits_without_any_batchnorm(name: str) -> None:
    network = ready(NETWORKS[name]())
    folded = fold_batchnorms(network, images())
    assert batchnorms(folded) == 0
    assert_same(folded, network, images(batch=3))


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
    network, left = LAYERS[name]
    ready(network)
    folded = fold_batchnorms(network, images(8))
    assert batchnorms(folded) == left
    assert_same(folded, network, images(8))


class ReadTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        normalised: Tensor = self.norm(x)
        return x + normalised


def test_convolution_that_others_read_keeps_its_weights() -> None:
    network = ready(ReadTwice())
    folded = fold_batchnorms(network, images(8))
    assert batchnorms(folded) == 1
    assert_same(folded, network, images(8))


def test_original_keeps_its_tensors_and_what_is_not_folded_is_shared() -> None:
    net = SwitchableNet(torchvision.models.resnet18(num_classes=4), [64, 32])
    randomise(net)
    net.eval()
    before = copy.deepcopy(net.state_dict())
    folded = fold_batchnorms(net.specialize(32), images())
    after = net.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    network = net.network
    assert isinstance(network, torchvision.models.ResNet)
    assert any(tensor is network.fc.weight for tensor in folded.parameters())
    # A weight and a bias for each convolution and the linear layer, nothing else.
    assert len(folded.state_dict()) == 2 * 21


def test_folded_network_of_any_sides_takes_other_sizes() -> None:
    network = ready(nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4), nn.ReLU()))
    folded = fold_batchnorms(network, images(32), sides="any")
    assert_same(folded, network, images(51, batch=1)[..., :20])


def test_network_in_training_mode_is_refused() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    with pytest.raises(ValueError, match=r"training mode.*eval\(\)"):
        fold_batchnorms(network, images(8))


class Undecided(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_network_that_torch_export_cannot_take_is_named() -> None:
    with pytest.raises(ValueError, match=r"cannot take Undecided for images of 8 pixels"):
        fold_batchnorms(Undecided().eval(), images(8))
