r"""Eight bits: integer weights that all resolutions share, scales that are private to each.

ONNX Runtime's quantiser calibrates and quantises the folded network of each resolution. What is
ours is that the weights are in the file once. A BatchNorm that is folded into a convolution
multiplies its output channel c by :math:`g = \gamma / \sigma`, and integers with a scale for each
output channel do not depend on it:

.. math:: W_c g = s_c g \cdot q_c, \quad q_c = \mathrm{round}(W_c / s_c), \quad
          s_c = \max |W_c| / 127

So all resolutions have the same integers q, up to the sign of gamma, which goes into the scale.
Private are the scales of weights and activations and the folded biases: they lie in the branch of
their resolution, as the BatchNorm sets do in the file of floats.

In a network with norms that compute their statistics from each image (LayerNorm, GroupNorm) only
layers with weights have 8 bits: norms, attention and the sums between them stay in floats. There
sums grow from block to block, in few channels, and one scale for all channels rounds the others
away: a small ViT named the class of the floats for 75 % of its images, and for all of them so.

Source: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsseg.quantization.layers import QuantizedConv2d
from rsseg.quantization.quantizer import quantizers
from rsseg.runtime.description import Description
from rsseg.runtime.onnx.branches import Branch, chosen
from rsseg.runtime.onnx.executor import INPUT, OUTPUT
from rsseg.runtime.onnx.mixing import mixing
from rsseg.runtime.onnx.model import Sides, model_of_one, tidied
from rsseg.runtime.onnx.nodes import drop_unread, initializer, node, renamed
from rsseg.runtime.protocol import Views
from rsseg.switchable.net import SwitchableNet
from rsseg.switchable.norms import norm_kind

RULE: Final = "nearest"  # for resolutions that were not trained: no scale was measured for them
_READY: Final = (
    "onnx.quant.pre_process",
    "onnxruntime.quant",
)  # spares the quantiser's advice to prepare it
_QUANTIZE: Final = "QuantizeLinear"
_DEQUANTIZE: Final = "DequantizeLinear"
_LINEAR: Final = ("Gemm", "MatMul")
_WEIGHTED: Final = ("Conv", "ConvTranspose", *_LINEAR)
_UNNOTICED: Final = 0.01  # of a channel's bias
_STEPS: Final = 255  # of an activation
_FLOAT: Final = 1  # onnx.TensorProto.FLOAT
Integers = NDArray[np.int8]
Batches = Callable[[int], Iterator[Views]]
Tensors = dict[str, NDArray[Any]]
Scales = dict[str, dict[str, Any]]  # scale and zero point of an activation, by its name


def integer_model(
    net: SwitchableNet,
    description: Description,
    batches: Batches,
    *,
    one_calibration: bool = False,
) -> Any:
    """Build the model of 8 bits, of one resolution or of all.

    Args:
        net: Network in evaluation mode on the CPU.
        description: Its layout and resolution decide what is in the model.
        batches: From a resolution to views of its size, which the ranges of activations are
            measured on.
        one_calibration: All resolutions have the scales of activations of the largest one, as one
            calibration for all gives them: to measure what private ones gain.

    Returns:
        An `onnx.ModelProto`.

    Raises:
        ValueError: If the network cannot be exported, or quantises its activations itself.
    """
    check_floats(net)
    one = description.layout == "one"
    sides: Sides = "fixed" if one and description.preprocessing.fit != "aspect" else "any"
    alone = any(norm_kind(layer) in ("layer", "group") for layer in net.network.modules())
    models: list[Any] = []
    scales: Scales = {}
    for resolution in description.usable:
        model = model_of_one(net, resolution, sides=sides)
        models.append(_quantised(model, batches(resolution), scales, weights_alone=alone))
        if one_calibration and not scales:
            scales = _activation_scales(models[0].graph)
    return tidied(models[0] if len(models) == 1 else joined(models, description.usable), sides)


def check_floats(net: SwitchableNet) -> None:
    """Check that a network leaves its activations to be quantised to 8 bits.

    Raises:
        ValueError: If it has quantisers for them. Those of weights alone are no obstacle: their
            few levels are rounded to 8 bits.
    """
    layers = [layer for layer in net.modules() if isinstance(layer, QuantizedConv2d)]
    of_weights = {id(layer.weight_quantizer) for layer in layers}
    if any(id(each) not in of_weights for each in quantizers(net)):
        raise ValueError(
            "the activations of this network have learnt levels (LQ-Nets or LSQ), which are no "
            "even steps of 8 bits: rounded again they would be others; export it without --int8, "
            "or pack it with `rsseg pack`"
        )


class _Reader:
    """Batches, as ONNX Runtime's calibration asks for them."""

    def __init__(self, batches: Iterator[Views]) -> None:
        self._batches = batches

    def get_next(self) -> dict[str, Views] | None:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch}


