"""Quantisers: what turns the weights of a layer, or an activation, into few levels.

`Quantizer` is the interface; `LearnedLevels` is what the quantisers of LQ-Nets in `lqnets.py` have
in common, another kind is in `lsq.py`. Where they sit in a network is in `convert.py`.

A quantiser of LQ-Nets learns as a BatchNorm does, see `rsseg.switchable.step_scopes`.

Source: Zhang, Yang, Ye, Hua, "LQ-Nets", ECCV 2018, https://arxiv.org/abs/1807.10029. Departures:
a small ridge keeps the fit of activations regular too, and in `one_step` the values of all
resolutions and of all processes count at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Final, get_args

import torch
from torch import Tensor, nn

from rsseg.quantization.levels import Buckets, Levels, fit_basis, levels_of, nearest_levels
from rsseg.switchable.layers import FollowsLargest, Sharing
from rsseg.switchable.step_scopes import StepLearner

BITS: Final = (1, 2, 3, 4)


class Quantizer(FollowsLargest, ABC):
    """Rounds tensors to 2^K levels for each row, and passes gradients on.

    Args:
        bits: K.
        basis: Whose levels they are: "shared" by all resolutions, the same but learnt by the
            "largest_only", or "private" to each resolution (see `convert_to_switchable`).

    Raises:
        ValueError: If the number of bits or the basis is not known.
    """

    def __init__(self, bits: int, basis: Sharing = "shared") -> None:
        super().__init__(basis)
        if bits not in BITS:
            raise ValueError(f"a quantiser has one of {list(BITS)} bits, got {bits}")
        if basis not in get_args(Sharing):
            raise ValueError(f"unknown basis {basis!r}, expected one of {list(get_args(Sharing))}")
        self.bits = bits

    @property
    def learns(self) -> bool:
        """Whether a forward pass at the present resolution may change the levels."""
        return self.training and self.learns_here

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
        """Return the number of bits, shown when the layer is printed."""
        return f"bits={self.bits}, basis={self.sharing}"


def quantizers(network: nn.Module) -> Iterator[Quantizer]:
    """Yield every quantiser of a network once, those of all resolutions included."""
    return (layer for layer in network.modules() if isinstance(layer, Quantizer))


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


class LearnedLevels(Quantizer, StepLearner):
    """A quantiser of LQ-Nets: its levels are the sums of a basis of K numbers for each row.

    The basis is a buffer. It learns without gradients, by one alternation of the QEM algorithm in
    a step: values take the nearest levels, the basis is fitted to them by least squares, and moves
    towards that fit. The levels that a pass uses are those before its own step.

    Args:
        basis: First basis, shape (R, K).
        signed: Whether a level adds and subtracts basis entries, or takes and leaves them.
        sharing: The `basis` of `Quantizer`.
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
        sharing: Sharing = "shared",
        momentum: float = 0.9,
        debias: bool = True,
    ) -> None:
        super().__init__(basis.shape[1], sharing)
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be in 0..1 (1 excluded), got {momentum}")
        self.signed = signed
        self.momentum = momentum
        self.debias = debias
        self.basis: Tensor
        self.updates: Tensor
        self.register_buffer("basis", basis.clone())
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

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
            quantized, buckets = nearest_levels(rows, self.levels(), count=learning)
            if buckets is not None:
                self.observe(torch.stack(buckets))
        return quantized

    @torch.no_grad()
    def learn(self, evidence: Tensor) -> None:
        """Move the basis towards its fit to stacked `Buckets`, shape (2, R, L).

        Buckets of no value, or of values that are not finite, teach nothing.
        """
        buckets = Buckets(*evidence)
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
        """Return what is special about the quantiser, shown when the layer is printed."""
        return f"{super().extra_repr()}, rows={len(self.basis)}, signed={self.signed}"
