"""A small converted network for the tests of switchable BatchNorm."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from rsseg.switchable.convert import SwitchableBatchNorm2d, convert_to_switchable, switch

TENSORS = ("weight", "bias", "running_mean", "running_var")


def randomise(network: nn.Module) -> None:
    for layer in network.modules():
        if isinstance(layer, _BatchNorm):
            for name in TENSORS:
                tensor = getattr(layer, name)
                if tensor is not None:
                    nn.init.uniform_(tensor, 0.5, 1.5)


def small() -> nn.Sequential:
    """Convolution, BatchNorm, activation, convolution, BatchNorm; in evaluation mode."""
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5)
    )
    randomise(network)
    return network.eval()


def converted() -> nn.Sequential:
    """`small` with other values in each set."""
    network = convert_to_switchable(small(), [64, 32])
    randomise(network)
    return network


def at(network: nn.Sequential, index: int, name: str) -> _BatchNorm:
    return cast(_BatchNorm, cast(SwitchableBatchNorm2d, network[index]).sets[name])


def run(network: nn.Module, name: str, images: Tensor) -> Tensor:
    switch(network, name)
    output: Tensor = network(images)
    return output
