"""Pre-activation ResNets: what is quantised, what is added, how many parameters there are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rsseg.classifiers.preactivation import preact_resnet18, preact_resnet50
from rsseg.quantization.convert import (
    QuantizationPoint,
    QuantizedConv2d,
    quantize,
    quantized_convolutions,
)
from rsseg.quantization.lqnets import ActivationQuantizer


def convolutions(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters() if p.dim() > 1)


@pytest.mark.parametrize(
    ("build", "published"), [(preact_resnet18, 11_689_512), (preact_resnet50, 25_557_032)]
)
def test_convolutions_are_those_of_the_resnet_of_the_same_depth(
    build: type[nn.Module], published: int
) -> None:
    with torch.device("meta"):
        network = build()
    batchnorms = {18: 9_600, 50: 53_120}[18 if published < 2e7 else 50]
    assert convolutions(network) + 1000 == published - batchnorms


@pytest.mark.parametrize(("build", "count"), [(preact_resnet18, 19), (preact_resnet50, 52)])
def test_every_convolution_of_the_stages_is_quantised_and_no_other(
    build: type[nn.Module], count: int
) -> None:
    network: Any
    with torch.device("meta"):
        network = quantize(build())
    names = [name for name, _ in quantized_convolutions(network)]
    assert len(names) == count
    assert all(name.startswith("layer") for name in names)
    assert not isinstance(network.conv1, QuantizedConv2d)
    # Activations are quantised at the places of the network alone.
    assert all(
        m.input_quantizer is None for m in network.modules() if isinstance(m, QuantizedConv2d)
    )


@pytest.mark.parametrize(("build", "places"), [(preact_resnet18, 16), (preact_resnet50, 48)])
def test_number_of_places_to_quantise(build: type[nn.Module], places: int) -> None:
    # One in front of each convolution of the branches but those that begin stages 1 to 3, whose
    # input the end of the stage before has quantised.
    with torch.device("meta"):
        network = build()
    found = [m for m in network.modules() if isinstance(m, QuantizationPoint)]
    assert len(found) == places


def by_hand(block: Any, x: Tensor, *, quant: nn.Module, entry: str) -> Tensor:
    """Follow the description of a block of ResNet-18 step by step."""
    inner = block.activations[0]
    if entry == "activate":
        branch = quant(torch.relu(block.entry.bn(x)))
    else:
        branch = quant(x) if entry == "quantize" else x
    branch = block.convs[0](branch)
    branch = block.convs[1](quant(torch.relu(inner.bn(branch))))
    shortcut = x
    if not isinstance(block.shortcut, nn.Identity):
        projection, batchnorm = block.shortcut
        shortcut = batchnorm(projection(x))
    output: Tensor = block.bn(branch) + shortcut
    return output


def test_network_is_what_its_description_says() -> None:
    torch.manual_seed(0)
    network: Any = quantize(preact_resnet18(num_classes=4, width=8)).eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            nn.init.uniform_(layer.running_mean, -0.2, 0.2)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, -0.2, 0.2)
    quant = ActivationQuantizer(2).eval()  # All are the same before they learn.
    images = torch.randn(2, 3, 48, 48)
    x = network.maxpool(torch.relu(network.bn1(network.conv1(images))))
    for stage, layers in enumerate(
        [network.layer1, network.layer2, network.layer3, network.layer4]
    ):
        first, second, end = layers
        x = by_hand(first, x, quant=quant, entry="none" if stage else "quantize")
        x = by_hand(second, x, quant=quant, entry="activate")
        x = torch.relu(end.bn(x))
        if stage < 3:
            x = quant(x)
    torch.testing.assert_close(network(images), network.fc(x.mean(dim=(2, 3))))


def test_bottleneck_halves_in_its_3x3_convolution_and_projects_the_raw_input_first() -> None:
    network: Any = preact_resnet50(num_classes=4, width=8)
    first, later = network.layer1[0], network.layer2[0]
    assert [conv.kernel_size[0] for conv in first.convs] == [1, 3, 1]
    assert [conv.stride[0] for conv in later.convs] == [1, 2, 1]
    assert isinstance(first.entry, QuantizationPoint)
    assert isinstance(later.entry, nn.Identity)
    assert not isinstance(first.shortcut, nn.Identity)
    assert network(torch.randn(1, 3, 64, 64)).shape == (1, 4)
