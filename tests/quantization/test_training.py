"""Quantised networks in training: what is shared, what is learnt, and when."""

from __future__ import annotations

import copy
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from rsseg import SwitchableNet, interpolate_set, specialize
from rsseg.quantization.convert import QuantizerSettings, quantize
from rsseg.quantization.lqnets import ActivationQuantizer
from rsseg.quantization.quantizer import quantizers
from rsseg.switchable.layers import Switchable
from rsseg.switchable.unseen import remove_set
from rsseg.training.config import OptimConfig
from rsseg.training.optim import build_optimizer, set_learning_rates
from rsseg.training.step import NotFiniteError, train_step
from tests.helpers.small_quantized import SIDES, bases, loss, network, train, views


def test_shared_basis_is_one_tensor_at_every_resolution_and_moves_once_a_step() -> None:
    net = SwitchableNet(quantize(network()), SIDES)
    train(net, steps=3)
    held = {name: basis for name, basis in net.network.named_buffers() if name.endswith("basis")}
    assert len(held) == 4
    for side in SIDES:
        special = specialize(net, side)
        assert all(special.get_buffer(name) is basis for name, basis in held.items())
    assert {int(net.network.get_buffer(n.replace("basis", "updates"))) for n in held} == {3}


def test_step_learns_from_the_values_of_all_resolutions_at_once() -> None:
    net = SwitchableNet(quantize(network()), SIDES)
    net.train()
    layer: Any = cast(Any, net.network)[3].input_quantizer
    seen: list[Tensor] = []
    layer.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    alone = copy.deepcopy(layer)
    alone._forward_pre_hooks.clear()
    train(net, steps=1)
    assert [x.shape[-1] for x in seen] == [16, 8]
    alone(torch.cat([x.flatten() for x in seen]))
    torch.testing.assert_close(layer.basis, alone.basis)


def test_largest_only_learns_what_the_largest_shows() -> None:
    settings = QuantizerSettings(basis="largest_only")
    net = SwitchableNet(quantize(network(), settings=settings), SIDES)
    layer: Any = cast(Any, net.network)[3].input_quantizer
    seen: list[Tensor] = []
    layer.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    alone = copy.deepcopy(layer)
    alone._forward_pre_hooks.clear()
    train(net, steps=1)
    alone.train()(seen[0])
    torch.testing.assert_close(layer.basis, alone.basis)


def test_private_bases_part_and_unseen_resolutions_take_the_nearer_one() -> None:
    settings = QuantizerSettings(basis="private")
    net = SwitchableNet(quantize(network(), settings=settings), SIDES)
    train(net)
    layer: Any = cast(Any, net.network)[3].input_quantizer
    assert isinstance(layer, Switchable)
    large, little = (cast(ActivationQuantizer, layer.sets[name]) for name in ("16", "8"))
    assert not torch.equal(large.basis, little.basis)
    interpolate_set(net.network, 13)
    assert torch.equal(cast(ActivationQuantizer, layer.sets["13"]).basis, large.basis)
    remove_set(net.network, 13)
    assert list(layer.sets) == ["16", "8"]


@pytest.mark.parametrize("basis", ["shared", "largest_only", "private"])
@pytest.mark.parametrize("mode", ["checkpoint", "two_pass"])
def test_modes_with_less_memory_learn_the_same(mode: str, basis: Any) -> None:
    net = SwitchableNet(quantize(network(), settings=QuantizerSettings(basis=basis)), SIDES)
    other = copy.deepcopy(net)
    torch.testing.assert_close(train(net), train(other, mode=mode), rtol=1e-5, atol=1e-6)
    assert all(layer.updates == 2 for layer in quantizers(other) if layer.sharing != "private")
    assert net.state_dict().keys() == other.state_dict().keys()
    torch.testing.assert_close(net.state_dict(), other.state_dict(), rtol=1e-4, atol=1e-6)


def test_step_that_is_left_out_teaches_the_quantisers_nothing() -> None:
    net = SwitchableNet(quantize(network()), SIDES).train()
    before = bases(net)
    optimizer = build_optimizer(net, OptimConfig(lr=0.05))
    bad = [views()[0] * torch.nan, views()[1]]
    with pytest.raises(NotFiniteError):
        train_step(net, bad, torch.tensor([0, 1, 2, 3]), loss, optimizer, scores=net.scores)
    assert all(torch.equal(value, before[name]) for name, value in bases(net).items())


def test_evaluation_touches_no_basis() -> None:
    net = SwitchableNet(quantize(network()), SIDES)
    train(net)
    before = bases(net)
    net.eval()
    for view in views():
        net.predict(view)
    assert all(torch.equal(value, before[name]) for name, value in bases(net).items())


@pytest.mark.parametrize("kind", ["lq", "lsq"])
def test_training_lowers_the_loss(kind: str) -> None:
    net = SwitchableNet(quantize(network(), quantizer=kind), SIDES).train()
    optimizer = build_optimizer(net, OptimConfig(lr=0.05))
    set_learning_rates(optimizer, {"other": 0.05})
    target = torch.tensor([0, 1, 2, 3])
    totals = [
        float(train_step(net, views(), target, loss, optimizer, scores=net.scores).total)
        for _ in range(30)
    ]
    assert totals[-1] < 0.8 * totals[0]


@pytest.mark.filterwarnings("ignore")
def test_compiled_network_trains_as_an_uncompiled_one() -> None:
    net = SwitchableNet(quantize(network()), SIDES)
    other = copy.deepcopy(net)
    expected = train(net)
    other.network.compile(backend="eager")
    torch.testing.assert_close(train(other), expected)
