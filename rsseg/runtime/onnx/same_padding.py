"""Convolutions with TensorFlow's "SAME" padding, as one node of the graph.

timm's networks named tf_... pad by amounts that depend on the size of what comes in. Traced for
images of any size, these amounts become expressions that grow with every layer, and torch.export
does not end. ONNX has the padding as an option of its convolution (SAME_UPPER): here it is one
operator for torch.export, and that convolution in the file, or one after a node that pads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from timm.layers.conv2d_same import Conv2dSame, conv2d_same
from torch import Tensor, nn


@torch.library.custom_op("rsseg::same_convolution", mutates_args=())
def same_convolution(  # noqa: PLR0917 An operator has no keywords.
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """Convolve as timm's Conv2dSame does: (B, C, h, w) to (B, K, ceil(h / s), ceil(w / s))."""
    sizes = {"stride": (stride[0], stride[1]), "dilation": (dilation[0], dilation[1])}
    result: Tensor = conv2d_same(x, weight, bias, groups=groups, **sizes)
    return result


@same_convolution.register_fake
def _same_size(
    x: Tensor,
    weight: Tensor,
    _bias: Tensor | None,
    stride: Sequence[int],
    _dilation: Sequence[int],
    _groups: int,
) -> Tensor:
    height, width = ((x.shape[2 + i] + stride[i] - 1) // stride[i] for i in (0, 1))
    return x.new_empty(x.shape[0], weight.shape[0], height, width)


@contextmanager
def as_operators(network: nn.Module) -> Iterator[None]:
    """Let the convolutions with "SAME" padding of a network compute by the operator."""
    layers = [layer for layer in network.modules() if isinstance(layer, Conv2dSame)]
    try:
        for layer in layers:
            layer.forward = _forward_of(layer)
        yield
    finally:
        for layer in layers:
            del layer.forward


def _forward_of(layer: Conv2dSame) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor) -> Tensor:
        options = (list(layer.stride), list(layer.dilation), layer.groups)
        result: Tensor = same_convolution(x, layer.weight, layer.bias, *options)
        return result

    return forward


def translations(*, explicit: bool = False) -> dict[Any, Callable[..., Any]]:
    """Return what the exporter writes for the operator, by operator.

    Args:
        explicit: Write the padding of strided convolutions as nodes that compute it from the size
            of the map. OpenCV 5 pads them wrongly by the option of the convolution where that size
            is free; a runtime copies the map for it.
    """
    from onnxscript import opset18  # noqa: PLC0415 An extra.

    def convolution(  # noqa: PLR0917 As the operator.
        x: Any, weight: Any, bias: Any, stride: Any, dilation: Any, groups: int
    ) -> Any:
        options: dict[str, Any] = {"strides": list(stride), "dilations": list(dilation)}
        if explicit and max(stride) > 1:
            reach = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilation, strict=True)]
            x = opset18.Pad(x, _pads(x, stride, reach))
        else:
            options["auto_pad"] = "SAME_UPPER"
        inputs = (x, weight) if bias is None else (x, weight, bias)
        return opset18.Conv(*inputs, group=groups, **options)

    return {torch.ops.rsseg.same_convolution.default: convolution}


def _pads(x: Any, stride: Sequence[int], reach: Sequence[int]) -> Any:
    """Write nodes that compute the padding of a map: begins of its four axes, then their ends.

    Args:
        x: The map.
        stride: Of the convolution.
        reach: Pixels from the first to the last one that its kernel reads, vertically and
            horizontally.
    """
    from onnxscript import opset18  # noqa: PLC0415 An extra.

    def pair(values: Sequence[int]) -> Any:
        return opset18.Constant(value_ints=list(values))

    # The last window begins at a multiple of the stride, so this much of a step is beyond it.
    rest = opset18.Mod(opset18.Sub(opset18.Shape(x, start=2, end=4), pair([1, 1])), pair(stride))
    total = opset18.Sub(pair([pixels - 1 for pixels in reach]), rest)
    if any(pixels < step for pixels, step in zip(reach, stride, strict=True)):
        total = opset18.Max(total, pair([0, 0]))
    before = opset18.Div(total, pair([2, 2]))
    zeros, after = pair([0, 0]), opset18.Sub(total, before)
    return opset18.Concat(zeros, before, zeros, after, axis=0)
