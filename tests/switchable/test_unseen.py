"""Sets for resolutions that were not trained, against the formulas written out in NumPy."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from rsseg.switchable.convert import (
    SwitchableBatchNorm2d,
    convert_to_switchable,
    held_sets,
    specialize,
    switch,
    trained_sets,
)
from rsseg.switchable.net import SwitchableNet
from rsseg.switchable.unseen import interpolate_set, neighbours, remove_set

TRAINED = (224, 160, 96)
TENSORS = ("weight", "bias", "running_mean", "running_var")
RESOLUTIONS = st.integers(1, 4096)


def converted(resolutions: tuple[int, ...] = TRAINED) -> nn.Sequential:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5))
    network = convert_to_switchable(plain.eval(), resolutions)
    for name in trained_sets(network):
        for tensor in tensors(network, name).values():
            nn.init.uniform_(tensor, 0.5, 1.5)
    return network


def held(network: nn.Sequential, name: str) -> _BatchNorm:
    return cast(_BatchNorm, cast(SwitchableBatchNorm2d, network[1]).sets[name])


def tensors(network: nn.Sequential, name: str) -> dict[str, Tensor]:
    return {tensor: getattr(held(network, name), tensor) for tensor in TENSORS}


def arrays(network: nn.Sequential, name: str) -> dict[str, np.ndarray]:
    return {k: t.detach().double().numpy() for k, t in tensors(network, name).items()}


def images(count: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(3, 3, 8, 8, generator=generator) * (i + 1) + i for i in range(count)]


# The three rules


@settings(deadline=None)
@given(resolution=st.integers(96, 224).filter(lambda r: r not in TRAINED))
def test_made_set_lies_on_the_line_between_its_neighbours(resolution: int) -> None:
    network = converted()
    interpolate_set(network, resolution)
    above = min(r for r in TRAINED if r > resolution)
    below = max(r for r in TRAINED if r < resolution)
    a, b = arrays(network, str(above)), arrays(network, str(below))
    for name, made in arrays(network, str(resolution)).items():
        share = np.interp(resolution, [below, above], [0, 1])
        expected = share * a[name] + (1 - share) * b[name]
        np.testing.assert_allclose(made, expected, rtol=1e-6)


def test_small_variances_are_interpolated_linearly_too() -> None:
    network = converted()
    for name, variance in (("224", 1e-8), ("160", 3e-8)):
        tensors(network, name)["running_var"].fill_(variance)
    interpolate_set(network, 192)
    np.testing.assert_allclose(arrays(network, "192")["running_var"], 2e-8, rtol=1e-6)


@settings(deadline=None)
@given(resolution=RESOLUTIONS.filter(lambda r: not 96 <= r <= 224))
def test_outside_the_range_the_nearest_set_is_copied_exactly(resolution: int) -> None:
    network = converted()
    interpolate_set(network, resolution)
    end = "224" if resolution > 224 else "96"
    for name, made in tensors(network, str(resolution)).items():
        assert torch.equal(made, tensors(network, end)[name])
        assert made.data_ptr() != tensors(network, end)[name].data_ptr()


@settings(deadline=None)
@given(resolution=RESOLUTIONS.filter(lambda r: r not in TRAINED))
def test_nearest_set_is_copied_exactly_everywhere(resolution: int) -> None:
    network = converted()
    interpolate_set(network, resolution, rule="nearest")
    # Of two equally near ones the larger.
    nearest = min(TRAINED, key=lambda r: (abs(r - resolution), -r))
    for name, made in tensors(network, str(resolution)).items():
        assert torch.equal(made, tensors(network, str(nearest))[name])


@settings(deadline=None)
@given(resolution=RESOLUTIONS.filter(lambda r: not 96 <= r <= 224))
def test_extrapolated_set_continues_the_line_with_variance_above_zero(resolution: int) -> None:
    network = converted()
    interpolate_set(network, resolution, rule="extrapolate")
    low, high = (160, 224) if resolution > 224 else (96, 160)
    a, b = arrays(network, str(low)), arrays(network, str(high))
    for name, made in arrays(network, str(resolution)).items():
        expected = a[name] + (b[name] - a[name]) * (resolution - low) / (high - low)
        if name == "running_var":
            assert (made > 0).all()
            expected = np.maximum(expected, 1e-5)
        np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-5)
    assert specialize(network, resolution)(images(1)[0]).isfinite().all()


@given(resolution=RESOLUTIONS, rule=st.sampled_from(["interpolate", "nearest", "extrapolate"]))
def test_shares_of_the_neighbours_give_the_resolution_back(resolution: int, rule: str) -> None:
    a, b, share = neighbours(resolution, TRAINED, rule)
    assert {a, b} <= set(TRAINED)
    if rule == "extrapolate" or (rule == "interpolate" and 96 <= resolution <= 224):
        assert share * a + (1 - share) * b == pytest.approx(resolution)
    else:
        assert (b, share) == (a, 1.0)


@pytest.mark.parametrize("rule", ["interpolate", "nearest", "extrapolate"])
@pytest.mark.parametrize("resolution", TRAINED)
def test_at_a_trained_resolution_its_own_set_has_the_whole_share(
    resolution: int, rule: str
) -> None:
    a, b, share = neighbours(resolution, TRAINED, rule)
    assert {a: share, b: 1 - share}[resolution] == 1 or (a == b == resolution)


@pytest.mark.parametrize("rule", ["interpolate", "extrapolate"])
@pytest.mark.parametrize("resolution", TRAINED)
def test_trained_sets_are_reproduced_exactly_at_the_end_points(resolution: int, rule: str) -> None:
    network = converted()
    expected = {k: t.clone() for k, t in tensors(network, str(resolution)).items()}
    a, b, share = neighbours(resolution, TRAINED, rule)
    first, second = arrays(network, str(a)), arrays(network, str(b))
    for name, tensor in expected.items():
        np.testing.assert_array_equal(
            share * first[name] + (1 - share) * second[name], tensor.detach()
        )


@pytest.mark.parametrize("rule", ["interpolate", "nearest", "extrapolate"])
def test_one_trained_resolution_serves_all_others(rule: str) -> None:
    network = converted((64,))
    interpolate_set(network, 300, rule=rule)
    for name, made in tensors(network, "300").items():
        assert torch.equal(made, tensors(network, "64")[name])


def test_repeated_resolutions_are_interpolated_by_their_first_set() -> None:
    network = converted((224, 224, 96))
    interpolate_set(network, 160)
    expected = (arrays(network, "224")["weight"] + arrays(network, "96")["weight"]) / 2
    np.testing.assert_allclose(arrays(network, "160")["weight"], expected, rtol=1e-6)


def test_layers_without_affine_part_or_statistics_are_interpolated_too() -> None:
    plain = nn.Sequential(
        nn.BatchNorm2d(3, affine=False), nn.BatchNorm2d(3, track_running_stats=False)
    )
    network = convert_to_switchable(plain, [64, 32])
    interpolate_set(network, 48)
    assert held_sets(network) == ("64", "32", "48")


def test_unknown_rule_lists_the_known_ones() -> None:
    message = r"unknown rule 'cubic' .* expected \['interpolate', 'nearest', 'extrapolate'\]"
    with pytest.raises(ValueError, match=message):
        interpolate_set(converted(), 200, rule="cubic")


# Adding and removing sets


def test_made_set_is_part_of_the_state_dict_and_changes_no_other_tensor() -> None:
    network = converted()
    before = copy.deepcopy(network.state_dict())
    interpolate_set(network, 200)
    after = network.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    buffers = {"running_mean", "running_var", "num_batches_tracked"}
    added = {f"1.sets.200.{name}" for name in {"weight", "bias"} | buffers}
    assert set(after) - set(before) == added


def test_made_set_can_be_switched_to_and_specialized() -> None:
    network = converted()
    interpolate_set(network, 200)
    switch(network, 200)
    x = images(1)[0]
    assert torch.equal(specialize(network, 200)(x), network(x))


def test_removed_set_is_gone_and_the_first_one_is_active() -> None:
    network = converted()
    interpolate_set(network, 100)
    switch(network, 100)
    remove_set(network, 100)
    assert held_sets(network) == ("224", "160", "96")
    assert cast(SwitchableBatchNorm2d, network[1]).active == "224"


def test_set_that_is_held_already_is_refused() -> None:
    with pytest.raises(ValueError, match="160 has a BatchNorm set already; this network holds 224"):
        interpolate_set(converted(), 160)


@pytest.mark.parametrize("resolution", [0, 4097, -1])
def test_resolution_out_of_range_is_refused(resolution: int) -> None:
    with pytest.raises(ValueError, match=f"resolution {resolution} is not a whole number"):
        interpolate_set(converted(), resolution)


def test_only_added_sets_can_be_removed() -> None:
    network = converted((64, 32))
    interpolate_set(network, 48)
    for name in (7, 64):
        with pytest.raises(ValueError, match=rf"cannot remove the set {name}: .* network has 48"):
            remove_set(network, name)


def test_sets_that_were_added_do_not_change_those_added_later() -> None:
    once, twice = converted((224, 192)), converted((224, 192))
    interpolate_set(twice, 208)
    for network in (once, twice):
        interpolate_set(network, 205, rule="nearest")
        switch(network, 205)
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            specialize(once, 205).state_dict().values(),
            specialize(twice, 205).state_dict().values(),
            strict=True,
        )
    )
    assert SwitchableNet(twice, [224, 192]).network is twice


@pytest.mark.parametrize(
    "call",
    [
        lambda: interpolate_set(nn.Sequential(nn.BatchNorm2d(3)), 64),
        lambda: remove_set(nn.Sequential(nn.BatchNorm2d(3)), 64),
    ],
)
def test_network_that_was_not_converted_is_refused(call: Callable[[], None]) -> None:
    with pytest.raises(ValueError, match="no switchable BatchNorm; convert it first"):
        call()
