"""When the quantisers of a network learn, and how often they work: for whole networks.

Source of the rules for several resolutions: choices of this project, see `docs/METHOD.md`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import torch
from torch import nn

from rsseg.common.distributed import add_up, world_size
from rsseg.quantization.levels import Buckets
from rsseg.quantization.lqnets import ActivationQuantizer
from rsseg.quantization.quantizer import LearnedLevels, Quantizer


def quantizers(network: nn.Module) -> Iterator[Quantizer]:
    """Yield every quantiser of a network once, those of all resolutions included."""
    return (layer for layer in network.modules() if isinstance(layer, Quantizer))


def _learners(network: nn.Module) -> list[LearnedLevels]:
    return [layer for layer in quantizers(network) if isinstance(layer, LearnedLevels)]


@contextmanager
def held_weights(network: nn.Module) -> Iterator[None]:
    """Quantise each weight once inside a `with` block, in which no weight may change."""
    held = [layer for layer in _learners(network) if not layer.holding]
    for layer in held:
        layer.holding = True
    try:
        yield
    finally:
        for layer in held:
            layer.holding, layer.held = False, None


@contextmanager
def one_step(network: nn.Module) -> Iterator[None]:
    """Make all forward passes inside a `with` block one step of the quantisers.

    All passes use the levels from before. At the end the quantisers learn once, from the values
    of all passes and all processes; if the block ends with an error, they do not. No weight may
    change inside.
    """
    layers = [layer for layer in _learners(network) if not layer.pooling]
    for layer in layers:
        layer.pooling = True
    try:
        with held_weights(network):
            yield
        _exchange([layer for layer in layers if isinstance(layer, ActivationQuantizer)])
        for layer in layers:
            if layer.pooled is not None:
                layer.learn(layer.pooled)
    finally:
        for layer in layers:
            layer.pooling, layer.pooled = False, None


def _exchange(layers: Sequence[LearnedLevels]) -> None:
    """Add up the buckets of all processes. Weights are the same in all, and so are theirs."""
    pooled = [layer for layer in layers if layer.pooled is not None]
    if world_size() == 1 or not pooled:
        return
    stacked = [torch.stack(cast(Buckets, layer.pooled)) for layer in pooled]
    flat = torch.cat([values.flatten() for values in stacked])
    add_up(flat)
    parts = torch.split(flat, [values.numel() for values in stacked])
    for layer, part, values in zip(pooled, parts, stacked, strict=True):
        layer.pooled = Buckets(*part.view_as(values))


@contextmanager
def paused(network: nn.Module) -> Iterator[None]:
    """Let quantisers work inside a `with` block as in training, and learn nothing."""
    layers = [layer for layer in _learners(network) if not layer.paused]
    for layer in layers:
        layer.paused = True
    try:
        yield
    finally:
        for layer in layers:
            layer.paused = False
