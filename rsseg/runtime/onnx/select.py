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

from collections.abc import Mapping, Sequence, Set
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsseg.runtime.onnx.branches import ROW, Branch, Built, Outputs, chosen, number, row_nodes
from rsseg.runtime.onnx.executor import INPUT
from rsseg.runtime.onnx.mixing import Mixing, Stacks
from rsseg.runtime.onnx.nodes import (
    Types,
    drop_unread,
    elements,
    initializer,
    node,
    optimised,
    renamed,
    types_of,
)
from rsseg.runtime.onnx.tables import (
    Constants,
    Floats,
    PrivateBatchNorm,
    Table,
    affine_table,
    batchnorm_table,
    row_of,
    tensor_table,
)

# What may follow the last BatchNorm in the branches: it can become part of a convolution.
_TAIL: Final = frozenset(
    ("Add", "Clip", "HardSigmoid", "HardSwish", "LeakyRelu", "Mul", "Relu", "Sigmoid", "Swish")
)
_EPS: Final = 1e-5  # of an ONNX BatchNormalization that names none
_FLOAT: Final = 1  # onnx.TensorProto.FLOAT
_WEIGHTED: Final = ("Conv", "ConvTranspose")
_SHARES: Final = "choice/shares"
_FIRST_AXIS, _LAST_AXIS = "choice/first axis", "choice/last axis"
Tensors = Mapping[str, NDArray[Any]]


def select_sets(
    model: Any,
    private: Stacks,
    rule: Mixing,
    *,
    mixed: Set[str] = frozenset(),
    compact: bool = False,
) -> Any:
    """Compute the model of all resolutions from that of one.

    Args:
        model: An `onnx.ModelProto` as the exporter gives it: images of any size, BatchNorms not
            folded, tensors under their names in the network. It is changed.
        private: The tensors that differ between the S resolutions, by name, shape (S, ...).
        rule: Which sets serve which side.
        mixed: Names of tensors whose sets are mixed for a side between two resolutions, besides
            those of BatchNorms; of all others the nearer set is taken.
        compact: Mix the sets of every image, in place of a branch for each set.

    Returns:
        The model of all resolutions.
    """
    tables = _separate(model, private, mixed)
    model = optimised(model)
    graph = model.graph
    nodes = list(graph.node)
    first, last = _private_span(nodes, {name for table in tables for name in table.shapes})
    after = {name for each in nodes[last:] for name in each.input}
    body = Body(
        nodes=nodes[first:last],
        tables=tables,
        read={*after, *(value.name for value in graph.output)},
        types=types_of(model),
    )
    selection, constants = (inline if compact else branched)(body, rule, elements(graph))
    for table in tables:
        constants |= {table.name: table.values, **table.constants}
    _replace(graph.node, [*nodes[:first], *selection, *nodes[last:]])
    _replace(graph.input, [value for value in graph.input if value.name == INPUT])
    graph.initializer.extend(initializer(name, values) for name, values in constants.items())
    drop_unread(graph)  # Sets of private BatchNorms lie in the tables now, for one thing.
    return model


def _separate(model: Any, private: Stacks, mixed: Set[str]) -> list[Table]:
    """Turn private tensors into inputs of the graph, and private BatchNorms into Mul and Add.

    The optimiser folds constants, and must not fold these: an input it leaves as it is.
    """
    from onnx import TensorProto, helper  # noqa: PLC0415 An extra.

    graph = model.graph
    layers, nodes = _without_batchnorms(model, private)
    _replace(graph.node, nodes)
    read = {name for each in nodes for name in each.input}
    tables = [batchnorm_table(layers)] if layers else []
    others = {name: values for name, values in private.items() if name in read}
    affine = {name: values for name, values in others.items() if name in mixed}
    tables += [affine_table(affine)] if affine else []
    tables += [tensor_table(name, others[name]) for name in others if name not in affine]
    _replace(graph.initializer, [v for v in graph.initializer if v.name not in private])
    graph.input.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for table in tables
        for name, shape in table.shapes.items()
    )
    return tables


def _without_batchnorms(model: Any, private: Stacks) -> tuple[list[PrivateBatchNorm], list[Any]]:
    """Return the private BatchNorms, and the nodes of the model with a Mul and an Add for each."""
    tensors, types = elements(model.graph), types_of(model)
    layers: list[PrivateBatchNorm] = []
    nodes: list[Any] = []
    for each in model.graph.node:
        if each.op_type != "BatchNormalization" or private.keys().isdisjoint(each.input[1:5]):
            nodes.append(each)
            continue
        # Where shape inference does not know the axes, it is a map: most BatchNorms read one.
        axes = types[each.input[0]][1] if each.input[0] in types else None
        layers.append(PrivateBatchNorm(_sets(each, private, tensors), axes or 4, len(layers)))
        nodes += layers[-1].nodes(each.input[0], each.output[0])
    return layers, nodes


