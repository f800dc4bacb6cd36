"""Quantising whole networks: what is converted, what is refused, what is plain again."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rsseg import SwitchableNet, convert_to_switchable, interpolate_set, specialize, switch
from rsseg.classifiers.build import build_classifier
from rsseg.common.config import ConfigError
from rsseg.quantization.convert import (
    QuantizationPoint,
    QuantizedConv2d,
    QuantizerSettings,
    plain_network,
    quantize,
    quantized_convolutions,
)
from rsseg.quantization.lqnets import ActivationQuantizer, WeightQuantizer
from rsseg.quantization.quantizer import quantizers
from rsseg.switchable.complexity import count_macs
from rsseg.switchable.layers import Switchable
from rsseg.switchable.unseen import remove_set
from tests.helpers.small_quantized import SIDES, bases, network, train, views


def test_all_convolutions_but_the_first_are_quantised_and_keep_their_parameters() -> None:
    plain = network()
    before = dict(plain.named_parameters())
    made = quantize(plain)
    kinds = [type(layer) for layer in made if isinstance(layer, nn.Conv2d)]
    assert kinds == [nn.Conv2d, QuantizedConv2d, QuantizedConv2d]
    assert all(made.get_parameter(name) is value for name, value in before.items())
    assert set(dict(made.named_parameters())) == set(before)
    assert sum(isinstance(q, WeightQuantizer) for q in quantizers(made)) == 2
    assert sum(isinstance(q, ActivationQuantizer) for q in quantizers(made)) == 2


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_layer_convolves_quantised_input_with_quantised_weights(bits: int) -> None:
    made = quantize(network(), bits, bits).eval()
    layer = made[3]
    x = torch.rand(2, 6, 5, 5)
    weight = WeightQuantizer(layer.weight.shape, bits).eval()(layer.weight)
    expected = F.conv2d(ActivationQuantizer(bits).eval()(x), weight, padding=1)
    torch.testing.assert_close(layer(x), expected)
    for channel in layer.quantized_weight():
        assert channel.unique().numel() <= 2**bits


def test_thirty_two_bits_leave_weights_or_activations_as_they_are() -> None:
    of_weights, of_activations = quantize(network(), 2, 32)[3], quantize(network(), 32, 2)[3]
    assert of_weights.input_quantizer is None
    assert of_activations.quantized_weight() is of_activations.weight
    assert not list(quantized_convolutions(of_activations))


def test_activations_are_quantised_at_the_points_of_a_network_that_has_some() -> None:
    made: Any = quantize(nn.Sequential(*network()[:6], QuantizationPoint(), network()[6]))
    assert isinstance(made[6], ActivationQuantizer)
    assert made[3].input_quantizer is None
    assert made[7].input_quantizer is None


def test_where_chooses_the_convolutions() -> None:
    made = quantize(network(), where=lambda name, _: name == "0")
    assert [name for name, _ in quantized_convolutions(made)] == ["0"]


@pytest.mark.parametrize("basis", ["shared", "largest_only", "private"])
def test_either_conversion_may_come_first(basis: Any) -> None:
    settings = QuantizerSettings(basis=basis)
    first = convert_to_switchable(quantize(network(), settings=settings), SIDES)
    second = quantize(convert_to_switchable(network(), SIDES), settings=settings)
    assert first.state_dict().keys() == second.state_dict().keys()
    for side in SIDES:
        x = torch.randn(2, 3, side, side)
        for made in (first.eval(), second.eval()):
            switch(made, side)
        assert torch.equal(first(x), second(x))
    torch.testing.assert_close(
        train(SwitchableNet(first, SIDES)), train(SwitchableNet(second, SIDES))
    )
    torch.testing.assert_close(first.state_dict(), second.state_dict())


@pytest.mark.parametrize("kind", ["lq", "lsq"])
@pytest.mark.parametrize("basis", ["shared", "private"])
def test_plain_network_gives_the_same_logits_without_quantisers(kind: str, basis: Any) -> None:
    made = quantize(network(), quantizer=kind, settings=QuantizerSettings(basis=basis))
    net = SwitchableNet(made, SIDES)
    train(net)
    net.eval()
    for view in views(5):
        special = specialize(net, view.shape[-1])
        plain = plain_network(special)
        assert not list(quantizers(plain))
        assert not any(isinstance(layer, QuantizedConv2d) for layer in plain.modules())
        assert torch.equal(plain(view), net.predict(view))
        assert list(quantizers(special))


def test_making_a_network_plain_teaches_it_nothing() -> None:
    net = SwitchableNet(quantize(network()), SIDES).train()
    before = bases(net)
    plain = plain_network(net)
    assert all(torch.equal(value, before[name]) for name, value in bases(net).items())
    assert isinstance(plain, SwitchableNet)
    for view in views():
        assert torch.equal(plain.eval().predict(view), net.eval().predict(view))


def test_network_with_levels_for_each_resolution_is_plain_at_one_alone() -> None:
    settings = QuantizerSettings(basis="private")
    net = SwitchableNet(quantize(network(), settings=settings), SIDES)
    with pytest.raises(ValueError, match="choose one with specialize"):
        plain_network(net)


@pytest.mark.parametrize("basis", ["private", "largest_only"])
def test_bases_that_need_the_resolution_need_a_private_batchnorm(basis: Any) -> None:
    made = quantize(network(), settings=QuantizerSettings(basis=basis))
    with pytest.raises(ValueError, match="choose basis 'shared', or batchnorm 'private'"):
        SwitchableNet(made, SIDES, batchnorm="shared")
    assert SwitchableNet(quantize(network()), SIDES, batchnorm="shared")


def test_specialised_network_knows_whether_it_is_the_largest() -> None:
    made = quantize(network(), settings=QuantizerSettings(basis="largest_only"))
    net = SwitchableNet(made, SIDES).eval()
    net.predict(views()[1])
    for side, learning in ((16, True), (8, False)):
        special = specialize(net, side).train()
        layers = [q for q in quantizers(special) if isinstance(q, ActivationQuantizer)]
        assert [layer.learns for layer in layers] == [learning] * 2
    interpolate_set(net.network, 12)
    switch(net.network, 12)
    remove_set(net.network, 12)
    assert all(layer.at_largest for layer in quantizers(net))


def test_private_quantisers_follow_the_network_that_is_switched_already() -> None:
    made = convert_to_switchable(network(), SIDES)
    switch(made, 8)
    quantize(made, settings=QuantizerSettings(basis="private"))
    assert {layer.active for layer in made.modules() if isinstance(layer, Switchable)} == {"8"}


def test_quantisers_are_made_where_the_network_is() -> None:
    places = nn.Sequential(*network()[:6], QuantizationPoint(), network()[6]).to("meta")
    assert {basis.device.type for basis in quantize(places).buffers()} == {"meta"}


def test_convolution_with_tensors_of_its_own_is_refused_by_name() -> None:
    made = timm.create_model("nf_regnet_b0", num_classes=4)
    with pytest.raises(ValueError, match=r"\(ScaledStdConv2d\) holds gain of its own"):
        quantize(made)
    normed = network()
    normed[3] = nn.utils.parametrizations.weight_norm(normed[3])
    with pytest.raises(ValueError, match=r"'3' .* of its own"):
        quantize(normed)
    normed[3] = nn.LazyConv2d(6, 3)
    with pytest.raises(ValueError, match="has no weight yet"):
        quantize(normed)


def test_network_without_quantisers_is_plain_already() -> None:
    plain = network()
    assert plain_network(plain) is plain


@pytest.mark.parametrize("name", ["timm/resnet10t.c3_in1k", "timm/mobilenetv3_small_050"])
def test_networks_of_timm_are_quantised(name: str) -> None:
    torch.manual_seed(0)
    made = quantize(timm.create_model(name.removeprefix("timm/"), num_classes=4))
    net = SwitchableNet(made, (64, 32))
    net.train()
    logits = net([torch.randn(2, 3, 64, 64), torch.randn(2, 3, 32, 32)])
    torch.stack(logits).sum().backward()  # type: ignore[no-untyped-call]
    assert all(layer.weight.grad is not None for _, layer in quantized_convolutions(net))


def test_convolution_of_another_kind_convolves_in_its_own_way() -> None:
    class Doubled(nn.Conv2d):
        def forward(self, input: Tensor) -> Tensor:
            return 2 * super().forward(input)

    layer = QuantizedConv2d(Doubled(3, 4, 3), None)
    plain = QuantizedConv2d(nn.Conv2d(3, 4, 3), None)
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(1, 3, 5, 5)
    torch.testing.assert_close(layer(x), 2 * plain(x))
    torch.testing.assert_close(layer.plain()(x), layer(x))
    assert set(layer.state_dict()) == {"weight", "bias"}


def test_bad_requests_are_refused() -> None:
    with pytest.raises(ValueError, match="1 to 4 bits, or 32 for full precision, got 8"):
        quantize(network(), 8)
    with pytest.raises(ValueError, match="nothing to quantise; choose"):
        quantize(network(), 32, 32)
    with pytest.raises(ValueError, match=r"unknown quantiser 'dorefa', expected one of"):
        quantize(network(), quantizer="dorefa")
    with pytest.raises(ValueError, match="Sequential is quantised already"):
        quantize(quantize(network()))
    with pytest.raises(ValueError, match="no convolution to quantise in Linear"):
        quantize(nn.Linear(3, 3))
    added = convert_to_switchable(network(), SIDES)
    interpolate_set(added, 12)
    with pytest.raises(ValueError, match="added BatchNorm sets"):
        quantize(added, settings=QuantizerSettings(basis="private"))


def test_classifier_is_quantised_as_its_settings_say() -> None:
    bits = {"weights": 2, "activations": 32}
    made = build_classifier(name="resnet18", classes=3, quantization=bits)
    names = [name for name, _ in quantized_convolutions(made)]
    assert len(names) == 19
    assert all(name.startswith("layer") for name in names)
    float_net = build_classifier(name="resnet18", classes=3)
    assert count_macs(made, 32) == count_macs(float_net, 32)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": 5}, "expected 1 to 4 bits, or 32"),
        ({"weights": 32, "activations": 32}, "quantise nothing"),
        ({"quantizer": "lk"}, "unknown quantiser 'lk'"),
        ({"quantizer": "lsq", "weights": 1}, "at least 2 bits"),
        ({"basis": "public"}, "basis"),
        ({"bits": 2}, "bits"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_classifier(name="resnet18", quantization=settings)
