"""Switchable BatchNorm on small networks: what becomes private, what stays shared, what is refused.

Real networks are in `test_switchable_zoo`.
"""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from typing import cast

import numpy as np
import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.ops import FrozenBatchNorm2d

from rsseg.switchable.convert import (
    SwitchableBatchNorm2d,
    convert_to_switchable,
    specialize,
    switch,
    switchable_layers,
    trained_sets,
)
from rsseg.switchable.resolutions import Resolutions
from tests.helpers.small_networks import TENSORS, at, converted, randomise, run, small


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 16, 16)


# Resolutions and names


@pytest.mark.parametrize("given", [[64], [4096, 1], (224, 192, 160), [224, 224, 96]])
def test_resolutions_from_large_to_small_are_taken(given: list[int]) -> None:
    assert Resolutions(given) == tuple(given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "no resolution given; expected at least one"),
        ([0], "resolution 0 is not a whole number of pixels from 1 to 4096"),
        ([-32], "resolution -32 is not a whole number"),
        ([4097], "resolution 4097 is not a whole number"),
        ([64.0], "resolution 64.0 is not a whole number"),
        (["64"], "resolution '64' is not a whole number"),
        ([True], "resolution True is not a whole number"),
        ([32, 64], r"from large to small, got \[32, 64\]; write \[64, 32\]"),
    ],
)
def test_wrong_resolutions_are_refused_with_their_value(given: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Resolutions(given)
    with pytest.raises(ValueError, match=message):
        convert_to_switchable(small(), given)


def test_resolutions_are_integers_of_python_and_names_survive_copies_and_pickles() -> None:
    made = Resolutions(np.array([224, 224, 96]))
    assert [type(side) for side in made] == [int] * 3
    assert Resolutions(made) is made
    for again in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert tuple(again) == (224, 224, 96)
        assert again.names == ("224", "224_2", "96")
    assert json.dumps(made) == "[224, 224, 96]"
    with pytest.raises(ValueError, match=r"resolution np\.True_ is not a whole number"):
        Resolutions(np.array([True]))


def test_five_equal_resolutions_get_five_names() -> None:
    assert Resolutions([224] * 5).names == ("224", "224_2", "224_3", "224_4", "224_5")
    assert Resolutions([224, 96, 96]).names == ("224", "96", "96_2")


# Conversion: what is private


def test_only_batchnorm_gets_private_tensors() -> None:
    plain = small()
    expected = {
        key if key[0] not in "14" else f"{key[0]}.sets.{name}.{key[2:]}"
        for key in plain.state_dict()
        for name in ("64", "32")
    }
    shared = [plain[0].weight, plain[0].bias, plain[3].weight, plain[3].bias]
    network = convert_to_switchable(plain, [64, 32])
    assert network is plain
    assert set(network.state_dict()) == expected
    kept = {id(parameter) for parameter in network.parameters()}
    assert all(id(parameter) in kept for parameter in shared)


def test_every_set_starts_as_a_copy_with_memory_of_its_own() -> None:
    plain = small()
    network = convert_to_switchable(copy.deepcopy(plain), [64, 32])
    for index in (1, 4):
        for name in TENSORS:
            values = [getattr(at(network, index, s), name) for s in ("64", "32")]
            assert all(torch.equal(value, getattr(plain[index], name)) for value in values)
            assert values[0].data_ptr() != values[1].data_ptr()


@pytest.mark.parametrize(
    "layer",
    [
        nn.BatchNorm1d(4),
        nn.BatchNorm2d(4, eps=0.1, momentum=None),
        nn.BatchNorm3d(4, momentum=0.3),
        nn.SyncBatchNorm(4),
        nn.BatchNorm2d(4, affine=False),
        nn.BatchNorm2d(4, track_running_stats=False),
        BatchNormAct2d(4, act_layer=nn.SiLU),
        BatchNormAct2d(4, apply_act=False),
    ],
    ids=repr,
)
def test_every_kind_of_batchnorm_keeps_its_output(layer: _BatchNorm) -> None:
    shapes = {nn.BatchNorm1d: (3, 4), nn.BatchNorm3d: (3, 4, 2, 2, 2)}
    x = torch.randn(shapes.get(type(layer), (3, 4, 2, 2)))
    randomise(layer)
    plain = copy.deepcopy(layer).eval()
    network = convert_to_switchable(nn.Sequential(layer.eval()), [64, 32])
    for name in ("64", "32"):
        assert torch.equal(run(network, name, x), plain(x))
        kept = at(network, 0, name)
        assert type(kept) is type(plain)
        assert (kept.eps, kept.momentum) == (plain.eps, plain.momentum)


def test_each_resolution_trains_its_own_set_and_no_other(images: Tensor) -> None:
    network = converted().train()
    before = copy.deepcopy(network.state_dict())
    torch.autograd.backward(run(network, "32", images).square().sum())
    changed = {k for k, v in network.state_dict().items() if not torch.equal(v, before[k])}
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    assert changed == {f"{i}.sets.32.{name}" for i in (1, 4) for name in buffers}
    got_gradient = {k for k, p in network.named_parameters() if p.grad is not None}
    affine = {f"{i}.sets.32.{name}" for i in (1, 4) for name in ("weight", "bias")}
    assert got_gradient == affine | {"0.weight", "0.bias", "3.weight", "3.bias"}


def test_statistics_of_a_set_are_those_of_a_plain_layer_that_saw_the_same(images: Tensor) -> None:
    plain = small().train()
    network = convert_to_switchable(copy.deepcopy(plain), [64, 32])
    other = images * 3 + 1
    run(network, "64", other)
    run(network, "32", images)
    plain(images)
    for index in (1, 4):
        expected = cast(nn.BatchNorm2d, plain[index]).state_dict()
        assert all(
            torch.equal(v, expected[k]) for k, v in at(network, index, "32").state_dict().items()
        )


def test_where_leaves_batchnorms_shared() -> None:
    seen = []

    def first(name: str, layer: nn.Module) -> bool:
        seen.append((name, type(layer)))
        return name == "1"

    network = convert_to_switchable(small(), [64, 32], where=first)
    assert seen == [("1", nn.BatchNorm2d), ("4", nn.BatchNorm2d)]
    assert isinstance(network[1], SwitchableBatchNorm2d)
    assert type(network[4]) is nn.BatchNorm2d


def test_lone_batchnorm_is_returned_converted_and_specialized() -> None:
    layer = nn.BatchNorm2d(4)
    network: nn.Module = convert_to_switchable(layer, [64, 32])  # type: ignore[arg-type, type-var, unused-ignore]
    assert isinstance(network, SwitchableBatchNorm2d)
    assert type(specialize(network, 32)) is nn.BatchNorm2d


def test_repeated_resolutions_get_sets_of_their_own(images: Tensor) -> None:
    network = convert_to_switchable(small(), [64, 64, 32])
    randomise(network)
    assert trained_sets(network) == ("64", "64_2", "32")
    assert not torch.equal(run(network, "64", images), run(network, "64_2", images))
    assert torch.equal(specialize(network, "64_2")(images), run(network, "64_2", images))


# Conversion: sharing, modes and settings survive


def test_batchnorm_used_in_two_places_stays_one_layer(images: Tensor) -> None:
    norm = nn.BatchNorm2d(3)
    block = nn.Sequential(nn.Conv2d(3, 3, 1), norm)
    plain = nn.Sequential(block, norm, block).eval()
    randomise(plain)
    expected = plain(images)
    network = convert_to_switchable(plain, [64, 32])
    assert len(list(switchable_layers(network))) == 1
    assert network[0] is network[2]
    assert network[1] is cast(nn.Sequential, network[0])[1]
    assert torch.equal(run(network, "32", images), expected)
    special = cast(nn.Sequential, specialize(network, 32))
    assert special[0] is special[2]
    assert special[1] is cast(nn.Sequential, special[0])[1]


def test_weight_shared_by_two_convolutions_stays_shared() -> None:
    first, second = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
    second.weight = first.weight
    network = convert_to_switchable(nn.Sequential(first, nn.BatchNorm2d(3), second), [64, 32])
    special = cast(nn.Sequential, specialize(network, 32))
    assert network[0].weight is network[2].weight is special[0].weight is special[2].weight


def test_parameter_shared_by_two_batchnorms_stays_shared_in_every_set() -> None:
    first, second = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    second.weight = first.weight
    network = convert_to_switchable(nn.Sequential(first, nn.ReLU(), second), [64, 32])
    for name in ("64", "32"):
        assert at(network, 0, name).weight is at(network, 2, name).weight
    assert at(network, 0, "64").weight is not at(network, 0, "32").weight


def test_mode_of_every_layer_is_kept() -> None:
    plain = small().train()
    plain[4].eval()
    network = convert_to_switchable(plain, [64, 32])
    assert network[1].training
    assert not network[4].training
    assert at(network, 1, "32").training
    assert not at(network, 4, "32").training


def test_train_and_eval_reach_every_set() -> None:
    network = converted()
    for mode in (True, False):
        network.train(mode)
        assert all(module.training is mode for module in network.modules())


def test_frozen_parameters_stay_frozen_in_every_set() -> None:
    plain = small()
    cast(nn.BatchNorm2d, plain[1]).weight.requires_grad_(False)
    network = convert_to_switchable(plain, [64, 32])
    frozen = {name for name, p in network.named_parameters() if not p.requires_grad}
    assert frozen == {"1.sets.64.weight", "1.sets.32.weight"}
    special = specialize(network, 32)
    assert {n for n, p in special.named_parameters() if not p.requires_grad} == {"1.weight"}
    assert not any(p.requires_grad for p in network.requires_grad_(False).parameters())


def test_hooks_of_a_batchnorm_run_in_every_set(images: Tensor) -> None:
    plain, calls = small(), []
    plain[1].register_forward_hook(lambda module, _, __: calls.append(type(module)))
    network = convert_to_switchable(plain, [64, 32])
    run(network, "64", images)
    run(network, "32", images)
    specialize(network, 32)(images)
    assert calls == [nn.BatchNorm2d] * 3


def test_attributes_answer_for_the_active_set() -> None:
    network = converted()
    layer = cast(SwitchableBatchNorm2d, network[1])
    assert (layer.num_features, layer.eps) == (4, 1e-5)
    for name in ("64", "32"):
        switch(network, name)
        for tensor in TENSORS:
            assert getattr(layer, tensor) is getattr(at(network, 1, name), tensor)
        assert f"active={name}" in repr(layer)


# Conversion: what is refused


class Lazy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LazyBatchNorm2d()


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (lambda: nn.Conv2d(3, 4, 3), "no BatchNorm to convert found in Conv2d"),
        (lambda: nn.Sequential(FrozenBatchNorm2d(4)), "not frozen into constants"),
        (lambda: nn.Sequential(nn.GroupNorm(2, 4)), "no BatchNorm to convert found in Sequential"),
        (converted, "converted already: '1' holds the sets 64, 32; convert a network once"),
        (lambda: nn.Sequential(converted()), "'0.1' holds the sets 64, 32"),
        (Lazy, "'norm' in Lazy is lazy and has no sizes yet; pass one input"),
        (lambda: torch.jit.script(small()), "scripted layer; convert before scripting"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_network_that_cannot_be_converted_is_refused(
    network: Callable[[], nn.Module], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        convert_to_switchable(network(), [64, 32])


def test_where_that_excludes_everything_is_refused() -> None:
    with pytest.raises(ValueError, match="not excluded by `where`"):
        convert_to_switchable(small(), [64], where=lambda _, __: False)


def test_refused_network_is_unchanged() -> None:
    network = nn.Sequential(small(), Lazy())
    with pytest.raises(ValueError, match="lazy"):
        convert_to_switchable(network, [64, 32])
    assert not list(switchable_layers(network))


def test_unknown_resolution_names_the_sets_that_are_held() -> None:
    message = "resolution 48 has no BatchNorm set; this network holds 64, 32"
    with pytest.raises(ValueError, match=message):
        switch(converted(), 48)
    with pytest.raises(ValueError, match=message):
        specialize(converted(), 48)


def test_network_that_was_not_converted_is_refused() -> None:
    message = "Sequential has no switchable BatchNorm; convert it first"
    with pytest.raises(ValueError, match=message):
        switch(small(), 64)
    with pytest.raises(ValueError, match=message):
        specialize(small(), 64)