def _quantised(model: Any, batches: Iterator[Views], scales: Scales, *, weights_alone: bool) -> Any:
    """Return a model of floats with 8-bit weights and activations, as ONNX Runtime makes it.

    Args:
        model: Of one resolution.
        batches: Views that the ranges of activations are measured on.
        scales: Of activations that are given, and not measured.
        weights_alone: Only layers with weights are quantised.
    """
    import onnx  # noqa: PLC0415 An extra.
    from onnxruntime.quantization import quantize_static  # noqa: PLC0415 An extra.

    entry = model.metadata_props.add()
    entry.key, entry.value = _READY
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "quantised.onnx"
        options = _options(model.graph, scales, weights_alone=weights_alone)
        quantize_static(model, path, _Reader(batches), **options)
        quantised = onnx.load(path)
    _keep_answer(quantised.graph)
    drop_unread(quantised.graph)  # Runtimes warn of what nothing reads.
    return quantised


def _options(graph: Any, scales: Scales, *, weights_alone: bool) -> dict[str, Any]:
    """Return the options of the quantiser."""
    from onnxruntime.quantization import QuantFormat, QuantType  # noqa: PLC0415 An extra.

    options: dict[str, Any] = {
        "quant_format": QuantFormat.QDQ,
        "per_channel": True,
        "activation_type": QuantType.QUInt8,
        "weight_type": QuantType.QInt8,
        "extra_options": {
            "TensorQuantOverrides": {name: [scale] for name, scale in scales.items()}
        },
    }
    if weights_alone:
        options["op_types_to_quantize"] = _WEIGHTED
        options["nodes_to_exclude"] = _without_weights(graph)
    return options


def _without_weights(graph: Any) -> list[str]:
    """Return the names of the products of two activations, as in attention."""
    weights = {value.name for value in graph.initializer}
    return [
        each.name for each in graph.node if each.op_type in _LINEAR and each.input[1] not in weights
    ]


def _activation_scales(graph: Any) -> Scales:
    """Return scale and zero point of each activation that a quantised graph rounds."""
    tensors = _initializers(graph)
    return {
        each.input[0]: {"scale": tensors[each.input[1]], "zero_point": tensors[each.input[2]]}
        for each in graph.node
        if each.op_type == _QUANTIZE
    }


def _keep_answer(graph: Any) -> None:
    """Let the last layer answer in floats, where that costs nothing: classes would tie."""
    writers = {name: each for each in graph.node for name in each.output}
    last = writers[OUTPUT]
    rounded = writers.get(last.input[0])
    layer = writers.get(rounded.input[0]) if rounded is not None else None
    if last.op_type == _DEQUANTIZE and layer is not None and layer.op_type in _LINEAR:
        graph.node.remove(last)
        graph.node.remove(rounded)
        layer.output[0] = OUTPUT


def joined(models: Sequence[Any], resolutions: Sequence[int]) -> Any:
    """Return one model of all resolutions from one for each, with their integers once.

    Args:
        models: Of ONNX Runtime's quantiser, largest resolution first. They are changed.
        resolutions: Theirs.
    """
    tensors = [_initializers(model.graph) for model in models]
    layers = [_layers(model.graph, own) for model, own in zip(models, tensors, strict=True)]
    common = _common_integers(layers, tensors)
    branches = []
    # From the smallest resolution on, whose images have the least time for tests.
    for kind in reversed(range(len(models))):
        constants = _with_common(layers[kind], tensors[kind], common)
        nodes = _reading_common(models[kind].graph.node, common)
        branches.append(Branch(kind, *_shortened(nodes, constants)))
    graph = models[0].graph
    axes = len(graph.output[0].type.tensor_type.shape.dim)
    nodes, constants = chosen(branches, {OUTPUT: (_FLOAT, axes)}, mixing(resolutions, RULE))
    constants |= common
    constants |= {_shape_of(w): np.array(w.shape, np.int64) for w in common.values()}
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(initializer(name, values) for name, values in constants.items())
    drop_unread(graph)  # No test asks for the last branch: its number.
    return models[0]


def _initializers(graph: Any) -> Tensors:
    from onnx import numpy_helper  # noqa: PLC0415 An extra.

    return {value.name: numpy_helper.to_array(value) for value in graph.initializer}


class _Layer(NamedTuple):
    """A layer with integer weights.

    Attributes:
        weight: The DequantizeLinear of its weights.
        biases: Those of the biases that are added to what these weights compute.
        axis: Of the output channels in the weights.
    """

    weight: Any
    biases: list[Any]
    axis: int

    @property
    def name(self) -> str:
        """Name of the integers."""
        return str(self.weight.input[0])


def _layers(graph: Any, tensors: Tensors) -> dict[str, _Layer]:
    """Return the layers with integer weights, by the name of the integers."""
    writers = {each.output[0]: each for each in graph.node if each.op_type == _DEQUANTIZE}
    layers = {}
    for each in writers.values():
        weight = tensors.get(each.input[0])
        if weight is None or weight.dtype != np.int8 or weight.ndim < 2:
            continue
        readers = [other for other in graph.node if each.output[0] in other.input[1:2]]
        biases = [writers[name] for r in readers for name in r.input[2:3] if name in writers]
        axis = next((a.i for a in each.attribute if a.name == "axis"), 1)
        layers[each.input[0]] = _Layer(each, biases, axis % weight.ndim)
    return layers


