"""Quantised networks: convolutions with few levels in their weights, and in what they read.

Convert an ordinary network as one converts its BatchNorms; either conversion may come first.
Parameters keep their names, so weights of the network before load into the network after. The
quantisers themselves are in `quantizers` and `learned_step`; files with K bits for each weight
are in `packing`.

Source: Zhang, Yang, Ye, Hua, "LQ-Nets", ECCV 2018, https://arxiv.org/abs/1807.10029, as used in
Wang et al., ECCV 2020, https://arxiv.org/abs/2007.09558, Table 3.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from rsseg.private_layers import Switchable
from rsseg.quantizer_kinds import QUANTIZERS, QuantizerSettings
from rsseg.quantizers import BITS, ActivationQuantizer, Quantizer
from rsseg.switchable import (
    held_sets,
    replace_layers,
    sharing_copy,
    switchable_layers,
    trained_sets,
)

__all__ = [
    "FLOAT",
    "QUANTIZERS",
    "ActivationQuantizer",
    "QuantizationPoint",
    "QuantizedConv2d",
    "QuantizerSettings",
    "default_convolutions",
    "plain_network",
    "quantize",
    "quantized_convolutions",
]

Network = TypeVar("Network", bound=nn.Module)
_DEFAULTS: Final = QuantizerSettings()
FLOAT: Final = 32  # The number of bits that stands for no quantiser.


class QuantizationPoint(nn.Identity):
    """A place in a network where `quantize` quantises an activation.

    A network that holds such places has its activations quantised there alone; any other one
    in front of each quantised convolution.
    """


class QuantizedConv2d(nn.Conv2d):
    """A convolution with quantised weights, and perhaps a quantised input.

    It keeps the full-precision weights, which the optimiser moves, under their old names.

    Args:
        layer: The convolution to quantise; its parameters are shared, not copied.
        weights: Quantises the weights; None leaves them as they are.
        activations: Quantises the input; None leaves it as it is.
    """

    def __init__(
        self,
        layer: nn.Conv2d,
        weights: nn.Module | None,
        activations: nn.Module | None = None,
    ) -> None:
        with torch.device("meta"):
            super().__init__(
                layer.in_channels,
                layer.out_channels,
                cast(tuple[int, int], layer.kernel_size),
                cast(tuple[int, int], layer.stride),
                cast(tuple[int, int], layer.padding),
                cast(tuple[int, int], layer.dilation),
                layer.groups,
                layer.bias is not None,
                layer.padding_mode,
            )
        self.weight, self.bias = layer.weight, layer.bias
        self.weight_quantizer = weights
        self.input_quantizer = activations
        self.training = layer.training
        # A subclass may convolve in its own way: its form is kept, without its parameters. In a
        # tuple, which PyTorch does not search for layers.
        self._form = (_without_parameters(layer),)

    def forward(self, input: Tensor) -> Tensor:
        """Convolve (B, C_in, h, w) to (B, C_out, h', w')."""
        if self.input_quantizer is not None:
            input = self.input_quantizer(input)
        return self._convolve(input, self.quantized_weight())

    def _convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        (form,) = self._form
        if type(form) is nn.Conv2d:
            return cast(Tensor, self._conv_forward(x, weight, self.bias))
        given = {"weight": weight} | ({} if self.bias is None else {"bias": self.bias})
        output: Tensor = functional_call(form, given, (x,))
        return output

    def quantized_weight(self) -> Tensor:
        """Return the weights that convolve, (C_out, C_in / groups, k_h, k_w)."""
        if self.weight_quantizer is None:
            return self.weight
        weight: Tensor = self.weight_quantizer(self.weight)
        return weight

    def plain(self) -> nn.Module:
        """Return an ordinary convolution with the quantised weights, for use without training."""
        layer = copy.deepcopy(self._form[0])
        quantized = self.quantized_weight().detach().clone()
        layer.weight = nn.Parameter(quantized, requires_grad=False)
        layer.bias = self.bias
        layer.train(self.training)
        if self.input_quantizer is None:
            return layer
        return nn.Sequential(_plain(self.input_quantizer), layer)


def _without_parameters(layer: nn.Conv2d) -> nn.Conv2d:
    """Copy a layer with all its attributes, but parameters without memory."""
    memo: dict[int, Any] = {
        id(parameter): nn.Parameter(torch.empty_like(parameter, device="meta"))
        for parameter in layer.parameters()
    }
    return copy.deepcopy(layer, memo)


def _plain(quantizer: nn.Module) -> nn.Module:
    active = quantizer.sets[quantizer.active] if isinstance(quantizer, Switchable) else quantizer
    assert isinstance(active, Quantizer)
    return active.plain()


def plain_network(network: nn.Module) -> nn.Module:
    """Return a copy of a network with ordinary layers in place of what quantises, to be used.

    Parameters that are not quantised are shared with the network; a network without quantisers
    is returned itself.
    """
    if not any(isinstance(layer, Quantizer) for layer in network.modules()):
        return network
    copied = sharing_copy(network)
    with torch.no_grad():
        found: dict[nn.Module, nn.Module] = {}
        for layer in copied.modules():
            if isinstance(layer, QuantizedConv2d):
                found[layer] = layer.plain()
        replace_layers(copied, found)
        rest: dict[nn.Module, nn.Module] = {}
        for layer in copied.modules():
            if isinstance(layer, Quantizer):
                rest[layer] = _plain(layer)
        replace_layers(copied, rest)
    return copied


def quantized_convolutions(network: nn.Module) -> Iterator[tuple[str, QuantizedConv2d]]:
    """Yield name and layer of every convolution with quantised weights, each once."""
    return (
        (name, layer)
        for name, layer in network.named_modules()
        if isinstance(layer, QuantizedConv2d) and layer.weight_quantizer is not None
    )


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
            quantise, or the network has been quantised before.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 1, 3))
        >>> quantize(network, weights=2)[2].weight_quantizer
        WeightQuantizer(bits=2, basis=shared, rows=1, signed=True)
    """
    _check(network, weights, activations, quantizer)
    kind, names = QUANTIZERS[quantizer], _set_names(network, settings)

    def private(made: Quantizer) -> nn.Module:
        # Where the BatchNorms are not converted yet, converting them does this.
        return Switchable(made, names) if made.per_resolution and names else made

    def of_weight(layer: nn.Conv2d) -> nn.Module | None:
        return None if weights == FLOAT else private(kind.weights(layer.weight, weights, settings))

    def of_activation() -> nn.Module:
        return private(kind.activations(activations, settings)).train(network.training)

    points = [layer for layer in network.modules() if isinstance(layer, QuantizationPoint)]
    chosen = _chosen(network, where)
    found: dict[nn.Module, nn.Module] = {}
    if activations != FLOAT:
        found |= {point: of_activation() for point in points}
    at_input = activations != FLOAT and not points
    if weights != FLOAT or at_input:
        for layer in chosen:
            inputs = of_activation() if at_input else None
            of = of_weight(layer)
            made = QuantizedConv2d(layer, of, inputs)
            found[layer] = made.to(layer.weight.device).train(layer.training)
    replace_layers(network, found)
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


def _set_names(network: nn.Module, settings: QuantizerSettings) -> tuple[str, ...]:
    """Return the names of the sets that private quantisers of a converted network need."""
    if settings.basis != "private" or not any(True for _ in switchable_layers(network)):
        return ()
    if held_sets(network) != trained_sets(network):
        raise ValueError(
            "the network holds added BatchNorm sets "
            f"({', '.join(held_sets(network)[len(trained_sets(network)) :])}); quantise it before "
            "sets are added"
        )
    return trained_sets(network)


def default_convolutions(network: nn.Module) -> list[nn.Conv2d]:
    """Return the convolutions that `quantize` takes by default: all but the first."""
    return [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)][1:]


def _chosen(network: nn.Module, where: Callable[[str, nn.Conv2d], bool] | None) -> list[nn.Conv2d]:
    found = [
        (name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d)
    ]
    if where is None:
        chosen = default_convolutions(network)
    else:
        chosen = [layer for name, layer in found if where(name, layer)]
    if not chosen or network in chosen:
        raise ValueError(
            f"no convolution to quantise in {type(network).__name__}: it has {len(found)}, of "
            "which the first is left as it is unless `where` chooses it (a lone layer is wrapped "
            "with QuantizedConv2d)"
        )
    return chosen
