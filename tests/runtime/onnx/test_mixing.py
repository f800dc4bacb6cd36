"""Facts about rsseg/runtime/onnx/mixing.py: what is private, and which share each set has."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from rsseg.quantization.convert import QuantizedConv2d, quantize
from rsseg.runtime.onnx.mixing import mixing, ordinary, private_tensors
from rsseg.switchable.net import SwitchableNet
from rsseg.switchable.unseen import interpolate_set
from tests.helpers.small_networks import at, randomise, small

sides = st.lists(st.integers(1, 300), min_size=1, max_size=5, unique=True)


@given(sides)
def test_trained_sides_take_their_own_set_alone(trained: list[int]) -> None:
    trained = sorted(trained, reverse=True)
    rule = mixing(trained, "interpolate")
    for index, side in enumerate(trained):
        assert rule.shares[side].tolist() == [float(i == index) for i in range(len(trained))]
        assert rule.kinds[side] == index


@given(sides)
def test_shares_of_a_side_sum_to_one_and_sides_between_are_of_two_sets(trained: list[int]) -> None:
    trained = sorted(trained, reverse=True)
    rule = mixing(trained, "interpolate")
    np.testing.assert_allclose(rule.shares.sum(axis=1), 1, rtol=1e-6)
    assert (rule.shares >= 0).all()
    between = [side for side in range(min(trained), max(trained)) if side not in trained]
    assert (np.count_nonzero(rule.shares[between], axis=1) == 2).all()
    assert (rule.kinds[between] == len(trained)).all()
    assert (rule.kinds[: min(trained)] == len(trained) - 1).all()


def test_shares_give_the_set_that_interpolate_set_makes() -> None:
    net = SwitchableNet(small(), [64, 32])
    randomise(net)
    interpolate_set(net.network, 40)
    layer = cast(nn.Sequential, net.network)
    shares = mixing([64, 32], "interpolate").shares[40]
    for name in ("weight", "bias", "running_mean", "running_var"):
        sets = torch.stack([getattr(at(layer, 1, side), name) for side in ("64", "32")])
        made = torch.from_numpy(shares) @ sets
        torch.testing.assert_close(made, getattr(at(layer, 1, "40"), name))


def test_nearest_never_mixes() -> None:
    rule = mixing([64, 32], "nearest")
    assert set(rule.kinds.tolist()) == {0, 1}


def test_rule_without_end_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'extrapolate'.*expected one of interpolate, nearest"):
        mixing([64, 32], "extrapolate")


def test_private_are_the_tensors_that_differ() -> None:
    net = SwitchableNet(small(), [64, 32])
    networks = [ordinary(net, side) for side in (64, 32)]
    assert not private_tensors(networks)
    with torch.no_grad():
        at(cast(nn.Sequential, net.network), 1, "32").bias.add_(1)
    private = private_tensors([ordinary(net, side) for side in (64, 32)])
    assert list(private) == ["1.bias"]
    np.testing.assert_array_equal(private["1.bias"][1], private["1.bias"][0] + 1)


@torch.no_grad()
def test_quantised_layers_are_replaced_by_plain_ones_and_the_network_keeps_them() -> None:
    made = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3))
    net = SwitchableNet(quantize(made), [64, 32]).eval()
    network = cast(nn.Sequential, ordinary(net, 32))
    assert type(network[3]) is nn.Sequential  # Staircase and convolution.
    assert isinstance(cast(nn.Sequential, net.network)[3], QuantizedConv2d)
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(network(images), net.predict(images))