def _common_integers(
    layers: Sequence[Mapping[str, _Layer]], tensors: Sequence[Tensors]
) -> dict[str, Integers]:
    """Return the integers of each layer that all models have, by name.

    Of each channel those of the resolution with the largest ones: where a bias is very large, the
    quantiser makes the scale coarser, which leaves small ones.
    """
    common = {}
    for name, layer in layers[0].items():
        if all(name in each for each in layers):
            stack = np.stack([_rows(own[name], layer.axis) for own in tensors])
            largest = np.abs(stack.astype(np.int64)).max(axis=2).argmax(axis=0)
            rows = stack[largest, np.arange(stack.shape[1])]
            common[name] = _from_rows(rows, tensors[0][name].shape, layer.axis)
    return common


def _rows(weight: NDArray[Any], axis: int) -> NDArray[Any]:
    """Return weights as (C, n) of C output channels."""
    moved = np.moveaxis(weight, axis, 0)
    return moved.reshape(len(moved), -1)


def _from_rows(rows: NDArray[Any], shape: tuple[int, ...], axis: int) -> NDArray[Any]:
    """Return weights (C, n) in their own shape."""
    moved = [shape[axis], *(side for i, side in enumerate(shape) if i != axis)]
    return np.ascontiguousarray(np.moveaxis(rows.reshape(moved), 0, axis))


def _with_common(
    layers: Mapping[str, _Layer], tensors: Tensors, common: Mapping[str, Integers]
) -> Tensors:
    """Return the constants that a resolution has for itself beside the common integers.

    Where gamma has another sign than the common integers have, scales and bias change theirs. A
    layer whose integers are others, as those of a BatchNorm with a gamma of 0, keeps its own.
    """
    constants = dict(tensors)
    for name, layer in layers.items():
        if name not in common:
            continue
        own, shared = (_rows(w.astype(np.int64), layer.axis) for w in (tensors[name], common[name]))
        signs = np.where((own * shared).sum(axis=1) < 0, -1, 1)
        biases = [tensors[bias.input[0]] for bias in layer.biases]
        integers = constants.pop(name)
        by_channel = constants[layer.weight.input[1]].ndim == 1 or (signs > 0).all()
        if not (by_channel and _same(own * signs[:, None], shared, biases)):
            layer.weight.input[0] = f"{name}/own"
            constants[f"{name}/own"] = integers
            continue
        if (signs < 0).any():
            changed = [each.input[1] for each in (layer.weight, *layer.biases)]
            changed += [bias.input[0] for bias in layer.biases]
            for key in dict.fromkeys(changed):
                constants[key] = (constants[key] * signs).astype(constants[key].dtype)
    return constants


def _same(
    own: NDArray[np.int64], common: NDArray[np.int64], biases: Sequence[NDArray[np.int32]]
) -> bool:
    """Return whether integers, shape (C, n), may stand for others, with the scales of the others.

    They may differ by one, where a value lies between two of them. They may differ by more in a
    channel whose scale a large bias has made coarser: what they add to it is not noticed.
    """
    difference = np.abs(own - common)
    added = _STEPS * difference.sum(axis=1)
    smallest = np.min([np.abs(bias.astype(np.int64)) for bias in biases] or [0 * added], axis=0)
    fits = (difference.max(axis=1) <= 1) | (added <= _UNNOTICED * smallest)
    return bool(fits.all())


def _reading_common(nodes: Sequence[Any], common: Mapping[str, Integers]) -> list[Any]:
    """Return nodes in which each layer reads the common integers through a Reshape.

    It changes nothing, and is there as in the file of floats: ONNX Runtime arranges weights for
    its fastest kernels only where they lie in the graph of the convolution. This node it evaluates
    beforehand, and there they lie.
    """
    reading = []
    for each in nodes:
        name = each.input[0] if each.op_type == _DEQUANTIZE else ""
        if name in common:
            reading.append(node("Reshape", [name, _shape_of(common[name])], [f"{name}/here"]))
            reading.append(renamed(each, {name: f"{name}/here"}))
        else:
            reading.append(each)
    return reading


def _shape_of(weight: NDArray[Any]) -> str:
    return "shape/" + "x".join(map(str, weight.shape))


def _shortened(nodes: Sequence[Any], constants: Tensors) -> tuple[list[Any], Tensors]:
    """Return nodes and constants with short names, and equal constants once.

    Names in full for each resolution take as many bytes as the biases.
    """
    names, kept = {}, dict[tuple[str, tuple[int, ...], bytes], str]()
    for name, values in constants.items():
        key = (values.dtype.str, values.shape, values.tobytes())
        names[name] = kept.setdefault(key, f"c{len(kept)}")
    short = {names[name]: values for name, values in constants.items()}
    outputs = [name for each in nodes for name in each.output if name != OUTPUT]
    names |= {name: f"v{index}" for index, name in enumerate(outputs)}
    return [renamed(each, names) for each in nodes], short
