"""Targets: classes, or shares of the classes; checks, and the cross entropy with them.

Functions over tensors only.
"""

from __future__ import annotations

import torch
from torch import Tensor


def check_target(target: Tensor, shape: tuple[int, ...], classes: int, ignore_index: int) -> None:
    """Raise a ValueError unless `target` holds integers of this shape, classes or ignored."""
    if target.shape != shape:
        raise ValueError(f"target must have shape {shape}, got {tuple(target.shape)}")
    if target.dtype == torch.bool or target.is_floating_point() or target.is_complex():
        raise ValueError(f"target must hold integer classes, got {target.dtype}")
    # Looking at values on a GPU waits for it.
    if target.device.type != "cpu" or torch.compiler.is_compiling() or not target.numel():
        return
    target = target.long()
    low, high = torch.where(target == ignore_index, 0, target).aminmax()
    if low < 0 or high >= classes:
        raise ValueError(
            f"target must hold classes 0..{classes - 1} or ignore_index {ignore_index}, "
            f"found {int(low if low < 0 else high)}"
        )


def cross_entropy(log_p: Tensor, target: Tensor, valid: Tensor, smoothing: float) -> Tensor:
    """Return the cross entropy, averaged over the valid positions.

    Args:
        log_p: Log-probabilities, shape (B, K) or (B, K, H, W).
        target: Classes, int64, shape (B,) or (B, H, W), or shares of the classes, shape (B, K).
        valid: Which positions count, shape of the classes.
        smoothing: Share of the target that goes to all classes alike, 0..1.
    """
    if target.is_floating_point():
        likelihood = (target * log_p).sum(dim=1)
    else:
        index = torch.where(valid, target, 0).unsqueeze(1)
        likelihood = log_p.gather(1, index).squeeze(1)
    if smoothing:
        likelihood = (1 - smoothing) * likelihood + smoothing * log_p.mean(dim=1)
    return -valid_mean(likelihood, valid)


def valid_mean(values: Tensor, valid: Tensor) -> Tensor:
    """Return the mean over the valid positions; 0 if there are none."""
    return torch.where(valid, values, 0).sum() / valid.sum().clamp(min=1)
