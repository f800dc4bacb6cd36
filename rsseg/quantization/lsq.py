"""LSQ: a quantiser with evenly spaced levels, whose step is trained by gradient.

The second quantiser beside LQ-Nets, through the same interface. The step of the paper is positive;
nothing keeps a plain parameter so under gradients, and a step of 0 divides by it. So the step is
the absolute value of the parameter, at least `SMALLEST`: equal to it as long as it is positive, and
with the same gradients.

Source: Esser et al., "Learned Step Size Quantization", ICLR 2020,
https://arxiv.org/abs/1902.08153, Eq. 1 to 5 and Section 2.1.
"""

from __future__ import annotations

import math
from typing import Any, Final

import torch
from torch import Tensor, nn

from rsseg.common.distributed import all_sum, world_size
from rsseg.quantization.quantizer import Quantizer
from rsseg.switchable.layers import Sharing

SMALLEST: Final = 1e-7  # of a step: still positive as float16


class _LearnedStep(torch.autograd.Function):
    """Rounds to multiples of a step; gradients of Eq. 3 for the step, straight through for x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, lowest: int, highest: int) -> Tensor:
        scaled = x / step
        rounded = scaled.round().clamp(lowest, highest)
        ctx.save_for_backward(scaled, rounded)
        ctx.limits = (lowest, highest)
        return rounded * step

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Any, Any, None, None]:
        (gradient,) = gradients
        scaled, rounded = ctx.saved_tensors
        lowest, highest = ctx.limits
        inside = (scaled > lowest) & (scaled < highest)
        slope = torch.where(inside, rounded - scaled, rounded)
        # Each value moves the step; their number and the levels' scale its gradient (Section 2.2).
        scale = 1 / math.sqrt(scaled.numel() * max(highest, 1))
        of_step = (gradient * slope).sum(dtype=torch.float32) * scale
        return gradient * inside, of_step, None, None


class LearnedStepQuantizer(Quantizer):
    """LSQ for weights (signed levels) or activations (from 0 on), one step for the whole tensor.

    The step begins as 2 E|x| / sqrt(Q) of the first values, with Q the number of the highest level:
    those that are given, or that pass first in training. Before, it is 1.

    Args:
        bits: K, 1..4; of weights at least 2, since one signed bit would leave 0 and a negative
            level alone.
        signed: Whether there are levels below 0.
        basis: See `Quantizer`.
        first: The first values, such as a weight.

    Raises:
        ValueError: If signed levels are asked for with one bit.
    """

    def __init__(
        self, bits: int, *, signed: bool, basis: Sharing = "shared", first: Tensor | None = None
    ) -> None:
        super().__init__(bits, basis)
        if signed and bits == 1:
            raise ValueError("lsq needs at least 2 bits for weights; choose 2 bits, or lq")
        self.lowest = -(2 ** (bits - 1)) if signed else 0
        self.highest = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
        self.step = nn.Parameter(torch.ones(()))
        self.started: Tensor
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))
        if first is not None and not first.is_meta:
            self.start(first)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, x: Tensor) -> Tensor:
        """Quantise a tensor of any shape."""
        if self.learns and not self.started:
            # The mean over all processes: they have to go on with the same step.
            self._start(all_sum(x.detach().abs().mean(dtype=torch.float32)) / world_size())
        step = self.positive_step
        step = step if self.learns_here else step.detach()
        output: Tensor = _LearnedStep.apply(x, step.to(x.dtype), self.lowest, self.highest)
        return output

    def start(self, first: Tensor) -> None:
        """Take the first step from the first values, such as a weight."""
        self._start(first.detach().abs().mean(dtype=torch.float32))

    @property
    def positive_step(self) -> Tensor:
        """The width of a level, above 0, with gradients to the parameter; shape ()."""
        magnitude = torch.where(self.step < 0, -self.step, self.step)
        size = magnitude.detach()
        # Adds 0 to all but the smallest; those still get a gradient, and may grow again.
        return magnitude + (size.clamp(min=SMALLEST) - size)

    @torch.no_grad()
    def _start(self, size: Tensor) -> None:
        first = 2 * size / math.sqrt(max(self.highest, 1))
        if first.isfinite() and first > 0:
            self.step.copy_(first)
            self.started.fill_(True)

    def level_values(self) -> Tensor:
        """Return the levels from small to large, shape (1, 2^K)."""
        numbers = torch.arange(self.lowest, self.highest + 1, device=self.step.device)
        return (numbers * self.positive_step.detach())[None]

    def level_thresholds(self) -> Tensor:
        """Return the midpoints of the levels, shape (1, 2^K - 1)."""
        levels = self.level_values()
        return (levels[:, 1:] + levels[:, :-1]) / 2

    def plain(self) -> nn.Module:
        """Return the quantiser as an ordinary layer."""
        return FixedStep(float(self.positive_step.detach()), self.lowest, self.highest)


class FixedStep(nn.Module):
    """Rounds to multiples of a fixed step, half of one to the even multiple.

    Args:
        step: Width of a level.
        lowest: Number of the lowest level.
        highest: Number of the highest level.
    """

    def __init__(self, step: float, lowest: int, highest: int) -> None:
        super().__init__()
        self.step, self.lowest, self.highest = step, lowest, highest

    def forward(self, x: Tensor) -> Tensor:
        """Round a tensor of any shape."""
        return (x / self.step).round().clamp(self.lowest, self.highest) * self.step
