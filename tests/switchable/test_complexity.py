"""Facts about rsseg/switchable/complexity.py."""

from __future__ import annotations

import copy

import pytest
import torch
import torchvision
from torch import nn

from rsseg.segmentation.refinenet import RefineNet
from rsseg.switchable.complexity import batchnorm_parameters, count_macs, count_parameters
from rsseg.switchable.net import SwitchableNet

SIDES = (224, 96)  # Those between are in tests/analysis/test_profile.py.


@pytest.mark.parametrize(
    ("name", "parameters", "private", "millions"),
    [
        ("resnet18", 11_689_512, 11_727_912, (1814.1, 333.6)),
        ("resnet50", 25_557_032, 25_769_512, (4089.2, 752.7)),
        ("mobilenet_v2", 3_504_872, 3_641_320, (300.8, 56.3)),
    ],
)
def test_published_counts_of_classifiers(
    name: str, parameters: int, private: int, millions: tuple[float, ...]
) -> None:
    with torch.device("meta"):
        network: nn.Module = torchvision.models.get_model(name)
    assert count_parameters(network) == parameters
    # Four more BatchNorm sets.
    assert parameters + 4 * batchnorm_parameters(network) == private
    counted = [count_macs(network, side) / 1e6 for side in SIDES]
    assert counted == pytest.approx(millions, rel=5e-3)


def test_published_counts_of_refinenet() -> None:
    with torch.device("meta"):
        network = RefineNet()
    assert count_parameters(network) == 118_096_232
    assert count_parameters(network) + 2 * batchnorm_parameters(network) == 118_306_920
    counted = [count_macs(network, side) / 1e9 for side in (352, 96)]
    assert counted == pytest.approx([124.6, 9.27], rel=5e-3)


def test_count_follows_height_width_and_channels() -> None:
    conv = nn.Conv2d(4, 6, kernel_size=3, padding=1, groups=2)
    assert count_macs(conv, (5, 7), in_channels=4) == (4 // 2) * 6 * 3 * 3 * 5 * 7
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 10))
    assert count_macs(network, 4) == 3 * 4 * 4 * 10


def switchable() -> SwitchableNet:
    torch.manual_seed(0)
    net = SwitchableNet(RefineNet("resnet18", classes=3, decoder_channels=8), [96, 64])
    net.get_submodule("network.encoder.layer1").eval()
    return net


def test_count_leaves_the_network_as_it_was() -> None:
    net = switchable()
    before = copy.deepcopy(net)
    for side in (64, 96, 80):
        count_macs(net, side)
    state = net.state_dict()
    assert all(torch.equal(state[key], value) for key, value in before.state_dict().items())
    assert list(state) == list(before.state_dict())
    pairs = list(zip(net.modules(), before.modules(), strict=True))
    assert all(new.training == old.training for new, old in pairs)
    assert all(getattr(new, "active", 0) == getattr(old, "active", 0) for new, old in pairs)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module, _ in pairs)
    assert type(net.network(torch.zeros(2, 3, 64, 64))) is torch.Tensor


@pytest.mark.parametrize("size", [96, 64, 80, (64, 100)])
def test_switchable_network_counts_like_the_plain_one(size: int | tuple[int, int]) -> None:
    net = switchable()
    plain = net.specialize(96)
    assert count_macs(net, size) == count_macs(plain, size)
    # Two sets of the encoder's BatchNorm.
    assert batchnorm_parameters(net) == 2 * batchnorm_parameters(plain)


def test_flags_come_back_after_an_error() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(7, 7))
    with pytest.raises(RuntimeError):
        count_macs(network, 32)
    assert all(module.training for module in network.modules())


def test_shared_parameters_count_once() -> None:
    norm = nn.BatchNorm2d(4)
    assert count_parameters(nn.Sequential(norm, norm)) == 8
    assert batchnorm_parameters(nn.Sequential(norm, norm)) == 8


def test_empty_image_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at least 1 pixel, got \(0, 0\)"):
        count_macs(nn.Identity(), 0)
