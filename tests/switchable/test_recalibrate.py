"""Measured statistics of one BatchNorm set, against averages written out by hand."""

from __future__ import annotations

import copy
from typing import cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rsseg.switchable.convert import specialize
from rsseg.switchable.unseen import recalibrate
from tests.switchable.test_unseen import converted, held, images, tensors


def statistics_by_hand(network: nn.Sequential, batches: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Average over batches of each batch's mean and unbiased variance, shape (C,) each."""
    features = [network[0](batch).double().transpose(0, 1).flatten(1) for batch in batches]
    means = [f.mean(dim=1) for f in features]
    variances = [
        (f - m[:, None]).square().sum(dim=1) / (f.shape[1] - 1)
        for f, m in zip(features, means, strict=True)
    ]
    return sum(means, torch.zeros(4)) / len(batches), sum(variances, torch.zeros(4)) / len(batches)


@settings(deadline=None, max_examples=20)
@given(count=st.integers(1, 5), seed=st.integers(0, 1000))
def test_recalibrated_statistics_are_the_averages_over_batches(count: int, seed: int) -> None:
    network, batches = converted(), images(count, seed)
    recalibrate(network, batches, 160)
    with torch.no_grad():
        mean, variance = statistics_by_hand(network, batches)
    measured = tensors(network, "160")
    torch.testing.assert_close(measured["running_mean"].double(), mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(measured["running_var"].double(), variance, rtol=1e-4, atol=1e-5)


def test_recalibration_changes_the_statistics_of_one_set_only() -> None:
    network = converted()
    before = copy.deepcopy(network.state_dict())
    recalibrate(network, images(2), 160)
    changed = {k for k, v in network.state_dict().items() if not torch.equal(v, before[k])}
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    assert changed == {f"1.sets.160.{name}" for name in buffers}
    assert all(p.grad is None and p.requires_grad for p in network.parameters())


def test_recalibration_twice_gives_the_same_statistics() -> None:
    network = converted()
    recalibrate(network, images(3), 160)
    first = {k: t.clone() for k, t in tensors(network, "160").items()}
    recalibrate(network, images(3), 160)
    assert all(torch.equal(t, first[k]) for k, t in tensors(network, "160").items())


def test_recalibration_restores_modes_and_momenta_even_after_a_fault() -> None:
    network = converted()
    network.train()
    network[3].eval()
    held(network, "160").momentum = 0.3
    modes = [module.training for module in network.modules()]
    recalibrate(network, images(1), 160)
    with pytest.raises(RuntimeError):
        recalibrate(network, [torch.zeros(1, 5, 8, 8)], 160)
    assert [module.training for module in network.modules()] == modes
    assert held(network, "160").momentum == 0.3


@pytest.mark.parametrize("batches", [[], [torch.ones(1, 3, 8, 8), torch.ones(1, 5, 8, 8)]])
def test_recalibration_that_fails_loses_no_statistics(batches: list[Tensor]) -> None:
    network = converted()
    before = copy.deepcopy(network.state_dict())
    with pytest.raises((RuntimeError, ValueError)):
        recalibrate(network, batches, 160)
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


class Wrapped(nn.Module):
    """Keeps its backbone under the name that SwitchableNet uses."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.head = nn.BatchNorm2d(4)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.head(self.network(images) + 5)
        return features


def test_network_that_holds_a_part_called_network_is_recalibrated_as_a_whole() -> None:
    network = Wrapped()
    recalibrate(network, images(2), 64)
    assert network.head.state_dict()["num_batches_tracked"] == 2


def test_plain_network_is_recalibrated_as_a_whole() -> None:
    network = converted()
    plain = cast(nn.Sequential, copy.deepcopy(specialize(network, 96)))
    recalibrate(plain, images(2), 160)
    recalibrate(network, images(2), 160)
    measured = dict(plain[1].named_buffers())
    assert len(measured) == 3
    assert all(torch.equal(measured[k], v) for k, v in held(network, "160").named_buffers())


def test_recalibration_of_a_set_that_is_not_held_is_refused() -> None:
    with pytest.raises(ValueError, match="resolution 200 has no BatchNorm set"):
        recalibrate(converted(), images(1), 200)


def test_recalibration_without_images_is_refused() -> None:
    with pytest.raises(ValueError, match="needs at least one batch of images, got none"):
        recalibrate(converted(), [], 160)
