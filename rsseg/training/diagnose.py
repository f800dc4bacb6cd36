"""Where values become nonfinite: the layer to look at when a loss is not a finite number."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Hook = Callable[[nn.Module, Any, Any], None]


def describe_largest(net: nn.Module, forward: Callable[[], object], device: torch.device) -> str:
    """Return a text that names the layers with the largest weight and the largest output.

    Args:
        net: The network, in training.
        forward: The forward pass whose loss is not finite. It is run again, and leaves statistics
            and random numbers as they were.
        device: Where it draws its dropout.
    """
    weights = {
        name: _size(parameter)
        for name, parameter in net.named_parameters()
        if name != "scores" and parameter.numel()
    }
    outputs: dict[str, float] = {}
    hooks = [
        layer.register_forward_hook(_record(name, outputs))
        for name, layer in net.named_modules()
        if not any(layer.children())
    ]
    devices = [device] if device.type == "cuda" else []
    statistics = [(buffer, buffer.clone()) for buffer in net.buffers()]
    try:
        with torch.no_grad(), torch.random.fork_rng(devices):
            forward()
    finally:
        for hook in hooks:
            hook.remove()
        for buffer, value in statistics:
            buffer.copy_(value)
    return f"the largest weight is {_largest(weights)}, the largest output is {_largest(outputs)}"


def _record(name: str, outputs: dict[str, float]) -> Hook:
    def record(layer: nn.Module, inputs: Any, output: Any) -> None:
        size = _size(output) if isinstance(output, Tensor) and output.numel() else -1.0
        if size > outputs.get(name, -1.0):
            # Moved to the end: of layers that are as large, the first one in the dict came first.
            outputs.pop(name, None)
            outputs[name] = size

    return record


def _size(tensor: Tensor) -> float:
    """Return the largest absolute value; NaN counts as infinite."""
    size = tensor.detach().abs().max().item()
    return math.inf if math.isnan(size) else size


def _largest(sizes: dict[str, float]) -> str:
    """Return the largest value and its layer; of several nonfinite ones, the first."""
    if not sizes:
        return "unknown"
    name = max(sizes, key=sizes.__getitem__)
    value = f"{sizes[name]:.3g}" if math.isfinite(sizes[name]) else "not finite"
    return f"{value}, of {name.removeprefix('network.')}"
