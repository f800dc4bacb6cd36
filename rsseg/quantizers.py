"""Quantisers: what turns the weights of a layer, or an activation, into few levels.

`Quantizer` is the interface; `LearnedLevels`, the quantiser of LQ-Nets, is here, another one in
`learned_step`. Where they sit in a network is in `quantization`.

A quantiser of LQ-Nets learns as a BatchNorm does: each forward pass in training mode is one step.
Where a step has several passes, as that of a network with several resolutions has, `one_step` lets
all of them use the same levels and learns once, from all together.

Source: Zhang, Yang, Ye, Hua, "LQ-Nets", ECCV 2018, https://arxiv.org/abs/1807.10029. Departures:
a small ridge keeps the fit of activations regular too, and in `one_step` the values of all
resolutions and of all processes count at once.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Literal, cast

import torch
from torch import Tensor, nn

from rsseg.distributed import add_up, world_size
from rsseg.levels import Buckets, Levels, fit_basis, levels_of, nearest_levels
from rsseg.private_layers import FollowsLargest

BITS: Final = (1, 2, 3, 4)
BASES: Final = ("shared", "largest_only", "private")
Basis = Literal["shared", "largest_only", "private"]
# Two thirds of the values of a normal distribution lie within so many standard deviations, half.
_QUARTILE: Final = 0.6745


class Quantizer(FollowsLargest, ABC):
    """Rounds tensors to 2^K levels for each row, and passes gradients on.

    Args:
        bits: K.
        basis: Whose levels they are: "shared" by all resolutions, the same but learnt by the
            "largest_only", or "private" to each resolution (see `convert_to_switchable`).
    """

    def __init__(self, bits: int, basis: Basis = "shared") -> None:
        super().__init__()
        if bits not in BITS:
            raise ValueError(f"a quantiser has one of {list(BITS)} bits, got {bits}")
        if basis not in BASES:
            raise ValueError(f"unknown basis {basis!r}, expected one of {list(BASES)}")
        self.bits = bits
        self.basis_of = basis
        self.per_resolution = basis == "private"

    @property
    def learns(self) -> bool:
        """Whether a forward pass at the present resolution may change the levels."""
        return self.training and (self.at_largest or self.basis_of != "largest_only")

    @abstractmethod
    def level_values(self) -> Tensor:
        """Return the levels from small to large, shape (R, 2^K) with R rows, or 1 for all rows."""

    def plain(self) -> nn.Module:
        """Return the quantiser of an activation as an ordinary layer, which learns no more."""
        return Staircase(self.level_values()[0], self.level_thresholds()[0])

    @abstractmethod
    def level_thresholds(self) -> Tensor:
        """Return where one level ends and the next begins, shape (R, 2^K - 1).

        What is greater than a threshold takes a level above it.
        """

    def extra_repr(self) -> str:
        """Name the number of bits when the layer is printed."""
        return f"bits={self.bits}, basis={self.basis_of}"


class Staircase(nn.Module):
    """Rounds to fixed levels, in operations that every runtime has; made by `Quantizer.plain`.

    Args:
        levels: From small to large, shape (L,).
        thresholds: Between them, shape (L - 1,).
    """

    def __init__(self, levels: Tensor, thresholds: Tensor) -> None:
        super().__init__()
        self.levels: Tensor
        self.thresholds: Tensor
        self.register_buffer("levels", levels.detach().clone())
        self.register_buffer("thresholds", thresholds.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """Round a tensor of any shape."""
        taken = self.levels[0].expand_as(x)
        for i in range(len(self.thresholds)):
            taken = torch.where(x > self.thresholds[i], self.levels[i + 1], taken)
        return taken


class LearnedLevels(Quantizer):
    """A quantiser of LQ-Nets: its levels are the sums of a basis of K numbers for each row.

    The basis is a buffer. It learns without gradients, by one alternation of the QEM algorithm in
    a step: values take the nearest levels, the basis is fitted to them by least squares, and moves
    towards that fit. The levels that a pass uses are those before its own step.

    Args:
        basis: First basis, shape (R, K).
        signed: Whether a level adds and subtracts basis entries, or takes and leaves them.
        kind: See `Quantizer`.
        momentum: Share of the old basis in the moving average, 0..1.
        debias: Let the moving average begin with the first fit, in place of the first basis.
    """

    def __init__(
        self,
        basis: Tensor,
        *,
        signed: bool,
        kind: Basis = "shared",
        momentum: float = 0.9,
        debias: bool = True,
    ) -> None:
        super().__init__(basis.shape[1], kind)
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be in 0..1 (1 excluded), got {momentum}")
        self.signed = signed
        self.momentum = momentum
        self.debias = debias
        self.basis: Tensor
        self.updates: Tensor
        self.register_buffer("basis", basis.clone())
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        # Set by the context managers below.
        self.pooling = False
        self.paused = False
        self.holding = False
        self.pooled: Buckets | None = None
        self.held: Tensor | None = None

    def levels(self) -> Levels:
        """Return the present levels."""
        return levels_of(self.basis, signed=self.signed)

    def level_values(self) -> Tensor:
        """Return the levels from small to large, shape (R, 2^K)."""
        return self.levels().values

    def level_thresholds(self) -> Tensor:
        """Return the midpoints of the levels, shape (R, 2^K - 1)."""
        return self.levels().thresholds

    @torch.no_grad()
    def quantized(self, rows: Tensor) -> Tensor:
        """Return the nearest levels of values of shape (R, N), and learn from them in training."""
        learning = self.learns and not self.paused
        with torch.autocast(rows.device.type, enabled=False):
            found, buckets = nearest_levels(rows, self.levels(), count=learning)
            if buckets is not None and self.pooling:
                self.pooled = buckets if self.pooled is None else _added(self.pooled, buckets)
            elif buckets is not None:
                self.learn(buckets)
        return found

    @torch.no_grad()
    def learn(self, buckets: Buckets) -> None:
        """Move the basis towards its fit to what the buckets hold."""
        fitted = fit_basis(buckets, self.levels().codes, self.basis)
        self.updates += 1
        rate = 1 - self.momentum
        if self.debias and self.momentum:
            # The moving average from zero over its own sum of weights, without holding either.
            rate = rate / (1 - self.momentum ** int(self.updates))
        moved = self.basis + rate * (fitted - self.basis)
        # A step whose values are not finite teaches nothing.
        self.basis.copy_(torch.where(moved.isfinite(), moved, self.basis))

    def extra_repr(self) -> str:
        """Name what is special about the quantiser when the layer is printed."""
        return f"{super().extra_repr()}, rows={len(self.basis)}, signed={self.signed}"


def _added(first: Buckets, second: Buckets) -> Buckets:
    return Buckets(first.counts + second.counts, first.sums + second.sums)


class _StraightThrough(torch.autograd.Function):
    """The quantised values forward, the identity backward."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, quantized: Tensor) -> Tensor:
        return quantized.view_as(quantized)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Any, None]:
        return gradients[0], None


