"""The quantisers of LQ-Nets, of weights and of activations: first levels and gradients.

What they learn, and how, is in `quantizer.py`.

Source: Zhang, Yang, Ye, Hua, "LQ-Nets", ECCV 2018, https://arxiv.org/abs/1807.10029, Section 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor

from rsseg.quantization.quantizer import LearnedLevels
from rsseg.switchable.layers import Sharing

_QUARTILE: Final = 0.6745  # Half of a normal distribution lies within so many deviations.


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

    The weights are the same at every resolution, and so is their basis.

    Args:
        shape: Shape of the weights, (C_out, C_in, k_h, k_w).
        bits: K, 1..4.
        momentum: See `LearnedLevels`.
        debias: See `LearnedLevels`.

    Raises:
        ValueError: As `LearnedLevels`.
    """

    def __init__(
        self,
        shape: Sequence[int],
        bits: int,
        *,
        momentum: float = 0.9,
        debias: bool = True,
    ) -> None:
        sigma = math.sqrt(2 / (shape[0] * math.prod(shape[2:])))
        first = 2.0 ** torch.arange(bits) * _QUARTILE * sigma / 2 ** (bits - 1)
        rows = first.repeat(shape[0], 1)
        super().__init__(rows, signed=True, momentum=momentum, debias=debias)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, weight: Tensor) -> Tensor:
        """Quantise weights (C_out, ...); the gradient goes to the weights as it is."""
        quantized = self.cached
        if quantized is None:
            quantized = self.quantized(weight.flatten(1)).view_as(weight)
            quantized = quantized.contiguous(memory_format=_layout(weight))
        if self.caching:
            self.cached = quantized
        output: Tensor = _StraightThrough.apply(weight, quantized)
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

    Raises:
        ValueError: As `LearnedLevels`.
    """

    per_process = True

    def __init__(
        self,
        bits: int,
        *,
        basis: Sharing = "shared",
        momentum: float = 0.9,
        debias: bool = True,
    ) -> None:
        first = 2.0 ** torch.arange(bits) * _QUARTILE * 2 / (2**bits - 1)
        super().__init__(first[None], signed=False, sharing=basis, momentum=momentum, debias=debias)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, x: Tensor) -> Tensor:
        """Quantise an activation of any shape.

        The gradient passes where x is not above the largest level, and is 0 elsewhere.
        """
        top = self.level_values()[0, -1].to(x.dtype)
        dense = x.contiguous(memory_format=_layout(x))
        values = self.quantized(_in_memory_order(dense)[None])[0]
        values = torch.as_strided(values, dense.shape, dense.stride())
        output: Tensor = _Clipped.apply(dense, values, top)
        return output


def _layout(x: Tensor) -> torch.memory_format:
    last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def _in_memory_order(dense: Tensor) -> Tensor:
    return torch.as_strided(dense, (dense.numel(),), (1,))
