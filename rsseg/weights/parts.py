"""The parts of a network by name: the head, the body, and what lies between."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from rsseg.switchable.outputs import LogitsOf
from rsseg.switchable.positions import SwitchablePositions

ENCODER: Final = "encoder"  # Of segmenters: their body.
_LARGEST_STD: Final = 0.01


def is_below(name: str, part: str) -> bool:
    """Return whether a name of a layer or tensor is that of a part, or lies in it."""
    return name == part or name.startswith(f"{part}.")


def has_parameters(module: nn.Module) -> bool:
    """Return whether there is anything to train in a module."""
    return next(module.parameters(), None) is not None


def children_with_parameters(module: nn.Module) -> dict[str, nn.Module]:
    """Return the children with anything to train, by name.

    Private tables of positions are none: like shared ones, they are the module's own.
    """
    return {
        name: child
        for name, child in module.named_children()
        if has_parameters(child) and not isinstance(child, SwitchablePositions)
    }


def head_part(network: nn.Module) -> str:
    """Return the name of the child that makes the logits: the one with the last linear layer.

    A child of the network inside, "network.fc", of one that returns a part of another's output.

    Raises:
        ValueError: If there is no linear layer and no convolution.

    Example:
        >>> head_part(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 1)))
        '2'
    """
    return _part_of(_last(network)[0], network)


def _inside(network: nn.Module) -> tuple[str, nn.Module]:
    """Return the network whose children are the parts, and what their names begin with."""
    return ("network.", network.network) if isinstance(network, LogitsOf) else ("", network)


def _part_of(name: str, network: nn.Module) -> str:
    prefix, _ = _inside(network)
    return prefix + name.removeprefix(prefix).partition(".")[0]


def head_layers(network: nn.Module) -> dict[str, nn.Linear | _ConvNd]:
    """Return the layers that make the logits by name: one, or two where a teacher has its own."""
    last_name, last = _last(network)
    part, outputs = _part_of(last_name, network), len(last.weight)
    # timm's "head_dist" stands beside "head", or in it.
    parts = (part, part.removesuffix("_dist"))
    return {
        name: layer
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear | _ConvNd)
        and _part_of(name, network) in parts
        and len(layer.weight) == outputs
        and (layer is last or "dist" in last_name)
    }


def _last(network: nn.Module) -> tuple[str, nn.Linear | _ConvNd]:
    layers = [
        (name, layer)
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear | _ConvNd)
    ]
    if not layers:
        raise ValueError(f"{type(network).__name__} has no layer that could make logits")
    main = [(name, layer) for name, layer in layers if not _is_auxiliary(name, network)]
    return (main or layers)[-1]


def _is_auxiliary(name: str, network: nn.Module) -> bool:
    """Return whether a layer is of a head for training alone, beside the one that is used."""
    prefix, _ = _inside(network)
    return bool(prefix) and name.removeprefix(prefix).startswith("aux")


def body_parts(network: nn.Module) -> list[str]:
    """Return the names of the children that form the body: the encoder, or all but the head."""
    prefix, inner = _inside(network)
    names = [f"{prefix}{name}" for name in children_with_parameters(inner)]
    head, encoder = head_part(network), f"{prefix}{ENCODER}"
    if encoder in names and head != encoder:
        return [encoder]
    heads = {head, *(_part_of(name, network) for name in head_layers(network))}
    return [name for name in names if name not in heads and not _is_auxiliary(name, network)]


@torch.no_grad()
def start_small(layer: nn.Linear | _ConvNd) -> None:
    """Draw the weights of a head so that the first logits are almost 0, and the loss is ln K.

    A head with the usual weights on a trained body gives large logits, whose gradients undo what
    the body has learnt before the head has learnt anything.
    """
    inputs = layer.weight[0].numel()
    nn.init.normal_(layer.weight, std=min(_LARGEST_STD, 0.1 / math.sqrt(inputs)))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
