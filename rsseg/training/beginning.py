"""What the beginning of a run settles where its settings leave it open, once for the whole run.

* Mean and std: a run that starts from weights takes those that the weights were trained with.
* `precision: auto`: bf16 where the device multiplies in it, else fp32; fp32 also on a processor
  for a network with depthwise convolutions, whose steps bf16 makes slower there (measured, see
  docs/BENCHMARKS.md). Nothing is timed for it: the same machine takes the same format each time.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TypeVar

import torch
from torch import nn

from rsseg.common.distributed import all_gather_object, is_main_process, warn_first
from rsseg.common.processor import computes_bf16, is_emulated, processor_class
from rsseg.training.config import Precision, RunConfig
from rsseg.weights.record import Record, text_of

C = TypeVar("C", bound=RunConfig)
KEYS = ("preprocessing.mean", "preprocessing.std")


def with_normalisation(config: C, record: Record | None, *, given: bool) -> C:
    """Return the settings with the mean and std that the weights were trained with.

    What the user has set is kept, with a warning if it differs.

    Args:
        config: Settings of a run that begins.
        record: What the weights say, None if they say nothing.
        given: Whether the user has set mean or std.
    """
    images = config.preprocessing
    if record is None or not record.differs(images.mean, images.std):
        return config
    own = text_of(images.mean, images.std)
    if given or not record.certain:
        own = f"preprocessing has {own}" if given else f"preprocessing has its defaults, {own}"
        warn_first(
            f"{own}, but the weights {'' if record.certain else 'may '}"
            f"have been trained with {record}; set preprocessing.mean and preprocessing.std to "
            "what the weights were trained with"
        )
        return config
    if is_main_process():
        print(f"preprocessing: {record}", file=sys.stderr)
    images = replace(images, mean=record.mean, std=record.std)
    return replace(config, preprocessing=images)


def with_precision(config: C, net: nn.Module) -> C:
    """Return the settings with the number format that "auto" stands for.

    All processes of a run have to call this, and take the same: bf16 only where each of them would,
    as the slowest sets the pace of all, and fp32 is slow nowhere.

    Args:
        config: Settings of a run; those that name a format are returned as they are, with a warning
            if the device has to emulate it.
        net: The network, on its device.
    """
    device = next(net.parameters()).device
    if config.precision != "auto":
        if text := slow_message(config.precision, device):
            warn_first(text)
        return config
    own = precision_for(net, device)
    choices = all_gather_object(own)
    precision, reason = next((choice for choice in choices if choice[0] == "fp32"), own)
    if is_main_process():
        print(f"precision: {precision}, as {reason}", file=sys.stderr)
    return replace(config, precision=precision)


def precision_for(net: nn.Module, device: torch.device) -> tuple[Precision, str]:
    """Return the number format in which a network is trained fastest on a device, and why."""
    place = _place(device)
    if not computes_bf16(device):
        return "fp32", f"{place} does not compute in bf16"
    if device.type == "cpu" and has_depthwise(net):
        return "fp32", f"{place} is slower in bf16 where a network has depthwise convolutions"
    return "bf16", f"{place} computes in it"


def has_depthwise(net: nn.Module) -> bool:
    """Return whether a network has convolutions with a group for each of several channels."""
    return any(
        isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels > 1
        for layer in net.modules()
    )


def slow_message(precision: str, device: torch.device) -> str:
    """Return what to say of a number format that a device has to emulate; else an empty text."""
    if not is_emulated(precision, device.type, bf16=computes_bf16(device)):
        return ""
    return (
        f"precision '{precision}' is slow here: {_place(device)} does not compute in it, and "
        "emulating it takes 1.5 to 10 times as long as fp32; set precision to 'auto' or 'fp32' "
        "when a run begins (one that is continued keeps its own)"
    )


def _place(device: torch.device) -> str:
    if device.type == "cuda":
        return f"this device ({torch.cuda.get_device_name(device)})"
    return f"this processor ({processor_class()})" if device.type == "cpu" else f"'{device.type}'"
