"""Quantised convolutions, and a network with ordinary layers in their place.

Source: Zhang, Yang, Ye, Hua, "LQ-Nets", ECCV 2018, https://arxiv.org/abs/1807.10029.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from rsseg.quantization.quantizer import Quantizer
from rsseg.switchable.convert import replace_layers, sharing_copy
from rsseg.switchable.layers import Switchable
from rsseg.switchable.step_scopes import paused


class QuantizationPoint(nn.Identity):
    """A place in a network where `quantize` quantises an activation.

    A network that holds such places has its activations quantised there alone; any other one
    in front of each quantised convolution.
    """


class QuantizedConv2d(nn.Conv2d):
    """A convolution with quantised weights (C_out, C_in / groups, k_h, k_w), perhaps of its input.

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
        parameters = {"weight": weight} | ({} if self.bias is None else {"bias": self.bias})
        output: Tensor = functional_call(form, parameters, (x,))
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
        assert isinstance(self.input_quantizer, Quantizer)
        return nn.Sequential(self.input_quantizer.plain(), layer)


def _without_parameters(layer: nn.Conv2d) -> nn.Conv2d:
    """Copy a layer with all its attributes, but parameters without memory."""
    memo: dict[int, Any] = {
        id(parameter): nn.Parameter(torch.empty_like(parameter, device="meta"))
        for parameter in layer.parameters()
    }
    return copy.deepcopy(layer, memo)


def plain_network(network: nn.Module) -> nn.Module:
    """Return a copy of a network with ordinary layers in place of what quantises, to be used.

    Parameters that are not quantised are shared with the network; one without quantisers is
    returned itself. A network that can still be switched stays so.

    Raises:
        ValueError: If quantisers are private to the resolutions of a network that can be switched.
    """
    if not any(isinstance(layer, Quantizer | QuantizedConv2d) for layer in network.modules()):
        return network
    if has_private_quantizers(network):
        raise ValueError(
            f"{type(network).__name__} has other levels at each resolution; choose one with "
            "specialize(network, resolution) first"
        )
    copied = sharing_copy(network)
    with torch.no_grad(), paused(copied):
        for kind in (QuantizedConv2d, Quantizer):
            plain: dict[nn.Module, nn.Module] = {}
            for layer in copied.modules():
                if isinstance(layer, kind):
                    plain[layer] = layer.plain()
            if copied in plain:
                return plain[copied]
            replace_layers(copied, plain)
    return copied


def has_private_quantizers(network: nn.Module) -> bool:
    """Return whether a network holds levels for each of several resolutions."""
    layers = (layer for layer in network.modules() if isinstance(layer, Switchable))
    return any(isinstance(one, Quantizer) for layer in layers for one in layer.sets.values())


def quantized_convolutions(network: nn.Module) -> Iterator[tuple[str, QuantizedConv2d]]:
    """Yield name and layer of every convolution with quantised weights, each once."""
    return (
        (name, layer)
        for name, layer in network.named_modules()
        if isinstance(layer, QuantizedConv2d) and layer.weight_quantizer is not None
    )
