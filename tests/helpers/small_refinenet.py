"""A RefineNet so small that it takes a moment, the same each time, and images for it."""

from __future__ import annotations

import torch
from torch import Tensor

from rsseg.segmentation.refinenet import RefineNet


def small(encoder: str = "resnet18", **keywords: object) -> RefineNet:
    torch.manual_seed(0)
    network: RefineNet = RefineNet(encoder, classes=5, decoder_channels=8, **keywords)
    network.eval()
    return network


def images(height: int = 64, width: int = 64, *, channels: int = 3) -> Tensor:
    return torch.randn(2, channels, height, width, generator=torch.Generator().manual_seed(1))
