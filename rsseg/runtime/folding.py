r"""Folding: a BatchNorm in evaluation mode becomes part of the convolution before it.

With s = gamma / sqrt(variance + eps), a convolution with weight W and bias b before a BatchNorm is

.. math:: s (W * x + b - mean) + beta = (s W) * x + s (b - mean) + beta

The pairs are found in the graph that torch.export takes, so it does not matter how a network is
written. A BatchNorm behind anything else stays, and so does one whose convolution is read by
others as well.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, fx, nn

from rsseg.runtime.onnx.program import Sides, exported

_ATEN: Final = torch.ops.aten
_BATCHNORM: Final = _ATEN.batch_norm.default


def _rows(weight: Tensor, scale: Tensor, groups: int) -> Tensor:
    """Scale the outputs of a convolution or a linear layer, which are the rows of its weight."""
    return weight * scale.reshape(-1, *[1] * (weight.ndim - 1))


def _columns(weight: Tensor, scale: Tensor, groups: int) -> Tensor:
    """Scale the outputs of a transposed convolution: columns, in each of the groups."""
    inputs, outputs, *kernel = weight.shape
    grouped = weight.reshape(groups, inputs // groups, outputs, *kernel)
    scaled = grouped * scale.reshape(groups, 1, outputs, *[1] * len(kernel))
    return scaled.reshape(weight.shape)


class _Kind(NamedTuple):
    """A layer that a BatchNorm can be folded into: how, and which argument tells its groups."""

    scaled: Callable[[Tensor, Tensor, int], Tensor]
    groups: int | None


_KINDS: Final[dict[Any, _Kind]] = {
    _ATEN.linear.default: _Kind(_rows, None),
    **{
        getattr(getattr(_ATEN, f"conv{n}d"), overload): _Kind(_rows, 6)
        for n in (1, 2, 3)
        for overload in ("default", "padding")
    },
    _ATEN.conv_transpose1d.default: _Kind(_columns, 6),
    _ATEN.conv_transpose2d.input: _Kind(_columns, 6),
    _ATEN.conv_transpose3d.input: _Kind(_columns, 6),
}


def fold_batchnorms(
    network: nn.Module, example: Tensor, *, sides: Sides = "fixed"
) -> fx.GraphModule:
    """Fold the BatchNorms of a network into its convolutions.

    The network and its parameters stay as they are; the new one shares those that nothing was
    folded into. It computes the same logits but for rounding, and cannot be trained.

    Args:
        network: An ordinary network in evaluation mode, see `specialize`.
        example: Images to trace it with, shape (B, C, H, W), B at least 2.
        sides: Whether the new network takes images of any height and width ("any"), or only of
            the example's ("fixed"); any number of images is taken.

    Returns:
        The network as a graph.

    Raises:
        ValueError: If the network is in training mode, or torch.export cannot take it.

    Example:
        >>> pair = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
        >>> folded = fold_batchnorms(pair, torch.zeros(2, 3, 8, 8))
        >>> [node.target for node in folded.graph.nodes if node.op == "call_function"]
        [<OpOverload(op='aten.conv2d', overload='default')>]
    """
    if network.training:
        raise ValueError("the network is in training mode; BatchNorm folds after network.eval()")
    # Without its guards: they check sizes, which the layers do as well.
    taken = exported(network, example, sides=sides).module(check_guards=False)
    # Made anew, because what torch.export returns refuses eval().
    graph_module = fx.GraphModule(taken, taken.graph)
    for index, node in enumerate(list(graph_module.graph.nodes)):
        # Asked of one after the other: what one is folded into, the next may be as well.
        if _is_foldable(node):
            _fold(graph_module, node, index)
    _drop_unread(graph_module)
    graph_module.recompile()
    return graph_module.eval()


def _is_foldable(node: fx.Node) -> bool:
    """Tell whether a node is a BatchNorm that alone reads a layer with constant weights."""
    if node.target is not _BATCHNORM or node.args[5]:  # The latter: statistics of the batch.
        return False
    layer: Any
    layer, *statistics = node.args[:5]
    if layer.target not in _KINDS or len(layer.users) > 1:
        return False
    # A linear layer's outputs are its last axis, BatchNorm's channels always the second.
    if layer.target is _ATEN.linear.default and layer.meta["val"].ndim != 2:
        return False
    read: list[Any] = [*layer.args[1:3], *statistics]
    return all(value is None or value.op == "get_attr" for value in read)


@torch.no_grad()
def _fold(module: fx.GraphModule, batchnorm: fx.Node, index: int) -> None:
    layer: Any
    layer, *statistics = batchnorm.args[:5]
    eps: Any = batchnorm.args[7]
    kind = _KINDS[layer.target]
    weight, bias = (_tensor(module, node) for node in (*layer.args[1:3], None)[:2])
    gamma, beta, mean, variance = (_tensor(module, node) for node in statistics)
    assert weight is not None
    assert mean is not None
    assert variance is not None
    # In double precision: rounded once, not at each step.
    scale = (variance.double() + eps).rsqrt()
    scale = scale if gamma is None else scale * gamma.double()
    shift = -mean.double() if bias is None else bias.double() - mean.double()
    shift = scale * shift if beta is None else scale * shift + beta.double()
    groups = 1
    if kind.groups is not None and len(layer.args) > kind.groups:
        groups = layer.args[kind.groups]
    scaled = kind.scaled(weight.double(), scale, groups).to(weight.dtype)
    _give(module, layer, f"folded_{index}", (scaled, shift.to(weight.dtype)))
    batchnorm.replace_all_uses_with(layer)
    module.graph.erase_node(batchnorm)


def _tensor(module: fx.GraphModule, node: Any) -> Tensor | None:
    if node is None:
        return None
    found: Tensor = operator.attrgetter(node.target)(module)
    return found


def _give(
    module: fx.GraphModule, layer: fx.Node, name: str, tensors: tuple[Tensor, Tensor]
) -> None:
    """Let a layer read another weight and bias, kept under the given name."""
    holder = nn.Module()
    module.add_module(name, holder)
    read = []
    for part, tensor in zip(("weight", "bias"), tensors, strict=True):
        holder.register_buffer(part, tensor)
        with module.graph.inserting_before(layer):
            read.append(module.graph.get_attr(f"{name}.{part}"))
    layer.args = (layer.args[0], *read, *layer.args[3:])


def _drop_unread(module: fx.GraphModule) -> None:
    """Forget parameters and buffers that the graph no longer reads."""
    for node in list(module.graph.nodes):
        if node.op == "get_attr" and not node.users:
            module.graph.erase_node(node)
    read = {node.target for node in module.graph.nodes if node.op == "get_attr"}
    module.delete_all_unused_submodules()
    for path, owner in list(module.named_modules()):
        for name in [*owner._parameters, *owner._buffers]:
            if f"{path}.{name}".lstrip(".") not in read:
                delattr(owner, name)
