"""Layers that learn in their forward pass, and what a training step asks of them.

Such a layer learns as a BatchNorm does: each forward pass in training mode is one step. A step of
a network with several resolutions has several passes. `one_step` lets all of them see the same
state and learns once, from all together; `paused` learns nothing; `held_weights` computes once what
depends on weights alone. Quantisers are layers of this kind.

The rules for several resolutions are choices of this project, see `docs/METHOD.md`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar

import torch
from torch import Tensor, nn

from rsseg.common.distributed import all_reduce_, world_size
from rsseg.switchable.layers import FollowsLargest, Sharing


class StepLearner(FollowsLargest, ABC):
    """A layer that learns in the forward pass, without gradients, from evidence that adds up.

    Args:
        sharing: See `FollowsLargest`.

    Attributes:
        per_process: Whether the evidence differs between processes and has to be exchanged; that
            of weights does not.
        paused: Set by `paused`: forward passes bring no evidence.
        caching: Set by `held_weights`: the first result is kept and returned again.
        cached: That result.
    """

    per_process: ClassVar[bool] = False

    def __init__(self, sharing: Sharing = "shared") -> None:
        super().__init__(sharing)
        self.paused = False
        self.caching = False
        self.cached: Tensor | None = None
        self.pooling = False
        self.pooled: Tensor | None = None

    @abstractmethod
    def learn(self, evidence: Tensor) -> None:
        """Learn one step from evidence, which may be the sum of that of several passes."""

    def observe(self, evidence: Tensor) -> None:
        """Learn from the evidence of one pass: at once, or at the end of `one_step`."""
        if self.pooling:
            self.pooled = evidence if self.pooled is None else self.pooled + evidence
        else:
            self.learn(evidence)


def _learners(network: nn.Module) -> list[StepLearner]:
    return [layer for layer in network.modules() if isinstance(layer, StepLearner)]


@contextmanager
def held_weights(network: nn.Module) -> Iterator[None]:
    """Compute once inside a `with` block what depends on weights alone; no weight may change."""
    layers = [layer for layer in _learners(network) if not layer.caching]
    for layer in layers:
        layer.caching = True
    try:
        yield
    finally:
        for layer in layers:
            layer.caching, layer.cached = False, None


@contextmanager
def paused(network: nn.Module) -> Iterator[None]:
    """Run forward passes inside a `with` block as in training, without learning from them."""
    layers = [layer for layer in _learners(network) if not layer.paused]
    for layer in layers:
        layer.paused = True
    try:
        yield
    finally:
        for layer in layers:
            layer.paused = False


@contextmanager
def one_step(network: nn.Module) -> Iterator[None]:
    """Count all forward passes inside a `with` block as one step of the layers that learn in them.

    All passes see the state from before. At the end each layer learns once, from all passes and
    all processes; if the block ends with an error, none does. No weight may change inside.
    """
    layers = [layer for layer in _learners(network) if not layer.pooling]
    for layer in layers:
        layer.pooling = True
    try:
        with held_weights(network):
            yield
        _exchange([layer for layer in layers if layer.per_process])
        for layer in layers:
            if layer.pooled is not None:
                layer.learn(layer.pooled)
    finally:
        for layer in layers:
            layer.pooling, layer.pooled = False, None


def _exchange(layers: Sequence[StepLearner]) -> None:
    """Replace the evidence by its sum over all processes, in one exchange."""
    pooled = {layer: layer.pooled for layer in layers if layer.pooled is not None}
    if world_size() == 1 or not pooled:
        return
    flat = torch.cat([evidence.flatten() for evidence in pooled.values()])
    all_reduce_(flat)
    parts = torch.split(flat, [evidence.numel() for evidence in pooled.values()])
    for (layer, evidence), part in zip(pooled.items(), parts, strict=True):
        layer.pooled = part.view_as(evidence)
