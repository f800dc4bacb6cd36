"""Pieces of ONNX models: nodes, constants, graphs inside a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Types = Mapping[str, tuple[int, int | None]]  # element type and rank of a value, by its name


def node(kind: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> Any:
    """Return a node."""
    from onnx import helper  # noqa: PLC0415 An extra.

    return helper.make_node(kind, list(inputs), list(outputs), **attributes)


def renamed(original: Any, names: Mapping[str, str]) -> Any:
    """Return a copy of a node, with other names of some values."""
    copied = type(original)()
    copied.CopyFrom(original)
    for field in (copied.input, copied.output):
        for i, name in enumerate(field):
            field[i] = names.get(name, name)
    return copied


def initializer(name: str, values: NDArray[Any]) -> Any:
    """Return a constant of a graph."""
    from onnx import numpy_helper  # noqa: PLC0415 An extra.

    return numpy_helper.from_array(np.asarray(values), name)


def elements(graph: Any) -> dict[str, NDArray[Any]]:
    """Return the constants of a graph, by name."""
    from onnx import numpy_helper  # noqa: PLC0415 An extra.

    tensors = {value.name: value for value in graph.initializer}
    for each in graph.node:
        if each.op_type == "Constant" and each.attribute[0].name == "value":
            tensors[each.output[0]] = each.attribute[0].t
    return {name: numpy_helper.to_array(value) for name, value in tensors.items()}


def optimised(model: Any) -> Any:
    """Return a model with constants folded, BatchNorms of constants too, and nothing unread."""
    from onnxscript import optimizer  # noqa: PLC0415 An extra.

    return optimizer.optimize(model)


def types_of(model: Any) -> Types:
    """Return element type and rank of the values of a model, as far as they are known."""
    from onnx import shape_inference  # noqa: PLC0415 An extra.

    graph = shape_inference.infer_shapes(model).graph
    types = {}
    for value in (*graph.value_info, *graph.input, *graph.output):
        tensor = value.type.tensor_type
        rank = len(tensor.shape.dim) if tensor.HasField("shape") else None
        types[value.name] = (tensor.elem_type, rank)
    return types


def names_read(graph: Any) -> set[str]:
    """Return the names of all values that are read in a graph and in those inside it."""
    names = {value.name for value in graph.output}
    for each in graph.node:
        names |= set(each.input)
        for attribute in each.attribute:
            if attribute.HasField("g"):
                names |= names_read(attribute.g)
    return names


def drop_unread(graph: Any) -> None:
    """Remove the constants of a graph that nothing reads, in it or in the graphs inside it."""
    read = names_read(graph)
    kept = [value for value in graph.initializer if value.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def subgraph(
    name: str,
    nodes: Sequence[Any],
    outputs: Mapping[str, tuple[int, int | None]],
    constants: Mapping[str, NDArray[Any]] | None = None,
) -> Any:
    """Return the graph of a branch.

    Args:
        name: Name of the graph.
        nodes: They may read any value of the graph around.
        outputs: Names of its outputs, in order, with element type and rank.
        constants: Of this graph alone, by name.
    """
    from onnx import helper  # noqa: PLC0415 An extra.

    infos = [
        helper.make_tensor_value_info(value, kind, None if rank is None else [None] * rank)
        for value, (kind, rank) in outputs.items()
    ]
    own = [initializer(key, values) for key, values in (constants or {}).items()]
    return helper.make_graph(list(nodes), name, [], infos, own)
