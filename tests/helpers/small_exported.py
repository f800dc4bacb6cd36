"""A tiny network for two resolutions, and ONNX files of it written node by node.

The files are in the layout that the executors expect, but no code of rsseg has written them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper, save_model
from PIL import Image as Pictures
from torch import nn

from rsseg.common.config import plain
from rsseg.images.preprocessing import Preprocessing
from rsseg.runtime.description import Description
from rsseg.switchable.net import SwitchableNet
from tests.helpers.small_networks import at, randomise

RESOLUTIONS = (64, 32)
CLASSES = ("church", "tench", "golf ball")


def small_net(*, maps: bool = False) -> SwitchableNet:
    """A convolution, BatchNorm and a classifier; with `maps`, one of each place."""
    torch.manual_seed(0)
    pool = [] if maps else [nn.AdaptiveAvgPool2d(1)]
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        *pool,
        nn.Conv2d(8, len(CLASSES), 1),
        *([] if maps else [nn.Flatten()]),
    )
    net = SwitchableNet(network, RESOLUTIONS)
    randomise(net)
    return net.eval()


def description(**values: Any) -> Description:
    held: dict[str, Any] = {
        "task": "classification",
        "name": "small",
        "classes": CLASSES,
        "resolutions": RESOLUTIONS,
        "preprocessing": Preprocessing(),
    }
    return Description(**{**held, **values})


def write_clouds(folder: Path, count: int = 8) -> Path:
    """Write images of clouds, not noise, 8 at most, each with a range of its own."""
    rng = np.random.default_rng(0)
    for index in range(count):
        pixels = rng.integers(0, 32 * (index + 1), (6, 7, 3), dtype=np.uint8)
        Pictures.fromarray(pixels).resize((90, 80)).save(folder / f"{index}.png")
    return folder


def log_of_opening(path: Path, capfd: pytest.CaptureFixture[str]) -> str:
    """Return what ONNX Runtime writes while it opens a file, from C++, warnings included."""
    capfd.readouterr()
    onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return "".join(capfd.readouterr())


def write_onnx(path: Path, net: SwitchableNet, told: Description, *, key: str = "rsseg") -> Path:
    """Write a network of `small_net`: all resolutions, or with the layout "one" a single one."""
    sides = [told.resolution] if told.layout == "one" and told.resolution else list(RESOLUTIONS)
    values, nodes = _weights(net, sides), _nodes(maps=told.task == "segmentation")
    size = [None, None] if told.layout == "all" else [told.resolution] * 2
    shape = [None, len(CLASSES), *([None, None] if told.task == "segmentation" else [])]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [None, 3, *size])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    text = json.dumps({**plain(told), "preprocessing": plain(told.preprocessing)})
    helper.set_model_props(model, {key: text})
    save_model(model, str(path))
    return path


def _weights(net: SwitchableNet, sides: list[int]) -> dict[str, np.ndarray]:
    network = net.network
    assert isinstance(network, nn.Sequential)
    first, last = network[0], [layer for layer in network if isinstance(layer, nn.Conv2d)][-1]
    assert isinstance(first, nn.Conv2d)
    scales, shifts = [], []
    for side in sides:
        norm = at(network, 1, str(side))
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        scales.append(scale)
        shifts.append(norm.bias - norm.running_mean * scale)
    assert last.bias is not None
    assert first.bias is not None
    tensors = {
        "w0": first.weight,
        "b0": first.bias,
        "w1": last.weight,
        "b1": last.bias,
        "scales": torch.stack(scales),
        "shifts": torch.stack(shifts),
    }
    return {
        **{name: tensor.detach().numpy() for name, tensor in tensors.items()},
        "sides": np.array(sides, np.int64),
        "places": np.array([2, 3], np.int64),
        "form": np.array([1, 8, 1, 1], np.int64),
    }


def _nodes(*, maps: bool) -> list[Any]:
    node = helper.make_node
    end = [node("Conv", ["x", "w1", "b1"], ["logits"])]
    if not maps:
        end = [
            node("GlobalAveragePool", ["x"], ["p"]),
            node("Conv", ["p", "w1", "b1"], ["q"]),
            node("Flatten", ["q"], ["logits"]),
        ]
    return [
        node("Shape", ["images"], ["shape"]),
        node("Gather", ["shape", "places"], ["size"]),
        node("ReduceMin", ["size"], ["side"], keepdims=1),
        node("Equal", ["sides", "side"], ["same"]),
        node("Cast", ["same"], ["chosen"], to=TensorProto.FLOAT),
        node("MatMul", ["chosen", "scales"], ["scale_c"]),
        node("MatMul", ["chosen", "shifts"], ["shift_c"]),
        node("Reshape", ["scale_c", "form"], ["scale"]),
        node("Reshape", ["shift_c", "form"], ["shift"]),
        node("Conv", ["images", "w0", "b0"], ["c"], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Mul", ["c", "scale"], ["m"]),
        node("Add", ["m", "shift"], ["n"]),
        node("Relu", ["n"], ["x"]),
        *end,
    ]
