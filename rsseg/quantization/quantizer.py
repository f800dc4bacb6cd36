"""Quantisers: what turns the weights of a layer, or an activation, into few levels.

`Quantizer` is the interface; `LearnedLevels` is what the quantisers of LQ-Nets in `lq_quantizers`
have in common, another kind is in `learned_step`. Where they sit in a network is in `quantization`.

A quantiser of LQ-Nets learns as a BatchNorm does: each forward pass in training mode is one step.
Where a step has several passes, as that of a network with several resolutions has, `one_step` (in
`quantizer_steps`) lets all of them use the same levels and learns once, from all together.

Source: Zhang, Yang, Ye, Hua, "LQ-Nets", ECCV 2018, https://arxiv.org/abs/1807.10029. Departures:
a small ridge keeps the fit of activations regular too, and in `one_step` the values of all
resolutions and of all processes count at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final, Literal

import torch
from torch import Tensor, nn

from rsseg.quantization.levels import Buckets, Levels, fit_basis, levels_of, nearest_levels
from rsseg.switchable.layers import FollowsLargest

BITS: Final = (1, 2, 3, 4)
BASES: Final = ("shared", "largest_only", "private")
Basis = Literal["shared", "largest_only", "private"]


class Quantizer(FollowsLargest, ABC):
    """Rounds tensors to 2^K levels for each row, and passes gradients on.

    Args:
        bits: K.
        basis: Whose levels they are: "shared" by all resolutions, the same but learnt by the
            "largest_only", or "private" to each resolution (see `convert_to_switchable`).

    Raises:
        ValueError: If the number of bits or the basis is not known.
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
        return taken + x * 0  # What is not finite is not hidden.


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

    Attributes:
        basis: Present basis v, float32, shape (R, K).
        updates: Number of steps that the basis has learnt from.

    Raises:
        ValueError: If the momentum is out of range, or for what `Quantizer` raises it.
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
        """Move the basis towards its fit to what the buckets hold, see `Buckets`.

        Buckets of no value, or of values that are not finite, teach nothing.
        """
        fitted = fit_basis(buckets, self.levels().codes, self.basis)
        useful = fitted.isfinite().all() & (buckets.counts.sum() > 0)
        self.updates += useful
        # Nothing is read from the tensors: that would wait for the device.
        weight = 1 - self.momentum ** self.updates.clamp(min=1).double()
        # The moving average from zero over its own sum of weights, without holding either.
        rate = (1 - self.momentum) / weight if self.debias else 1 - self.momentum
        moved = self.basis + rate * (fitted - self.basis)
        self.basis.copy_(torch.where(useful, moved.to(self.basis.dtype), self.basis))

    def extra_repr(self) -> str:
        """Name what is special about the quantiser when the layer is printed."""
        return f"{super().extra_repr()}, rows={len(self.basis)}, signed={self.signed}"


def _added(first: Buckets, second: Buckets) -> Buckets:
    return Buckets(first.counts + second.counts, first.sums + second.sums)
