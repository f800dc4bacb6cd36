"""Parameter groups and learning rates: plain functions of the configuration and the step."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from rsseg.training.config import OptimConfig, ScheduleConfig

ENCODER = "network.encoder."  # Where the encoder of a segmenter lies in a SwitchableNet.
SCORES = "scores"


def build_optimizer(net: nn.Module, config: OptimConfig) -> torch.optim.SGD:
    """Build SGD over the trainable parameters, in groups named for `set_learning_rates`.

    Groups differ in learning rate ("encoder" or "other") and in weight decay (raw scores have
    none by default).
    """
    batchnorm = {
        id(parameter)
        for layer in net.modules()
        if isinstance(layer, _BatchNorm)
        for parameter in layer.parameters(recurse=False)
    }
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        if not parameter.requires_grad:
            continue
        decayed = (name != SCORES or config.decay_scores) and (
            id(parameter) not in batchnorm or config.decay_batchnorm
        )
        rate = "encoder" if name.startswith(ENCODER) else "other"
        groups.setdefault((rate, decayed), []).append(parameter)
    settings: list[dict[str, Any]] = [
        {
            "params": parameters,
            "rate": rate,
            "weight_decay": config.weight_decay if decayed else 0.0,
        }
        for (rate, decayed), parameters in groups.items()
    ]
    # One kernel for all parameters, where a device has it.
    fused = next(net.parameters()).device.type == "cuda"
    optimizer = torch.optim.SGD(
        settings, lr=1.0, momentum=config.momentum, nesterov=config.nesterov, fused=fused
    )
    if config.momentum:
        # The same as none at the first step. The fused kernel takes no mixture of some and none,
        # which sandwich steps make, and keeps what it finds in them when fp16 leaves a step out.
        for parameter in (p for group in optimizer.param_groups for p in group["params"]):
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


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
    encoder = other if optim.encoder_lr is None else _of_stage(optim.encoder_lr, stage)
    return {"encoder": factor * encoder, "other": factor * other}


def _of_stage(rate: float | Sequence[float], stage: int) -> float:
    return float(rate) if isinstance(rate, int | float) else rate[stage]


def set_learning_rates(optimizer: torch.optim.Optimizer, rates: dict[str, float]) -> None:
    """Write the learning rates into the optimiser's groups."""
    for group in optimizer.param_groups:
        group["lr"] = rates[group["rate"]]
