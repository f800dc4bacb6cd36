"""The kinds of quantisers by name, and the settings that those of a network have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from rsseg.learned_step import LearnedStepQuantizer
from rsseg.lq_quantizers import ActivationQuantizer, WeightQuantizer
from rsseg.quantizers import Basis, Quantizer


@dataclass(frozen=True, kw_only=True)
class QuantizerSettings:
    """What all quantisers of a network have in common; not every kind uses everything.

    Args:
        basis: Whether the levels of activations are "shared" by all resolutions, learnt by the
            "largest_only" or "private" to each. Those of weights are shared: the weights are.
        momentum: Share of the old levels in their moving average, 0..1.
        debias: Let the moving average begin with the first fit.
    """

    basis: Basis = "shared"
    momentum: float = 0.9
    debias: bool = True


def _lq_weights(weight: Tensor, bits: int, settings: QuantizerSettings) -> Quantizer:
    return WeightQuantizer(
        weight.shape,
        bits,
        momentum=settings.momentum,
        debias=settings.debias,
    )


def _lq_activations(bits: int, settings: QuantizerSettings) -> Quantizer:
    return ActivationQuantizer(
        bits, basis=settings.basis, momentum=settings.momentum, debias=settings.debias
    )


@dataclass(frozen=True)
class Kind:
    """How a kind of quantiser is made.

    Args:
        weights: For a weight tensor, from the tensor, the number of bits and the settings.
        activations: For an activation, from the number of bits and the settings.
    """

    weights: Callable[[Tensor, int, QuantizerSettings], Quantizer]
    activations: Callable[[int, QuantizerSettings], Quantizer]


QUANTIZERS: dict[str, Kind] = {
    "lq": Kind(_lq_weights, _lq_activations),
    "lsq": Kind(
        lambda weight, bits, _: LearnedStepQuantizer(bits, signed=True, first=weight),
        lambda bits, settings: LearnedStepQuantizer(bits, signed=False, basis=settings.basis),
    ),
}
