"""From a network to an ONNX model in memory: of one resolution, or of all.

Files, their metadata and the comparison with PyTorch are in `export`; how the model of all
resolutions chooses is in `onnx_selecting`.

Source: https://docs.pytorch.org/docs/stable/onnx_export.html
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import nn
from torch.export import ExportedProgram

from rsseg.common.messages import first_line
from rsseg.runtime.folding import fold_batchnorms
from rsseg.runtime.onnx.mixing import mixing, ordinary, private_tensors
from rsseg.runtime.onnx.nodes import fold_constants, optimised
from rsseg.runtime.onnx.program import Sides, example_images, exported
from rsseg.runtime.onnx.select import INPUT, select_sets
from rsseg.switchable.net import SwitchableNet

OUTPUT: Final = "logits"
_LOGGERS: Final = ("torch.onnx", "onnxscript", "onnx_ir")


def model_of_one(net: SwitchableNet, resolution: int, *, sides: Sides = "fixed") -> Any:
    """Build the folded model of one resolution.

    Args:
        net: Network in evaluation mode on the CPU.
        resolution: A trained one.
        sides: Whether it takes images of any height and width, or squares of this side only.

    Returns:
        An `onnx.ModelProto`.

    Raises:
        ValueError: If the network cannot be exported.
    """
    return _folded_model(ordinary(net, resolution), resolution, sides)


def model_of_all(net: SwitchableNet, *, compact: bool = False) -> Any:
    """Build one model of all resolutions, which chooses its BatchNorms by the size of its input.

    Args:
        net: Network in evaluation mode on the CPU.
        compact: See `select_sets`.

    Returns:
        An `onnx.ModelProto`.

    Raises:
        ValueError: If the network cannot be exported for images of any size.
    """
    resolutions = tuple(dict.fromkeys(net.resolutions))
    networks = [ordinary(net, resolution) for resolution in resolutions]
    private = private_tensors(networks)
    if not private:
        return _folded_model(networks[0], resolutions[0], "any")
    example = example_images(resolutions[0], "any")
    model = _converted(exported(networks[0], example, sides="any"))
    chosen = select_sets(model, private, mixing(resolutions, net.unseen), compact=compact)
    return _tidied(chosen, "any")


def _folded_model(network: nn.Module, resolution: int, sides: Sides) -> Any:
    example = example_images(resolution, sides)
    folded = fold_batchnorms(network, example, sides=sides)
    model = _converted(exported(folded, example, sides=sides))
    return _tidied(optimised(model), sides)


def _converted(program: ExportedProgram) -> Any:
    """Convert a graph of torch, each BatchNorm for itself."""
    try:
        with _quiet():
            # Optimised later: here that would fold the BatchNorms, private ones as well.
            converted = torch.onnx.export(
                program,
                dynamo=True,
                optimize=False,
                input_names=[INPUT],
                output_names=[OUTPUT],
                verbose=False,
            )
    except Exception as error:  # The exporter's errors have no common class.
        reason = first_line(error)
        raise ValueError(f"the network cannot be converted to ONNX: {reason}") from error
    assert converted is not None
    fold_constants(converted.model)
    return converted.model_proto


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter from telling its progress in the log; errors are raised all the same."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _tidied(model: Any, sides: Sides) -> Any:
    """Name the free axes, and drop what only tells where a node comes from, paths included."""
    graph = model.graph
    if len(graph.input) != 1 or len(graph.output) != 1:
        names = [value.name for value in (*graph.input, *graph.output)]
        raise ValueError(f"expected a network from images to logits, this one has {names}")
    del graph.value_info[:]
    free = {0: "batch", 2: "height", 3: "width"} if sides == "any" else {0: "batch"}
    _name_axes(graph.input[0], free)
    _name_axes(graph.output[0], {0: "batch"})
    _forget_origin(graph)
    del model.metadata_props[:]
    return model


def _name_axes(value: Any, names: Mapping[int, str]) -> None:
    """Name free axes by their index, and leave other free ones without a name."""
    for index, axis in enumerate(value.type.tensor_type.shape.dim):
        if axis.HasField("dim_param"):
            axis.Clear()
        if index in names:
            axis.dim_param = names[index]


def _forget_origin(graph: Any) -> None:
    values = (*graph.initializer, *graph.input, *graph.output, *graph.node)
    for part in (graph, *values):
        part.doc_string = ""
        del part.metadata_props[:]
    for node in graph.node:
        node.name = ""
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _forget_origin(attribute.g)
