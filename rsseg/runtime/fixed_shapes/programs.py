"""From a network to one graph of torch.export for each resolution, with the weights shared.

Phones and accelerators want shapes that never change. A file then holds a graph for each
resolution, and the weights once, as long as these are equal: a BatchNorm that a tool folds into
the convolution before it makes its weights another tensor at each resolution. So private
BatchNorms become a product and a sum here, which no tool folds before the file is written. A table
of positions that a network resizes to the image is stored as resized, for each resolution.
"""

from __future__ import annotations

import textwrap
from collections.abc import Collection
from operator import attrgetter
from typing import Final

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import GraphModule, Interpreter, Node

from rsseg.common.messages import first_line
from rsseg.runtime.onnx.mixing import ordinary, private_tensors
from rsseg.switchable.net import SwitchableNet

_LONGEST_REASON: Final = 300  # letters: some reasons name every tensor of a network
_TENSORS: Final = slice(1, 5)  # gamma, beta, mean and variance among the inputs of a BatchNorm
_EPS: Final = 7  # the place of epsilon among them


def programs_of(net: SwitchableNet, resolutions: Collection[int]) -> dict[int, ExportedProgram]:
    """Compute the graph of each resolution for one image of that side, (1, 3, R, R) to logits.

    Tensors that are the same at all resolutions are equal to the bit in all graphs. The graph of a
    single resolution keeps its BatchNorms, which tools fold into its convolutions.

    Args:
        net: Network in evaluation mode on the CPU.
        resolutions: Trained ones, each once.

    Raises:
        ValueError: If torch.export cannot take the network.
    """
    networks = {side: ordinary(net, side) for side in resolutions}
    private = private_tensors(list(networks.values())).keys()
    return {side: _program(network, side, private) for side, network in networks.items()}


def _program(network: nn.Module, resolution: int, private: Collection[str]) -> ExportedProgram:
    image = torch.randn(1, 3, resolution, resolution, generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad():
            program = torch.export.export(network, (image,), strict=False)
            graph = program.module()
            assert isinstance(graph, GraphModule)
            # Not `or`: both change the graph.
            if not replace_batchnorms(graph, private) + fold_resized(graph):
                return program
            return torch.export.export(graph, (image,), strict=False)
    except Exception as error:  # Each part of torch.export has errors of its own.
        reason = textwrap.shorten(first_line(error), _LONGEST_REASON)
        raise ValueError(
            f"torch.export cannot take {type(network).__name__} for an image of {resolution} "
            f"pixels: {reason}"
        ) from error


def replace_batchnorms(graph: GraphModule, private: Collection[str]) -> int:
    """Replace BatchNorms by a product and a sum, where one of their tensors is private.

    Args:
        graph: Of a network in evaluation mode; changed in place. Working on the graph, not on the
            layers, takes BatchNorms of all kinds, those with a fused activation included.
        private: Names of the tensors that are not the same at all resolutions.

    Returns:
        How many were replaced.
    """
    nodes = [
        node
        for node in graph.graph.nodes
        if node.target is torch.ops.aten.batch_norm.default
        and any(isinstance(one, Node) and one.target in private for one in node.args[_TENSORS])
    ]
    for number, node in enumerate(nodes):
        _replace(graph, node, number)
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()  # those of the BatchNorms
    graph.recompile()
    return len(nodes)


def fold_resized(graph: GraphModule) -> int:
    """Replace what is resized of the network's own tensors by its values, which never change here.

    A table of positions that is resized to the image is such; ExecuTorch has no antialiased filter.

    Args:
        graph: Of a network in evaluation mode; changed in place.

    Returns:
        How many values were replaced.
    """
    constant, resized = set[Node](), set[Node]()
    for node in graph.graph.nodes:
        inputs = node.all_input_nodes
        called = node.op == "call_function" and inputs and constant.issuperset(inputs)
        if node.op == "get_attr" or called:
            constant.add(node)
        if called and ("upsample" in str(node.target) or not resized.isdisjoint(inputs)):
            resized.add(node)
    ends = [node for node in graph.graph.nodes if node in resized and not constant >= {*node.users}]
    if ends:
        _fold(graph, constant, ends)
    return len(ends)


def _fold(graph: GraphModule, constant: Collection[Node], ends: Collection[Node]) -> None:
    interpreter = Interpreter(graph)
    for node in [node for node in graph.graph.nodes if node in constant]:
        interpreter.env[node] = interpreter.run_node(node)
    for number, node in enumerate(ends):
        graph.register_buffer(f"resized_{number}", interpreter.env[node].detach().contiguous())
        with graph.graph.inserting_before(node):
            node.replace_all_uses_with(graph.graph.get_attr(f"resized_{number}"))
    graph.graph.eliminate_dead_code()
    graph.recompile()


def _replace(graph: GraphModule, node: Node, number: int) -> None:
    gamma, beta, mean, variance = (_tensor(graph, one) for one in node.args[_TENSORS])
    epsilon = node.args[_EPS]
    assert isinstance(epsilon, float)
    assert mean is not None
    assert variance is not None
    scale, shift = scale_and_shift(gamma, beta, mean, variance, epsilon=epsilon)
    read = node.args[0]
    assert isinstance(read, Node)
    axes = read.meta["val"].ndim - 2
    with graph.graph.inserting_before(node):
        for operator, values in (("mul", scale), ("add", shift)):
            name = f"batchnorm_{number}_{operator}"
            graph.register_buffer(name, values.reshape(1, -1, *[1] * axes))
            constant = graph.graph.get_attr(name)
            overloads = getattr(torch.ops.aten, operator)
            read = graph.graph.call_function(overloads.Tensor, (read, constant))
    node.replace_all_uses_with(read)
    graph.graph.erase_node(node)


def _tensor(graph: GraphModule, input: object) -> Tensor | None:
    if not isinstance(input, Node):
        return None
    tensor = attrgetter(str(input.target))(graph)
    assert isinstance(tensor, Tensor)
    return tensor


def scale_and_shift(
    gamma: Tensor | None, beta: Tensor | None, mean: Tensor, variance: Tensor, *, epsilon: float
) -> tuple[Tensor, Tensor]:
    """Return what a BatchNorm in evaluation multiplies with, and what it adds then, shape (C,).

    Computed in float64: the result is rounded once.

    Args:
        gamma: Its weight, None for ones.
        beta: Its bias, None for zeros.
        mean: Running mean.
        variance: Running variance.
        epsilon: Added to the variance.
    """
    scale = (variance.double() + epsilon).rsqrt()
    if gamma is not None:
        scale = scale * gamma.detach().double()
    shift = -mean.double() * scale
    if beta is not None:
        shift = shift + beta.detach().double()
    return scale.to(mean.dtype), shift.to(mean.dtype)
