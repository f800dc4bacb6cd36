"""From a network to an ONNX model in memory: of one resolution, or of all.

The optimiser of onnxscript folds every BatchNorm of constants into the convolution, transposed
convolution or linear layer before it. Files, their metadata and the comparison with PyTorch are in
`export`; how the model of all resolutions chooses its sets is in `select`.

Sources: https://docs.pytorch.org/docs/stable/onnx_export.html and export.html
"""

from __future__ import annotations

import logging
import math
import textwrap
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.overrides import TorchFunctionMode

from rsseg.common.messages import first_line
from rsseg.runtime.onnx.adaptive_pooling import as_products
from rsseg.runtime.onnx.executor import INPUT, OUTPUT
from rsseg.runtime.onnx.mixing import mixed_tensors, mixing, ordinary, private_tensors
from rsseg.runtime.onnx.nodes import optimised
from rsseg.runtime.onnx.same_padding import as_operators, translations
from rsseg.runtime.onnx.select import select_sets
from rsseg.switchable.net import SwitchableNet

# torch.export takes a map of one pixel in its example for a fact about every image, and encoders
# shrink by 32: at 96 pixels the smallest map still has 3.
_SMALLEST_EXAMPLE: Final = 96
_LONGEST_REASON: Final = 300  # letters: some reasons name every tensor of a network
# Letters of a side in symbols: networks whose export ends have up to 72, Swin soon has 500.
_LONGEST_SIDE: Final = 400
_NOOP: Final = "noop_with_empty_axes"
_LOGGERS: Final = ("torch.onnx", "onnxscript", "onnx_ir")
Sides = Literal["any", "fixed"]


def model_of_one(net: SwitchableNet, resolution: int, *, sides: Sides = "fixed") -> Any:
    """Build the model of one resolution, with its BatchNorms folded.

    Args:
        net: Network in evaluation mode on the CPU.
        resolution: A trained one.
        sides: Whether it takes images of any height and width, or squares of this side only.

    Returns:
        An `onnx.ModelProto`.

    Raises:
        ValueError: If the network cannot be exported.
    """
    return _plain_model(ordinary(net, resolution), resolution, sides)


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
        return _plain_model(networks[0], resolutions[0], "any")
    program = _program(networks[0], resolutions[0], "any")
    model = _converted(program, private.keys(), explicit_padding=compact)
    rule = mixing(resolutions, net.unseen)
    mixed = mixed_tensors(networks[0])
    return tidied(select_sets(model, private, rule, mixed=mixed, compact=compact), "any")


def model_of_graph(program: ExportedProgram) -> Any:
    """Convert a graph of torch.export to an `onnx.ModelProto`, with nothing folded into weights.

    Raises:
        ValueError: If the exporter cannot convert it.
    """
    return _converted(program)


def _plain_model(network: nn.Module, resolution: int, sides: Sides) -> Any:
    return tidied(optimised(_converted(_program(network, resolution, sides))), sides)


def _program(network: nn.Module, resolution: int, sides: Sides) -> ExportedProgram:
    """Compute the graph of a network for any number of images, of any or of one size.

    Raises:
        ValueError: If torch.export cannot take the network.
    """
    example = _example_images(resolution, sides)
    # torch.export takes an axis of one in the example as fixed; the file has to take one image.
    batch = Dim("batch", min=1)
    axes = {0: batch, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC} if sides == "any" else {0: batch}
    try:
        products = as_products(network) if sides == "any" else nullcontext()
        with torch.no_grad(), as_operators(network), products, _ShortSides():
            return torch.export.export(network, (example,), dynamic_shapes=(axes,), strict=False)
    except Exception as error:  # Each part of torch.export has errors of its own.
        size = "of any size" if sides == "any" else f"of {example.shape[-1]} pixels"
        reason = textwrap.shorten(first_line(error), _LONGEST_REASON)
        advice = "; export each resolution by itself (--resolution R)" if sides == "any" else ""
        raise ValueError(
            f"torch.export cannot take {type(network).__name__} for images {size}: {reason}{advice}"
        ) from error


class _ShortSides(TorchFunctionMode):
    """Ends an export whose sides become expressions that grow with every layer: it never would.

    Networks that pad what they read by an amount which depends on its size are such, as Swin does.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        sides = result.shape if isinstance(result, Tensor) else ()
        if any(len(str(side)) > _LONGEST_SIDE for side in sides):
            raise ValueError("the sides of its maps grow into expressions without end")
        return result


def _example_images(resolution: int, sides: Sides) -> Tensor:
    """Return random images to trace a network with, shape (2, 3, h, w).

    For a graph of any sides, h and w may be a multiple of the resolution.
    """
    factor = math.ceil(_SMALLEST_EXAMPLE / resolution) if sides == "any" else 1
    side = factor * resolution
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))


def _converted(
    program: ExportedProgram, private: Set[str] = frozenset(), *, explicit_padding: bool = False
) -> Any:
    """Convert a graph of torch to an ONNX model; every BatchNorm stays a node of its own.

    Nodes that read private tensors stay as well: the tensors are found by their names. About the
    padding see `translations`.

    Raises:
        ValueError: If the exporter cannot convert it.
    """
    from onnxscript import optimizer  # noqa: PLC0415 An extra.

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
                custom_translation_table=translations(explicit=explicit_padding),
            )
    except Exception as error:  # The exporter's errors have no common class.
        reason = first_line(error)
        raise ValueError(f"the network cannot be converted to ONNX: {reason}") from error
    assert converted is not None
    optimizer.fold_constants(converted.model, should_fold=partial(_may_fold, private))
    return converted.model_proto


def _may_fold(private: Set[str], node: Any) -> bool | None:
    """Return False for a node that reads a private tensor, None for the rule of the optimiser."""
    reads = {value.name for value in node.inputs if value is not None}
    return None if private.isdisjoint(reads) else False


@contextmanager
def _quiet() -> Iterator[None]:
    """Log errors of the exporter alone, and not its progress."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def tidied(model: Any, sides: Sides) -> Any:
    """Return a model with names of axes and nodes, and without where its nodes come from."""
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
    """Set names of free axes by their index; other free ones get none."""
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
        # No other node of the model writes it, in a branch either; other tools go by these names.
        node.name = node.output[0]
        for attribute in list(node.attribute):
            if attribute.HasField("g"):
                _forget_origin(attribute.g)
            # Without a meaning where axes are given, as they are here; opset 17 does not know it.
            elif attribute.name == _NOOP and not attribute.i:
                node.attribute.remove(attribute)
