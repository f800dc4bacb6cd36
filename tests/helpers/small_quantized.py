"""A small network to quantise, and steps of training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rsseg import SwitchableNet
from rsseg.losses.mred import MREDLosses, mred_loss
from rsseg.training.config import OptimConfig
from rsseg.training.optim import build_optimizer, set_learning_rates
from rsseg.training.step import Outputs, StepSettings, train_step

SIDES = (16, 8)


def network() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()),
        *(nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU()),
        nn.Conv2d(6, 4, 1),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    )


def views(seed: int = 0) -> list[Tensor]:
    source = torch.Generator().manual_seed(seed)
    return [torch.randn(4, 3, side, side, generator=source) for side in SIDES]


def loss(outputs: Outputs) -> MREDLosses:
    return mred_loss(outputs.logits, outputs.target, outputs.scores)


def train(net: SwitchableNet, steps: int = 2, mode: str = "normal") -> list[MREDLosses]:
    net.train()
    net.checkpointing = mode == "checkpoint"
    optimizer = build_optimizer(net, OptimConfig(lr=0.05))
    set_learning_rates(optimizer, {"other": 0.05})
    target = torch.tensor([0, 1, 2, 3])
    options: dict[str, Any] = {"scores": net.scores}
    options["settings"] = StepSettings(two_pass=mode == "two_pass")
    return [train_step(net, views(i), target, loss, optimizer, **options) for i in range(steps)]


def bases(net: nn.Module) -> dict[str, Tensor]:
    return {name: v.clone() for name, v in net.named_buffers() if name.endswith("basis")}
