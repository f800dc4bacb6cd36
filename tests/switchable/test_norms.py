"""Private norms of other kinds than BatchNorm: which layers, what is private, what is refused."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import timm
import torch
from timm.layers import (
    BatchNormAct2d,
    EvoNorm2dS0,
    FilterResponseNormTlu2d,
    GroupNorm1,
    GroupNormAct,
    LayerNorm2d,
    LayerNormAct2d,
    LayerScale,
    RmsNorm,
    RmsNorm2d,
    SimpleNorm2d,
)
from torch import Tensor, nn

from rsseg.switchable.complexity import batchnorm_parameters, count_macs
from rsseg.switchable.convert import (
    convert_to_switchable,
    private_norms,
    specialize,
    switch,
    switchable_layers,
)
from rsseg.switchable.net import SwitchableNet
from rsseg.switchable.norms import Norm, checked_norms, fitting_norms, norm_kind
from rsseg.switchable.unseen import interpolate_set, recalibrate
from tests.helpers.memory_modes import assert_modes_agree


class LlamaRMSNorm(nn.Module):
    """As transformers writes it: no class of torch's, other names."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size))
        self.variance_epsilon = 1e-6

    def forward(self, x: Tensor) -> Tensor:
        variance = x.square().mean(-1, keepdim=True)
        return self.weight * (x * torch.rsqrt(variance + self.variance_epsilon))


class PreNorm(nn.Module):
    """Holds a norm and is none."""

    def __init__(self) -> None:
        super().__init__()
        self.layernorm = nn.LayerNorm(8)
        self.scale = nn.Parameter(torch.ones(8))


