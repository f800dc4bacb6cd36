"""A fixed network as a teacher: from the largest normalised views of a step to its logits."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from rsseg.training.step import AUTOCAST

Teach = Callable[[Tensor], Tensor]


def fixed_teacher(network: nn.Module, precision: str) -> Teach:
    """Return a network as a teacher: in evaluation mode, without gradients.

    Args:
        network: From normalised images (B, 3, h, w) to logits; it is not trained from here on.
        precision: Number format of its forward pass, a key of AUTOCAST.
    """
    network = network.eval().requires_grad_(False)
    device, dtype = next(network.parameters()).device, AUTOCAST[precision]

    def teach(views: Tensor) -> Tensor:
        with torch.no_grad(), torch.autocast(device.type, dtype, enabled=dtype is not None):
            logits: Tensor = network(views)
        return logits

    return teach
