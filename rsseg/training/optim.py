"""Parameter groups and learning rates: plain functions of the configuration and the step."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from rsseg.switchable.layers import SwitchableNorm
from rsseg.switchable.net import SwitchableNet
from rsseg.training.config import OptimConfig, ScheduleConfig
from rsseg.training.layer_decay import layer_scales
from rsseg.weights.parts import body_parts, is_below

ENCODER = "network.encoder."  # Where the encoder of a segmenter lies in a SwitchableNet.
NETWORK = "network."
SCORES = "scores"
BODY, REST = "encoder", "other"  # Names of learning rates, as the state of an optimiser knows them.


def build_optimizer(net: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """Build the optimiser of the trainable parameters, in groups named for `set_learning_rates`.

    Groups differ in learning rate ("encoder", the body, or "other"), in the factor on it, and in
    weight decay (raw scores have none by default).
    """
    undecayed, is_body = _undecayed(net, config), _is_body(net, config)
    scales = _scales(net, config)
    groups: dict[tuple[str, float, bool], list[nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            rate = BODY if is_body(name) else REST
            group = (rate, scales.get(name, 1.0), name not in undecayed)
            groups.setdefault(group, []).append(parameter)
    settings: list[dict[str, Any]] = [
        {
            "params": parameters,
            "rate": rate,
            "weight_decay": config.weight_decay if decayed else 0.0,
            **({} if config.layer_decay is None else {"scale": scale}),
        }
        for (rate, scale, decayed), parameters in groups.items()
    ]
    if config.kind == "adamw":
        # One kernel for all parameters: on a processor a third of the time of a loop.
        return torch.optim.AdamW(settings, lr=1.0, betas=config.betas, eps=config.eps, fused=True)
    # That of SGD rounds otherwise on a processor, where runs are repeated to the bit.
    fused = next(net.parameters()).device.type == "cuda"
    return _sgd(settings, config, fused=fused)


def _sgd(settings: list[dict[str, Any]], config: OptimConfig, *, fused: bool) -> torch.optim.SGD:
    optimizer = torch.optim.SGD(
        settings, lr=1.0, momentum=config.momentum, nesterov=config.nesterov, fused=fused
    )
    if config.momentum:
        # The same as none at the first step. The fused kernel takes no mixture of some and none,
        # which sandwich steps make, and keeps what it finds in them when fp16 leaves a step out.
        for parameter in (p for group in optimizer.param_groups for p in group["params"]):
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def _undecayed(net: nn.Module, config: OptimConfig) -> set[str]:
    """Return the names of the parameters without weight decay."""
    batchnorm = {
        id(parameter)
        for layer in net.modules()
        if isinstance(layer, _BatchNorm | SwitchableNorm)
        for parameter in _gamma_and_beta(layer)
    }
    return {
        name
        for name, parameter in net.named_parameters()
        if (name == SCORES and not config.decay_scores)
        or (id(parameter) in batchnorm and not config.decay_batchnorm)
        or (name != SCORES and parameter.ndim <= 1 and config.no_decay)
    }


def _gamma_and_beta(layer: nn.Module) -> Iterator[nn.Parameter]:
    sets = layer.sets.values() if isinstance(layer, SwitchableNorm) else [layer]
    return chain.from_iterable(one.parameters(recurse=False) for one in sets)


def _is_body(net: nn.Module, config: OptimConfig) -> Callable[[str], bool]:
    """Return what decides by name whether a parameter takes the learning rate of the body."""
    parts = [ENCODER.removesuffix(".")]
    # Only then: runs of classifiers were begun with all parameters in one group.
    if isinstance(net, SwitchableNet) and config.rate_of_body is not None:
        parts = [f"{NETWORK}{part}" for part in body_parts(net.network)]
    return lambda name: any(is_below(name, part) for part in parts)


def _scales(net: nn.Module, config: OptimConfig) -> dict[str, float]:
    if config.layer_decay is None or not isinstance(net, SwitchableNet):
        return {}
    scales = layer_scales(net.network, config.layer_decay)
    return {f"{NETWORK}{name}": scale for name, scale in scales.items()}


def schedule_factor(config: ScheduleConfig, epoch: float, epochs: int) -> float:
    """Return the factor on the learning rate after `epoch` of `epochs` epochs.

    A fraction of an epoch counts its steps.

    Example:
        >>> schedule_factor(ScheduleConfig(kind="cosine"), 60.0, 120)
        0.5
    """
    if epoch < config.warmup_epochs:
        return epoch / config.warmup_epochs
    length = epochs - config.warmup_epochs
    progress = (epoch - config.warmup_epochs) / length if length > 0 else 1.0
    if config.kind == "cosine":
        return round(0.5 * (1 + math.cos(math.pi * progress)), 12)
    if config.kind == "poly":
        return float((1 - progress) ** config.power)
    return 1.0


def learning_rates(
    optim: OptimConfig, schedule: ScheduleConfig, epoch: float, epochs: int
) -> dict[str, float]:
    """Return the learning rates of the groups "encoder" and "other" at a point of the run."""
    factor = schedule_factor(schedule, epoch, epochs)
    stage = bisect.bisect_right(schedule.milestones, epoch)
    other = _of_stage(optim.lr, stage)
    body = other if optim.rate_of_body is None else _of_stage(optim.rate_of_body, stage)
    return {BODY: factor * body, REST: factor * other}


def _of_stage(rate: float | Sequence[float], stage: int) -> float:
    return float(rate) if isinstance(rate, int | float) else rate[stage]


def set_learning_rates(optimizer: torch.optim.Optimizer, rates: dict[str, float]) -> None:
    """Write the learning rates into the optimiser's groups."""
    for group in optimizer.param_groups:
        group["lr"] = rates[group["rate"]] * group.get("scale", 1.0)