class LayerNormMLP(nn.Module):
    """A norm and a matrix in one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8, 8))


def randomise(network: nn.Module) -> None:
    for layer in network.modules():
        if norm_kind(layer) in ("layer", "group"):
            for parameter in layer.parameters(recurse=False):
                nn.init.uniform_(parameter, 0.5, 1.5)


def tokens() -> nn.Sequential:
    """LayerNorm and GroupNorm around layers that stay shared; in evaluation mode."""
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), LayerNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1)
    )
    randomise(network)
    return network.eval()


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize(
    ("layer", "kind"),
    [
        (nn.BatchNorm2d(8), "batch"),
        (nn.BatchNorm2d(8, affine=False), "batch"),
        (BatchNormAct2d(8), "batch"),
        (nn.LayerNorm(8), "layer"),
        (nn.RMSNorm(8), "layer"),
        (LayerNorm2d(8), "layer"),
        (LayerNormAct2d(8, act_layer=nn.PReLU), "layer"),
        (RmsNorm(8), "layer"),
        (RmsNorm2d(8), "layer"),
        (SimpleNorm2d(8), "layer"),
        (LlamaRMSNorm(8), "layer"),
        (nn.GroupNorm(2, 8), "group"),
        (GroupNorm1(8), "group"),
        (GroupNormAct(8, num_groups=2), "group"),
        (nn.LayerNorm(8, elementwise_affine=False), None),
        (nn.InstanceNorm2d(8, affine=True), None),
        (FilterResponseNormTlu2d(8), None),
        (EvoNorm2dS0(8), None),
        (LayerScale(8), None),
        (PreNorm(), None),
        (LayerNormMLP(), None),
        (nn.Linear(8, 8), None),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_kind_of_each_layer(layer: nn.Module, kind: Norm | None) -> None:
    assert norm_kind(layer) == kind


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.LayerNorm(8), (2, 5, 8)),
        (nn.LayerNorm(8, bias=False), (2, 5, 8)),
        (nn.RMSNorm(8), (2, 5, 8)),
        (LayerNorm2d(8), (2, 8, 4, 4)),
        (LayerNormAct2d(8, act_layer=nn.SiLU), (2, 8, 4, 4)),
        (RmsNorm(8), (2, 5, 8)),
        (RmsNorm2d(8), (2, 8, 4, 4)),
        (LlamaRMSNorm(8), (2, 5, 8)),
        (nn.GroupNorm(2, 8), (2, 8, 4, 4)),
        (GroupNormAct(8, num_groups=2), (2, 8, 4, 4)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_sets_are_copies_of_the_layer_and_give_its_output(
    layer: nn.Module, shape: tuple[int, ...]
) -> None:
    randomise(layer)
    plain, x = copy.deepcopy(layer), torch.randn(shape)
    network = convert_to_switchable(nn.Sequential(layer), [64, 32], norms=["layer", "group"])
    for name in ("64", "32"):
        switch(network, name)
        assert torch.equal(network(x), plain(x))
        special = specialize(network, name)
        assert type(special[0]) is type(plain)  # type: ignore[index]
        plain.load_state_dict(special[0].state_dict())  # type: ignore[index]
    (switchable,) = switchable_layers(network)
    assert switchable.weight is switchable.sets["32"].weight
    assert switchable.bias is getattr(switchable.sets["32"], "bias", None)


def test_lone_norm_is_returned_converted() -> None:
    assert len(convert_to_switchable(nn.LayerNorm(8), [64, 32], norms=["layer"]).sets) == 2  # type: ignore[arg-type]


def test_a_kind_that_is_not_named_stays_shared() -> None:
    network = convert_to_switchable(tokens(), [64, 32], norms=["group"])
    names = [name for name in network.state_dict() if ".sets." in name]
    assert names == [f"1.sets.{side}.{t}" for side in (64, 32) for t in ("weight", "bias")]
    assert private_norms(network) == ("group",)
    assert batchnorm_parameters(network) == 2 * 2 * 8


def test_where_chooses_among_the_norms() -> None:
    network = convert_to_switchable(
        tokens(), [64, 32], norms=["layer", "group"], where=lambda name, _: name == "2"
    )
    assert [type(layer.active_set) for layer in switchable_layers(network)] == [LayerNorm2d]


def test_each_resolution_trains_its_own_gamma_and_beta_alone() -> None:
    network = convert_to_switchable(tokens(), [64, 32], norms=["layer", "group"])
    switch(network, "32")
    network(torch.randn(2, 3, 8, 8)).square().sum().backward()
    trained = {name for name, p in network.named_parameters() if p.grad is not None}
    assert {name for name in trained if ".sets." in name} == {
        f"{i}.sets.32.{tensor}" for i in (1, 2) for tensor in ("weight", "bias")
    }


@pytest.mark.parametrize("rule", ["interpolate", "extrapolate"])
def test_set_in_between_mixes_gamma_and_beta_directly(rule: str) -> None:
    network = convert_to_switchable(tokens(), [64, 32], norms=["layer", "group"])
    for layer in switchable_layers(network):
        for one in layer.sets.values():
            randomise(one)
    interpolate_set(network, 56, rule=rule)
    for layer in switchable_layers(network):
        larger, smaller, between = (
            dict(layer.sets[n].named_parameters()) for n in ("64", "32", "56")
        )
        for name, value in between.items():
            torch.testing.assert_close(value, 0.75 * larger[name] + 0.25 * smaller[name])


def test_there_are_no_statistics_to_measure() -> None:
    network = convert_to_switchable(tokens(), [64, 32], norms=["layer", "group"])
    with pytest.raises(ValueError, match="Sequential has no statistics to measure"):
        recalibrate(network, [torch.randn(2, 3, 8, 8)], 32)


# What is refused


def test_network_without_batchnorm_says_which_norms_would_fit() -> None:
    with pytest.raises(ValueError, match=r"no BatchNorm to convert found in Sequential.*") as error:
        convert_to_switchable(tokens(), [64, 32])
    assert "this one has 1 GroupNorm and 1 LayerNorm" in str(error.value)
    assert "norms=('group', 'layer')" in str(error.value)
    assert "norms: [group, layer]" in str(error.value)


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (nn.InstanceNorm2d(8, affine=True), "InstanceNorm2d"),
        (nn.InstanceNorm2d(8), "InstanceNorm2d"),
        (FilterResponseNormTlu2d(8), "FilterResponseNormTlu2d"),
        (EvoNorm2dS0(8), "EvoNorm2dS0"),
    ],
)
def test_norms_that_cannot_be_private_are_named(layer: nn.Module, name: str) -> None:
    with pytest.raises(ValueError, match=f"; {name} cannot be private"):
        convert_to_switchable(nn.Sequential(layer), [64, 32])


def test_network_without_any_norm_says_so() -> None:
    with pytest.raises(ValueError, match="no norms with gamma and beta at all"):
        convert_to_switchable(nn.Sequential(nn.Conv2d(3, 8, 1)), [64], norms=["batch", "layer"])


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown kind of norm 'instance'"):
        convert_to_switchable(tokens(), [64], norms=["instance"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="norms names no kind"):
        checked_norms([])


def test_network_with_hardly_any_batchnorm_says_so() -> None:
    layers: list[nn.Module] = [nn.BatchNorm2d(4), *(LayerNorm2d(4) for _ in range(4))]
    text = r"1 become private, and 4 LayerNorm stay shared.*norms=\('batch', 'layer'\)"
    with pytest.warns(UserWarning, match=text):
        convert_to_switchable(nn.Sequential(*copy.deepcopy(layers)), [64, 32])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        convert_to_switchable(nn.Sequential(*layers[:3]), [64, 32])
    assert fitting_norms(nn.Sequential(nn.BatchNorm2d(4), LayerNorm2d(4))) == ("batch",)


# SwitchableNet, with networks of timm


NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "convnext": ("convnext_atto", {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16)}),
    "vit": (
        "vit_tiny_patch16_224",
        {
            "img_size": 64,
            "dynamic_img_size": True,
            "patch_size": 8,
            "embed_dim": 24,
            "depth": 2,
            "num_heads": 2,
        },
    ),
}


def build(name: str) -> nn.Module:
    model, options = NETWORKS[name]
    network: nn.Module = timm.create_model(model, num_classes=5, **options)
    randomise(network)
    return network


@pytest.fixture(params=NETWORKS)
def net(request: pytest.FixtureRequest) -> SwitchableNet:
    return SwitchableNet(build(request.param), [64, 48, 32], norms=["layer"])


def views() -> list[Tensor]:
    return [torch.randn(2, 3, side, side) for side in (64, 48, 32)]


@torch.no_grad()
def test_logits_of_every_resolution_are_those_of_the_plain_network(net: SwitchableNet) -> None:
    plain = copy.deepcopy(net.specialize(64)).eval()
    for logits, view in zip(net.eval()(views_ := views()), views_, strict=True):
        assert torch.equal(logits, plain(view))
    assert net.norms == ("layer",)


@torch.no_grad()
def test_unseen_resolution_is_served_by_mixed_sets(net: SwitchableNet) -> None:
    for layer in switchable_layers(net):
        for one in layer.sets.values():
            randomise(one)
    images = torch.randn(2, 3, 40, 40)
    logits = net.eval().predict(images)
    assert torch.equal(net.specialize(40)(images), logits)
    assert not torch.allclose(net.predict(images, 32), logits)


def test_memory_modes_give_the_gradients_of_a_normal_step(net: SwitchableNet) -> None:
    assert assert_modes_agree(net, views())


def test_attention_is_counted() -> None:
    net = SwitchableNet(build("vit"), [64, 32], norms=["layer"])
    patches, width, depth, hidden = 64, 24, 2, 4 * 24
    tokens = patches + 1
    linear = tokens * (3 * width * width + width * width + 2 * width * hidden)
    attention = 2 * tokens * tokens * width
    by_hand = patches * 3 * 8 * 8 * width + depth * (linear + attention) + width * 5
    assert count_macs(net, 64) == by_hand
