"""Quantised networks: convolutions with few levels in their weights, and in what they read.

Convert an ordinary network as one converts its BatchNorms; either conversion may come first.
Parameters keep their names, so weights of the network before load into the network after. The
layers are in `layers.py`, the quantisers in `lqnets.py` and `lsq.py`, files with K bits for each
weight in `packing.py`.

Source: Zhang, Yang, Ye, Hua, "LQ-Nets", ECCV 2018, https://arxiv.org/abs/1807.10029, as used in
Wang et al., ECCV 2020, https://arxiv.org/abs/2007.09558, Table 3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar, cast

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from rsseg.quantization.layers import (
    QuantizationPoint,
    QuantizedConv2d,
    has_private_quantizers,
    plain_network,
    quantized_convolutions,
)
from rsseg.quantization.lqnets import ActivationQuantizer, WeightQuantizer
from rsseg.quantization.lsq import LearnedStepQuantizer
from rsseg.quantization.quantizer import BITS, Quantizer
from rsseg.switchable.convert import held_sets, replace_layers, switchable_layers
from rsseg.switchable.layers import Sharing, Switchable


@dataclass(frozen=True, kw_only=True)
class QuantizerSettings:
    """What all quantisers of a network have in common; not every kind uses everything.

    Args:
        basis: Whether the levels of activations are "shared" by all resolutions, learnt by the
            "largest_only" or "private" to each. Those of weights are shared: the weights are.
        momentum: Share of the old levels in their moving average, 0..1.
        debias: Let the moving average begin with the first fit.
    """

    basis: Sharing = "shared"
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


__all__ = [
    "FLOAT",
    "QUANTIZERS",
    "ActivationQuantizer",
    "QuantizationPoint",
    "QuantizedConv2d",
    "QuantizerSettings",
    "default_convolutions",
    "has_private_quantizers",
    "plain_network",
    "quantize",
    "quantized_convolutions",
]

Network = TypeVar("Network", bound=nn.Module)
_DEFAULTS: Final = QuantizerSettings()
FLOAT: Final = 32  # The number of bits that stands for no quantiser.


def quantize(
    network: Network,
    weights: int = 2,
    activations: int = 2,
    *,
    quantizer: str = "lq",
    settings: QuantizerSettings = _DEFAULTS,
    where: Callable[[str, nn.Conv2d], bool] | None = None,
) -> Network:
    """Quantise the convolutions of a network.

    The network is changed in place and returned. Its BatchNorms may have been converted before or
    may be converted later. Activations are quantised at the network's `QuantizationPoint`s, or in
    front of each quantised convolution where it has none; levels begin at 0, so negative values
    become 0 there (those of "lq" for activations are made for what comes out of a ReLU).

    Args:
        network: Any network with convolutions.
        weights: Bits of a weight, 1..4, or 32 for none quantised.
        activations: Bits of an activation, 1..4, or 32.
        quantizer: A key of `QUANTIZERS`: "lq" of LQ-Nets, or "lsq".
        settings: What the quantisers have in common.
        where: Called with the name and the layer of each convolution; false leaves it as it is.
            Default: all but the first, as in the paper.

    Raises:
        ValueError: If bits or quantiser are not known, both are 32, there is no convolution to
            quantise or one with tensors of its own, or the network has been quantised before.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 1, 3))
        >>> quantize(network, weights=2)[2].weight_quantizer
        WeightQuantizer(bits=2, basis=shared, rows=1, signed=True)
    """
    _check(network, weights, activations, quantizer)
    kind, convolutions = QUANTIZERS[quantizer], _selected_convolutions(network, where)
    points = [layer for layer in network.modules() if isinstance(layer, QuantizationPoint)]
    private = _private_to(network, settings)

    def of_activation() -> nn.Module | None:
        if activations == FLOAT:
            return None
        made = private(kind.activations(activations, settings))
        return made.to(convolutions[0].weight.device).train(network.training)

    def of_convolution(layer: nn.Conv2d) -> nn.Module:
        of_weight = None if weights == FLOAT else kind.weights(layer.weight, weights, settings)
        made = QuantizedConv2d(layer, of_weight, None if points else of_activation())
        return made.to(layer.weight.device).train(layer.training)

    replacements: dict[nn.Module, nn.Module] = {}
    if weights != FLOAT or not points:
        replacements |= {layer: of_convolution(layer) for layer in convolutions}
    if activations != FLOAT:
        replacements |= {point: cast(nn.Module, of_activation()) for point in points}
    replace_layers(network, replacements)
    return network


def _check(network: nn.Module, weights: int, activations: int, quantizer: str) -> None:
    for what, bits in (("weights", weights), ("activations", activations)):
        if bits not in (*BITS, FLOAT):
            raise ValueError(f"{what} have 1 to 4 bits, or {FLOAT} for full precision, got {bits}")
    if weights == activations == FLOAT:
        raise ValueError(
            "weights and activations of 32 bits leave nothing to quantise; choose 1 to 4 bits"
        )
    if quantizer not in QUANTIZERS:
        raise ValueError(f"unknown quantiser {quantizer!r}, expected one of {list(QUANTIZERS)}")
    if any(isinstance(layer, Quantizer | QuantizedConv2d) for layer in network.modules()):
        raise ValueError(f"{type(network).__name__} is quantised already; quantise a network once")


def _private_to(
    network: nn.Module, settings: QuantizerSettings
) -> Callable[[Quantizer], nn.Module]:
    """Return what makes quantisers private, if they are to be and the network is converted."""
    layer = next(switchable_layers(network), None)
    # Where the BatchNorms are not converted yet, converting them does this.
    if settings.basis != "private" or layer is None:
        return lambda made: made
    names, added = layer.trained, held_sets(network)[len(layer.trained) :]
    if added:
        raise ValueError(
            f"the network holds added BatchNorm sets ({', '.join(added)}); quantise it before sets "
            "are added"
        )
    active = layer.active

    def private(made: Quantizer) -> nn.Module:
        switchable = Switchable(made, names)
        switchable.active = active
        return switchable

    return private


def default_convolutions(network: nn.Module) -> list[nn.Conv2d]:
    """Return the convolutions that `quantize` takes by default: all but the first."""
    return [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)][1:]


def _selected_convolutions(
    network: nn.Module, where: Callable[[str, nn.Conv2d], bool] | None
) -> list[nn.Conv2d]:
    every = [
        (name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d)
    ]
    if where is None:
        selected = default_convolutions(network)
    else:
        selected = [layer for name, layer in every if where(name, layer)]
    for name, layer in every:
        if layer in selected:
            _refuse_own_tensors(name, layer)
    if not selected or network in selected:
        raise ValueError(
            f"no convolution to quantise in {type(network).__name__}: it has {len(every)}, of "
            "which the first is left as it is unless `where` chooses it (a lone layer is wrapped "
            "with QuantizedConv2d)"
        )
    return selected


def _refuse_own_tensors(name: str, layer: nn.Conv2d) -> None:
    """Raise if a weight is computed from other tensors, or is still lazy."""
    tensors = dict(layer.named_parameters()) | dict(layer.named_buffers())
    own = tensors.keys() - {"weight", "bias"}
    if own or "weight" not in tensors or is_lazy(layer.weight):
        what = f"holds {', '.join(sorted(own))} of its own" if own else "has no weight yet"
        raise ValueError(
            f"'{name}' ({type(layer).__name__}) {what}, which a quantised convolution cannot keep; "
            "leave it out with `where`, or pass one input through a lazy layer first"
        )