class WeightQuantizer(LearnedLevels):
    r"""LQ-Nets for the weights of a convolution: one basis for each output channel.

    .. math:: v_k = 2^k \, 0.6745 \, \sigma / 2^{K-1}, \quad \sigma = \sqrt{2 / (k_h k_w C_{out})}

    Args:
        shape: Shape of the weights, (C_out, C_in, k_h, k_w).
        bits: K, 1..4.
        basis: See `Quantizer`.
        momentum: See `LearnedLevels`.
        debias: See `LearnedLevels`.
    """

    def __init__(
        self,
        shape: Sequence[int],
        bits: int,
        *,
        basis: Basis = "shared",
        momentum: float = 0.9,
        debias: bool = True,
    ) -> None:
        sigma = math.sqrt(2 / (shape[0] * math.prod(shape[2:])))
        first = 2.0 ** torch.arange(bits) * _QUARTILE * sigma / 2 ** (bits - 1)
        rows = first.repeat(shape[0], 1)
        super().__init__(rows, signed=True, kind=basis, momentum=momentum, debias=debias)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, weight: Tensor) -> Tensor:
        """Quantise weights (C_out, ...); the gradient goes to the weights as it is."""
        found = self.held
        if found is None:
            found = self.quantized(weight.flatten(1)).view_as(weight)
            found = found.contiguous(memory_format=_layout(weight))
        if self.holding:
            self.held = found
        output: Tensor = _StraightThrough.apply(weight, found)
        return output


class _Clipped(torch.autograd.Function):
    """The quantised values forward; backward the gradient of what is not above the top level."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, quantized: Tensor, top: Tensor) -> Tensor:
        ctx.save_for_backward(values <= top)
        return quantized.view_as(quantized)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Any, None, None]:
        (below,) = ctx.saved_tensors
        return gradients[0] * below, None, None


class ActivationQuantizer(LearnedLevels):
    r"""LQ-Nets for an activation behind a ReLU: one basis, whose lowest level is 0 at first.

    .. math:: v_k = 2^k \, 0.6745 \cdot 2 / (2^K - 1)

    Args:
        bits: K, 1..4.
        basis: See `Quantizer`.
        momentum: See `LearnedLevels`.
        debias: See `LearnedLevels`.
    """

    def __init__(
        self,
        bits: int,
        *,
        basis: Basis = "shared",
        momentum: float = 0.9,
        debias: bool = True,
    ) -> None:
        first = 2.0 ** torch.arange(bits) * _QUARTILE * 2 / (2**bits - 1)
        super().__init__(first[None], signed=False, kind=basis, momentum=momentum, debias=debias)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, x: Tensor) -> Tensor:
        """Quantise an activation of any shape.

        The gradient passes where x is not above the largest level, and is 0 elsewhere.
        """
        top = self.level_values()[0, -1].to(x.dtype)
        dense = x.contiguous(memory_format=_layout(x))
        found = self.quantized(_in_memory_order(dense)[None])[0]
        found = torch.as_strided(found, dense.shape, dense.stride())
        output: Tensor = _Clipped.apply(dense, found, top)
        return output


def _layout(x: Tensor) -> torch.memory_format:
    last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def _in_memory_order(dense: Tensor) -> Tensor:
    return torch.as_strided(dense, (dense.numel(),), (1,))


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
