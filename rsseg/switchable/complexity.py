"""Parameters and multiply-adds of a network.

Multiply-adds are those of convolutions, matrix products and attention, as torch's own counter
sees them. Normalisation, activations, pooling and resizing are left out, as in published figures.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.flop_counter import FlopCounterMode

from rsseg.switchable.layers import Switchable, SwitchableNorm
from rsseg.switchable.net import SwitchableNet


def count_macs(
    network: nn.Module, resolution: int | tuple[int, int], *, in_channels: int = 3
) -> int:
    """Count the multiply-adds of one image in eval mode.

    Nothing is computed, only shapes are followed, and the network stays as it was. A
    switchable network, which has `resolutions` and `predict`, counts one prediction.

    Args:
        network: Maps images to anything.
        resolution: Side of a square image in pixels, or its height and width.
        in_channels: Channels of the image.

    Returns:
        Multiply-adds, half of what torch counts as floating point operations.

    Raises:
        ValueError: If a side is below 1.

    Example:
        >>> count_macs(nn.Conv2d(3, 8, kernel_size=3, padding=1), 10)  # 3 * 3 * 3 * 8 * 10 * 10
        21600
    """
    size = tuple(resolution) if isinstance(resolution, tuple) else (int(resolution),) * 2
    if min(size) < 1:
        raise ValueError(f"the sides of an image must be at least 1 pixel, got {size}")
    tensors = chain(network.parameters(), network.buffers(), [torch.empty(0)])
    device = next(tensors).device
    counter = FlopCounterMode(display=False)
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    with _evaluating(network), torch.no_grad(), _quiet(), fake, counter:
        images = torch.empty(1, in_channels, *size, device=device)
        _forward(network, images)
    return int(counter.get_total_flops()) // 2


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch from logging a traceback of what is raised as well, inside a `with` block."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


def _forward(network: nn.Module, images: Tensor) -> None:
    """Run a network, or one prediction of a switchable one."""
    if isinstance(network, SwitchableNet):
        # Every BatchNorm set costs the same: a trained one serves images of any size.
        network.predict(images, network.resolutions[0])
    else:
        network(images)


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Switch every module to eval mode inside a `with` block, then back, and back to its set."""
    # Flags are set one by one: a network's own train() may skip what is frozen.
    before = [(module, module.training) for module in network.modules()]
    active = [(module, module.active) for module, _ in before if isinstance(module, Switchable)]
    try:
        for module, _ in before:
            module.training = False
        yield
    finally:
        for module, training in before:
            module.training = training
        for module, name in active:
            module.active = name


def count_parameters(network: nn.Module) -> int:
    """Count the parameters, shared ones once; buffers such as running statistics do not count.

    Example:
        >>> count_parameters(nn.Linear(10, 5))
        55
    """
    return sum(parameter.numel() for parameter in network.parameters())


def batchnorm_parameters(network: nn.Module) -> int:
    """Count the parameters in BatchNorm layers and in all private norms, of all resolutions.

    Example:
        >>> batchnorm_parameters(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)))
        16
    """
    kinds = _BatchNorm | SwitchableNorm
    return count_parameters(nn.ModuleList(m for m in network.modules() if isinstance(m, kinds)))