def _sets(
    batchnorm: Any, private: Stacks, tensors: dict[str, NDArray[Any]]
) -> tuple[Floats, Floats, Floats, Floats]:
    """Return the sets of a node: gamma, beta, mean, variance + eps; shared ones repeated."""
    count = len(next(iter(private.values())))
    gamma, beta, mean, variance = (
        private[name] if name in private else np.stack([tensors[name]] * count)
        for name in batchnorm.input[1:5]
    )
    # Added in double precision: rounded once.
    eps = next((a.f for a in batchnorm.attribute if a.name == "epsilon"), _EPS)
    return gamma, beta, mean, (variance.astype(np.float64) + eps).astype(np.float32)


def _private_span(nodes: list[Any], made: set[str]) -> tuple[int, int]:
    """Return begin and end of the private part: from the layer before the first reader."""
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


class Body(NamedTuple):
    """The nodes of each branch.

    Attributes:
        nodes: Of the network; some read private tensors.
        tables: Of these tensors.
        read: Names that the nodes behind the body read.
        types: Element type and number of axes of the values, where known.
    """

    nodes: Sequence[Any]
    tables: Sequence[Table]
    read: set[str]
    types: Types

    @property
    def tensor_nodes(self) -> list[Any]:
        """Nodes that compute the private tensors from rows of the tables."""
        return [each for table in self.tables for each in table.nodes]

    @property
    def outputs(self) -> Outputs:
        """Values that the nodes behind the body read, with their types."""
        names = [name for each in self.nodes for name in each.output if name in self.read]
        return {name: self.types.get(name, (_FLOAT, None)) for name in names}


def inline(body: Body, rule: Mixing, tensors: Tensors) -> Built:
    """Return nodes that mix the sets for every image, without branches; see `branched`."""
    nodes, constants = row_nodes(rule)
    nodes += _mixed_rows(body.tables)
    return [*nodes, *body.tensor_nodes, *body.nodes], constants | _mixed_constants(rule)


def branched(body: Body, rule: Mixing, tensors: Tensors) -> Built:
    """Return the body in a branch for each set, and in one for mixtures.

    Args:
        body: The nodes of each branch.
        rule: Which of them serves which side.
        tensors: Constants of the graph around.

    Returns:
        The nodes that take the place of the body, and the constants that they need.
    """
    inner, constants = _own_weights(body.nodes, tensors)
    mixed = rule.shares.shape[1]
    branches = []
    # From the smallest resolution on, whose images have the least time for tests; mixtures last.
    for kind in sorted(set(rule.kinds.tolist()), key=lambda kind: (kind == mixed, -kind)):
        if kind == mixed:
            constants |= _mixed_constants(rule)
        rows = _mixed_rows(body.tables) if kind == mixed else _rows(body.tables, kind)
        branches.append(Branch(kind, [*rows, *body.tensor_nodes, *inner], {}))
    nodes, own = chosen(branches, body.outputs, rule)
    return nodes, constants | own


def _mixed_constants(rule: Mixing) -> Constants:
    """Return the constants that `_mixed_rows` reads."""
    return {
        _SHARES: rule.shares,
        _FIRST_AXIS: np.array([0], np.int64),
        _LAST_AXIS: np.array([1], np.int64),
    }


def _rows(tables: Sequence[Table], kind: int) -> list[Any]:
    return [node("Gather", [t.name, number(kind)], [row_of(t.name)]) for t in tables]


def _mixed_rows(tables: Sequence[Table]) -> list[Any]:
    """Return nodes for a side between two sets: rows mixed by their shares, or the nearer set's."""
    nodes = [node("Gather", [_SHARES, ROW], ["shares"])]
    if not all(table.mixed for table in tables):
        # The first of two equal ones, which is that of the larger resolution.
        nodes.append(node("ArgMax", ["shares"], ["nearer"], axis=0, keepdims=0))
    if any(table.mixed for table in tables):
        nodes.append(node("Unsqueeze", ["shares", _LAST_AXIS], ["column"]))
    for table in tables:
        if table.mixed:
            # Not MatMul: quantisers round the sets to 8 bits there, and OpenCV wants two matrices.
            parts = f"parts of {table.name}"
            nodes.append(node("Mul", ["column", table.name], [parts]))
            row = row_of(table.name)
            nodes.append(node("ReduceSum", [parts, _FIRST_AXIS], [row], keepdims=0))
        else:
            nodes.append(node("Gather", [table.name, "nearer"], [row_of(table.name)]))
    return nodes


def _own_weights(nodes: Sequence[Any], tensors: Tensors) -> Built:
    """Insert a node that changes nothing between each convolution and its weights.

    ONNX Runtime arranges weights for its fastest kernels only where they lie in the graph of the
    convolution, not around it; this node it evaluates beforehand, and there they lie.
    """
    copies: dict[str, Any] = {}
    shapes: Constants = {}
    changed = []
    for each in nodes:
        weight = each.input[1] if each.op_type in _WEIGHTED else ""
        if weight not in tensors:
            changed.append(each)
            continue
        shape = "shape/" + "x".join(map(str, tensors[weight].shape))
        shapes[shape] = np.array(tensors[weight].shape, np.int64)
        copies[weight] = node("Reshape", [weight, shape], [f"{weight}/own"])
        changed.append(renamed(each, {weight: f"{weight}/own"}))
    return [*copies.values(), *changed], shapes
