"""Private tables of positions: the plain network's outputs at first, then each resolution's own."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from rsseg.switchable.complexity import count_macs
from rsseg.switchable.convert import convert_to_switchable, private_layers, specialize, switch
from rsseg.switchable.net import SwitchableNet
from rsseg.switchable.positions import position_tables
from rsseg.switchable.unseen import interpolate_set, remove_set
from tests.helpers.memory_modes import assert_modes_agree, total

SIDES = (64, 48, 32)
PATCH = 8
OPTIONS: dict[str, Any] = {
    "num_classes": 5,
    "img_size": 64,
    "dynamic_img_size": True,
    "patch_size": PATCH,
    "embed_dim": 24,
    "depth": 2,
    "num_heads": 2,
}
NETWORKS: dict[str, dict[str, Any]] = {
    "vit_tiny_patch16_224": {},
    "vit_small_patch16_224": {"no_embed_class": True, "reg_tokens": 2},
    "deit_tiny_distilled_patch16_224": {},
    "eva02_tiny_patch14_224": {},
}


def build(name: str = "vit_tiny_patch16_224", **options: Any) -> nn.Module:
    torch.manual_seed(0)
    values = {**OPTIONS, **NETWORKS[name], **options}
    network: nn.Module = timm.create_model(name, **values)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.5)
    return network.eval()


def private(name: str = "vit_tiny_patch16_224", **options: Any) -> SwitchableNet:
    return SwitchableNet(build(name, **options), SIDES, norms=["layer"], positions="private").eval()


def tables(network: nn.Module) -> dict[str, Tensor]:
    """Return the private tables by name of the set."""
    return {
        name.split(".sets.")[1].split(".")[0]: tensor
        for name, tensor in network.state_dict().items()
        if name.endswith("pos_embed")
    }


def trained(net: SwitchableNet) -> SwitchableNet:
    """Give each set other values."""
    for layer in private_layers(net):
        for parameter in layer.parameters():
            nn.init.normal_(parameter)
    return net


def images(height: int, width: int | None = None) -> Tensor:
    return torch.randn(2, 3, height, width or height, generator=torch.Generator().manual_seed(1))


# As before conversion


@torch.no_grad()
@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_are_those_of_the_plain_network_to_the_bit(name: str) -> None:
    plain, net = build(name), private(name)
    for size in ((64, 64), (48, 48), (32, 32), (40, 40), (40, 80), (96, 96)):
        assert torch.equal(net.predict(images(*size)), plain(images(*size)))


def test_network_stays_an_instance_of_its_class_and_answers_for_its_table() -> None:
    net = private()
    assert isinstance(net.network, type(build()))
    assert type(net.network).__name__ == "VisionTransformer"
    switch(net.network, 48)
    assert (
        net.network.pos_embed
        is dict(net.named_parameters())["network.switchable_positions.sets.48.pos_embed"]
    )
    assert "positions=private" in repr(net)


def test_default_is_one_table_for_all() -> None:
    net = SwitchableNet(build(), SIDES, norms=["layer"])
    assert net.positions == "shared"
    assert list(position_tables(net.network)) == ["pos_embed"]


# Private


def test_each_resolution_trains_its_own_table_alone() -> None:
    net = private()
    for side in SIDES:
        net.zero_grad()
        torch.autograd.backward(total([net.predict(images(side))]))
        moved = [n for n, p in net.named_parameters() if "pos_embed" in n and p.grad is not None]
        assert moved == [f"network.switchable_positions.sets.{side}.pos_embed"]


@torch.no_grad()
def test_plain_network_of_one_size_with_the_resized_table_gives_the_same() -> None:
    net = trained(private())
    for side in SIDES:
        plain = build(img_size=side, dynamic_img_size=False)
        state = net.specialize(side).state_dict()
        state["pos_embed"] = resample_abs_pos_embed(
            state["pos_embed"], [side // PATCH] * 2, [64 // PATCH] * 2
        )
        plain.load_state_dict(state)
        assert torch.equal(plain(images(side)), net.predict(images(side)))


@torch.no_grad()
@pytest.mark.parametrize("name", NETWORKS)
def test_specialized_network_loads_into_the_original_class(name: str) -> None:
    net, plain = trained(private(name)), build(name)
    for side in (*SIDES, 56):
        special = net.specialize(side)
        assert type(special) is type(plain)
        assert not any(type(m).__module__.startswith("rsseg") for m in special.modules())
        plain.load_state_dict(special.state_dict())
        assert torch.equal(special(images(side)), net.predict(images(side)))
        assert torch.equal(plain(images(side)), net.predict(images(side)))


@torch.no_grad()
def test_timm_makes_a_network_of_one_size_of_a_specialized_one() -> None:
    net = trained(private())
    special = copy.deepcopy(net.specialize(32))
    special.set_input_size(img_size=(32, 32))  # type: ignore[operator]
    small = build(img_size=32, dynamic_img_size=False)
    small.load_state_dict(special.state_dict())
    assert torch.equal(small(images(32)), net.predict(images(32)))


def test_specialized_network_shares_its_table() -> None:
    net = private()
    special = specialize(net.network, 32)
    torch.autograd.backward(total([special(images(32))]))
    shared = dict(net.named_parameters())["network.switchable_positions.sets.32.pos_embed"]
    assert special.pos_embed is shared
    assert shared.grad is not None


@pytest.mark.parametrize("rule", ["interpolate", "extrapolate"])
def test_table_in_between_is_mixed_as_gamma_and_beta_are(rule: str) -> None:
    net = trained(private())
    interpolate_set(net.network, 60, rule=rule)
    sets = tables(net)
    torch.testing.assert_close(sets["60"], 0.75 * sets["64"] + 0.25 * sets["48"])
    remove_set(net.network, 60)
    assert list(tables(net)) == ["64", "48", "32"]


def test_memory_modes_give_the_gradients_of_a_normal_step() -> None:
    gradients = assert_modes_agree(trained(private()), [images(side) for side in SIDES])
    assert any("pos_embed" in name for name in gradients)


@torch.no_grad()
def test_copies_and_pickles_are_independent_and_the_same() -> None:
    net = trained(private())
    before = net.predict(images(48))
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert type(other.network) is type(net.network)
        assert torch.equal(other.predict(images(48)), before)
        trained(other)
    assert torch.equal(net.predict(images(48)), before)


def test_multiply_adds_are_those_of_the_plain_network() -> None:
    assert count_macs(private(), 48) == count_macs(build(), 48)


@torch.no_grad()
@pytest.mark.parametrize("name", ["crossvit_tiny_240", "sam2_hiera_tiny"])
def test_several_tables_of_a_network_are_private(name: str) -> None:
    torch.manual_seed(0)
    plain = timm.create_model(name, num_classes=3).eval()
    net = SwitchableNet(copy.deepcopy(plain), [96, 64], norms=["layer"], positions="private")
    held = position_tables(plain)
    assert len(held) == 2
    for side in (96, 64):
        assert torch.equal(net.eval().predict(images(side)), plain(images(side)))
        special = net.specialize(side)
        assert list(position_tables(special)) == list(held)


# Modules of one class, and what they hold besides


class Places(nn.Module):
    """Adds a table that is resized to the map; `names` is what some call their classes."""

    names = ("cat", "dog")

    def __init__(self, table: nn.Parameter | None = None) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.randn(1, 4, 8, 8)) if table is None else table
        self.plain_class = "cat"

    def forward(self, maps: Tensor) -> Tensor:
        return maps + F.interpolate(self.pos_embed, maps.shape[2:], mode="bilinear")


def places(*, share: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    first = Places()
    second = Places(first.pos_embed if share else None)
    return nn.Sequential(
        nn.Conv2d(3, 4, 8, 8), first, nn.GroupNorm(2, 4), second, nn.Conv2d(4, 2, 1)
    )


def private_places(*, share: bool = False) -> SwitchableNet:
    net = SwitchableNet(places(share=share), [64, 32], norms=["group"], positions="private")
    return trained(net).eval()


@torch.no_grad()
def test_two_modules_of_one_class_have_tables_of_their_own() -> None:
    net = private_places()
    for side in (64, 32):
        first, second = (
            net.state_dict()[f"network.{place}.switchable_positions.sets.{side}.pos_embed"]
            for place in (1, 3)
        )
        assert not torch.equal(first, second)
        special = net.specialize(side)
        assert isinstance(special, nn.Sequential)
        assert torch.equal(special[1].pos_embed, first)  # type: ignore[arg-type]
        assert torch.equal(special[3].pos_embed, second)  # type: ignore[arg-type]
        assert torch.equal(special(images(side)), net.predict(images(side)))


@torch.no_grad()
def test_table_that_two_modules_share_stays_shared_in_each_set() -> None:
    net, copied = private_places(share=True), copy.deepcopy(private_places(share=True))
    for held in (net, copied):
        assert len([name for name, _ in held.named_parameters() if "pos_embed" in name]) == 2
        special = held.specialize(32)
        assert isinstance(special, nn.Sequential)
        assert special[1].pos_embed is special[3].pos_embed


@torch.no_grad()
def test_attributes_of_a_module_stay_whatever_they_are_called() -> None:
    net = private_places()
    for other in (net, copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert isinstance(other.network, nn.Sequential)
        module = other.network[1]
        assert isinstance(module, Places)
        assert (module.names, module.plain_class) == (("cat", "dog"), "cat")
        assert torch.equal(other.predict(images(48)), net.predict(images(48)))


@torch.no_grad()
def test_compiled_network_takes_the_table_of_the_active_set() -> None:
    net = private_places()
    compiled = torch.compile(net.network, backend="eager", fullgraph=True)
    for side in (64, 32, 64):
        switch(net.network, side)
        assert torch.equal(compiled(images(32)), net.specialize(side)(images(32)))


# What is refused


def test_network_without_a_table_is_refused_and_stays_as_it_was() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    with pytest.raises(ValueError, match=r"no table of absolute positions.* in Sequential; leave"):
        convert_to_switchable(network, [64, 32], positions="private")
    assert isinstance(network[1], nn.BatchNorm2d)


def test_relative_tables_are_named_as_shared() -> None:
    network = timm.create_model("swin_tiny_patch4_window7_224", depths=(1, 1, 1, 1), embed_dim=12)
    with pytest.raises(ValueError, match=r"relative_position_bias_table.* are shared"):
        convert_to_switchable(network, [64, 32], norms=["layer"], positions="private")


def test_other_words_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown positions 'each'"):
        convert_to_switchable(build(), SIDES, norms=["layer"], positions="each")  # type: ignore[arg-type]


def test_shared_norms_cannot_go_with_private_positions() -> None:
    with pytest.raises(ValueError, match=r"positions 'private' needs .* batchnorm 'private'"):
        SwitchableNet(build(), SIDES, batchnorm="shared", norms=["layer"], positions="private")
