r"""The ONNX model whose BatchNorm sets are chosen in the graph, from the size of the images.

A BatchNorm becomes x * scale + shift, with scale and shift computed from a table of all sets. Where
the size asks for a trained set, a branch (`If`) takes that row of the table: a constant, so that a
runtime folds it into the convolutions when it loads the file, and every trained resolution runs as
fast as from a file of its own. One more branch mixes rows for the sizes in between. The file holds
each convolution and each set once; what a runtime makes of it in memory is one copy of the
convolutions for each branch. The compact form has no branches and always mixes: it needs the
memory of one network, and the time that its products and sums take.

Only what lies between the first private BatchNorm and the last is in the branches: what follows (a
classifier, a decoder without BatchNorm) is in memory once.

Source: https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rsseg.runtime.onnx.branches import Body, branched, inline
from rsseg.runtime.onnx.mixing import Mixing, Stacks
from rsseg.runtime.onnx.nodes import elements, initializer, names_read, optimised, types_of
from rsseg.runtime.onnx.tables import Floats, PrivateBatchNorm, Table, batchnorm_table, tensor_table

INPUT: Final = "images"
# What may follow the last BatchNorm in the branches: it can become part of a convolution.
_TAIL: Final = frozenset(
    ("Add", "Clip", "HardSigmoid", "HardSwish", "LeakyRelu", "Mul", "Relu", "Sigmoid", "Swish")
)
_EPS: Final = 1e-5  # of an ONNX BatchNormalization that names none


def select_sets(model: Any, private: Stacks, rule: Mixing, *, compact: bool = False) -> Any:
    """Give a model of one resolution the sets of all.

    Args:
        model: An `onnx.ModelProto` as the exporter gives it: images of any size, BatchNorms not
            folded, tensors under their names in the network. It is changed.
        private: The tensors that differ between the S resolutions, by name, shape (S, ...).
        rule: Which sets serve which side.
        compact: Mix the sets of every image, in place of a branch for each set.

    Returns:
        The model of all resolutions.
    """
    tables = _separate(model, private)
    model = optimised(model)
    graph = model.graph
    nodes = list(graph.node)
    first, last = _reach(nodes, {name for table in tables for name in table.made})
    after = {name for each in nodes[last:] for name in each.input}
    body = Body(
        nodes=nodes[first:last],
        tables=tables,
        read={*after, *(value.name for value in graph.output)},
        types=types_of(model),
    )
    chosen, constants = (inline if compact else branched)(body, rule, elements(graph))
    for table in tables:
        constants |= {table.name: table.values, **table.constants}
    _replace(graph.node, [*nodes[:first], *chosen, *nodes[last:]])
    _replace(graph.input, [value for value in graph.input if value.name == INPUT])
    graph.initializer.extend(initializer(name, values) for name, values in constants.items())
    read = names_read(graph)  # Sets of private BatchNorms lie in the tables now, for one thing.
    _replace(graph.initializer, [held for held in graph.initializer if held.name in read])
    return model


def _separate(model: Any, private: Stacks) -> list[Table]:
    """Make private tensors inputs of the graph, and private BatchNorms products and sums.

    As inputs they are out of reach for whatever folds constants.
    """
    from onnx import TensorProto, helper  # noqa: PLC0415 An extra.

    graph = model.graph
    layers, nodes = _without_batchnorms(model, private)
    _replace(graph.node, nodes)
    read = {name for each in nodes for name in each.input}
    tables = [batchnorm_table(layers)] if layers else []
    tables += [tensor_table(name, values) for name, values in private.items() if name in read]
    _replace(graph.initializer, [held for held in graph.initializer if held.name not in private])
    graph.input.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for table in tables
        for name, shape in table.made.items()
    )
    return tables


def _without_batchnorms(model: Any, private: Stacks) -> tuple[list[PrivateBatchNorm], list[Any]]:
    """Find the private BatchNorms, and the nodes of the model with others in their place."""
    held, types = elements(model.graph), types_of(model)
    layers: list[PrivateBatchNorm] = []
    nodes: list[Any] = []
    for each in model.graph.node:
        if each.op_type != "BatchNormalization" or private.keys().isdisjoint(each.input[1:5]):
            nodes.append(each)
            continue
        axes = types[each.input[0]][1] if each.input[0] in types else None
        layers.append(PrivateBatchNorm(_sets(each, private, held), axes or 4, len(layers)))
        nodes += layers[-1].nodes(each.input[0], each.output[0])
    return layers, nodes


def _sets(
    batchnorm: Any, private: Stacks, held: dict[str, NDArray[Any]]
) -> tuple[Floats, Floats, Floats, Floats]:
    """Read the sets of a node: gamma, beta, mean, variance + eps; what is shared is repeated."""
    count = len(next(iter(private.values())))
    gamma, beta, mean, variance = (
        private[name] if name in private else np.stack([held[name]] * count)
        for name in batchnorm.input[1:5]
    )
    eps = next((a.f for a in batchnorm.attribute if a.name == "epsilon"), _EPS)
    return gamma, beta, mean, (variance.astype(np.float64) + eps).astype(np.float32)


def _reach(nodes: list[Any], made: set[str]) -> tuple[int, int]:
    """Find where the private part begins and ends: with the convolution before the first reader."""
    readers = [i for i, each in enumerate(nodes) if not made.isdisjoint(each.input)]
    producers = {name: i for i, each in enumerate(nodes) for name in each.output}
    first = min(producers.get(nodes[i].input[0], i) for i in readers)
    end = readers[-1] + 1
    while end < len(nodes) and nodes[end].op_type in _TAIL:
        end += 1
    return first, end


def _replace(field: Any, values: list[Any]) -> None:
    del field[:]
    field.extend(values)
