"""Conversion of real networks: torchvision, segmentation-models-pytorch and timm, by family.

Every network is compared with a copy of itself that was never converted. Its BatchNorms are given
random values first: as they come from the constructor, wrong sets would go unnoticed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves

from rsseg.switchable.convert import convert_to_switchable, specialize, switch, switchable_layers
from rsseg.switchable.net import SwitchableNet

Sides = tuple[int, int]
NAMES = ("64", "32")

TORCHVISION = [
    "resnet18",
    "resnet50",
    "mobilenet_v2",
    "densenet121",
    "efficientnet_b0",
    "regnet_y_400mf",
    "shufflenet_v2_x1_0",
]
SMP = ["Unet", "FPN", "DeepLabV3Plus", "PSPNet", "Linknet"]
SMP_ENCODERS = ["resnet18", "mobilenet_v2", "tu-regnetx_002"]

# The smallest network of each family, with what makes it smaller still, and the sides it takes.
SMALL: Sides = (64, 32)
TIMM: dict[str, tuple[dict[str, Any], Sides]] = {
    "halonet_h1": ({}, (256, 256)),
    "test_byobnet": ({}, SMALL),
    "convmixer_768_32": ({}, SMALL),
    "cpubone_nano": ({}, SMALL),
    "cs3darknet_focus_s": ({}, SMALL),
    "cspnext_tiny": ({}, SMALL),
    "densenet121": ({}, SMALL),
    "dla46x_c": ({}, SMALL),
    "dpn48b": ({}, SMALL),
    "efficientformer_l1": ({}, (224, 224)),
    "efficientformerv2_s0": ({"img_size": 64}, (64, 64)),
    "test_efficientnet": ({}, SMALL),
    "efficientvim_m1": ({}, SMALL),
    "efficientvit_b0": ({}, SMALL),
    "efficientvit_m0": ({"img_size": 64}, (64, 64)),
    "fasternet_t0": ({}, SMALL),
    "fastvit_t8": ({}, SMALL),
    "ghostnet_050": ({}, SMALL),
    "hardcorenas_b": ({}, SMALL),
    "hgnetv2_b0": ({}, SMALL),
    "hrnet_w18_small": ({}, SMALL),
    "iformer_t": ({}, SMALL),
    "inception_next_atto": ({}, SMALL),
    "inception_resnet_v2": ({}, (96, 75)),
    "inception_v3": ({}, (96, 75)),
    "inception_v4": ({}, (96, 75)),
    "lcnetv2_small": ({}, SMALL),
    "levit_128s": ({"img_size": 64}, (64, 64)),
    "lowformer_b0": ({}, SMALL),
    "test_coatnet": ({"img_size": 64}, (64, 64)),
    "lcnet_035": ({}, SMALL),
    "mobilevit_xxs": ({}, SMALL),
    "nasnetalarge": ({}, (96, 64)),
    "nextvit_small": ({}, SMALL),
    "pnasnet5large": ({}, (96, 64)),
    "regnetx_002": ({}, SMALL),
    "repghostnet_050": ({}, SMALL),
    "repvit_m1": ({}, SMALL),
    "res2next50": ({}, SMALL),
    "resnest14d": ({}, SMALL),
    "test_resnet": ({}, SMALL),
    "resnetv2_18": ({}, SMALL),
    "rexnet_100": ({}, SMALL),
    "selecsls42": ({}, SMALL),
    "legacy_seresnet18": ({}, SMALL),
    "shvit_s1": ({}, SMALL),
    "skresnet18": ({}, SMALL),
    "starnet_s050": ({}, SMALL),
    "swiftformer_xs": ({"img_size": 64}, (64, 64)),
    "tiny_vit_5m_224": ({}, SMALL),
    "tresnet_m": ({}, SMALL),
    "vgg11_bn": ({}, SMALL),
    "visformer_tiny": ({"img_size": 64}, (64, 64)),
    "vit_small_resnet50d_s16_224": ({"img_size": 64}, (64, 64)),
    "volo_d1_224": ({"img_size": 64}, (64, 64)),
    "ese_vovnet19b_slim_dw": ({}, SMALL),
    "legacy_xception": ({}, SMALL),
    "xception41p": ({}, SMALL),
    "xcit_nano_12_p8_224": ({"img_size": 64}, (64, 64)),
}
SLOW = {
    "halonet_h1",
    "inception_resnet_v2",
    "inception_v4",
    "nasnetalarge",
    "pnasnet5large",
    "vgg11_bn",
    "vit_small_resnet50d_s16_224",
    "volo_d1_224",
}


def randomise(network: nn.Module) -> None:
    for layer in network.modules():
        if isinstance(layer, _BatchNorm):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.1)
            layer.running_mean.normal_(std=0.1)
            layer.running_var.uniform_(0.5, 1.5)


def outputs(network: Callable[[Tensor], object], images: Tensor) -> list[Tensor]:
    tensors = [t for t in tree_leaves(network(images)) if isinstance(t, Tensor)]
    assert tensors
    assert all(t.isfinite().all() for t in tensors)
    return tensors


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return len(first) == len(second) and all(map(torch.equal, first, second))


def check_outputs_stay(network: nn.Module, plain: nn.Module, views: dict[str, Tensor]) -> None:
    for name, images in views.items():
        switch(network, name)
        assert same(outputs(network, images), outputs(plain, images))


class ByHand:
    """The statistics of one BatchNorm set, from what it is given: mean and variance
    of each batch, weighted by the momentum.

    Args:
        norm: The set, before it has been trained.
    """

    def __init__(self, norm: _BatchNorm) -> None:
        self.norm, self.batches = norm, 0
        state = norm.state_dict()
        self.mean, self.var = state["running_mean"].clone(), state["running_var"].clone()
        norm.register_forward_pre_hook(self.update)

    @torch.no_grad()
    def update(self, _: nn.Module, given: tuple[Tensor, ...]) -> None:
        values = given[0].double().transpose(0, 1).flatten(1)
        assert self.norm.momentum is not None
        self.mean.lerp_(values.mean(1).float(), self.norm.momentum)
        self.var.lerp_(values.var(1).float(), self.norm.momentum)
        self.batches += 1

    def check(self) -> None:
        state = self.norm.state_dict()
        assert state["num_batches_tracked"] == self.batches
        torch.testing.assert_close(state["running_mean"], self.mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(state["running_var"], self.var, rtol=1e-4, atol=1e-5)


def sets_by_hand(network: nn.Module) -> dict[str, list[ByHand]]:
    found: dict[str, list[ByHand]] = {}
    for layer in switchable_layers(network):
        for name, norm in layer.sets.items():
            assert isinstance(norm, _BatchNorm)
            found.setdefault(name, []).append(ByHand(norm))
    return found


def train(network: nn.Module, views: dict[str, Tensor]) -> None:
    """Train a step at each resolution, and check that it reaches the sets of that one alone."""
    sets = sets_by_hand(network)
    network.train()
    optimiser = torch.optim.SGD(network.parameters(), lr=1e-2)
    for name, images in views.items():
        before = {other: [norm.batches for norm in sets[other]] for other in sets}
        switch(network, name)
        optimiser.zero_grad()
        loss = torch.stack([t.square().mean() for t in outputs(network, images)]).sum()
        torch.autograd.backward(loss)
        # Random BatchNorms in deep networks make gradients of any size.
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        reached = {n for n in sets if [norm.batches for norm in sets[n]] != before[n]}
        assert reached == {name}
    network.eval()
    for norms in sets.values():
        for norm in norms:
            norm.check()
    # The sets of a layer are trained alike. Some networks hold layers that they do not use.
    first, second = ([norm.batches for norm in norms] for norms in sets.values())
    assert first == second


def check_specialized(network: SwitchableNet, plain: nn.Module, images: Tensor) -> None:
    expected = {name: outputs(partial(network.predict, resolution=name), images) for name in NAMES}
    assert not same(*expected.values())
    for name in NAMES:
        special = specialize(network.network, name)
        assert type(special) is type(plain)
        assert not special.training
        traces = [f"{type(m).__module__}.{type(m).__qualname__}" for m in special.modules()]
        assert not any("rsseg" in trace or "Switchable" in trace for trace in traces)
        # Some networks keep what they made of their parameters until they are trained again.
        plain.train().load_state_dict(special.state_dict(), strict=True)
        assert same(outputs(special, images), expected[name])
        assert same(outputs(plain.eval(), images), expected[name])


def check_family(network: nn.Module, sides: Sides) -> None:
    views = {name: torch.randn(2, 3, s, s) for name, s in zip(NAMES, sides, strict=True)}
    randomise(network)
    plain = copy.deepcopy(network.eval())
    count = sum(isinstance(layer, _BatchNorm) for layer in plain.modules())
    convert_to_switchable(network, [64, 32])
    assert len(list(switchable_layers(network))) == count
    with torch.no_grad():
        check_outputs_stay(network, plain, views)
    train(network, views)
    randomise(network)  # So that no two sets are nearly equal.
    with torch.no_grad():
        check_specialized(SwitchableNet(network, [64, 32]), plain, views[NAMES[-1]])


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_network_keeps_outputs_and_specializes(name: str) -> None:
    check_family(torchvision.models.get_model(name, weights=None, num_classes=5), SMALL)


@pytest.mark.parametrize("encoder", SMP_ENCODERS)
@pytest.mark.parametrize("architecture", SMP)
def test_smp_network_keeps_outputs_and_specializes(architecture: str, encoder: str) -> None:
    check_family(getattr(smp, architecture)(encoder, encoder_weights=None, classes=5), SMALL)


@pytest.mark.filterwarnings("ignore:.*hardly any BatchNorm")
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in TIMM]
)
def test_timm_network_keeps_outputs_and_specializes(name: str) -> None:
    arguments, sides = TIMM[name]
    check_family(timm.create_model(name, num_classes=5, **arguments), sides)
