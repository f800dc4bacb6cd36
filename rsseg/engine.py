"""One training step of any task: S views, one forward, one backward, one update.

It knows neither the task nor the data set; it is given the loss. Epochs and files are in
`training`.

Source: Wang et al., ECCV 2020, https://arxiv.org/abs/2007.09558, Eq. 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from rsseg.mred import MREDLosses
from rsseg.switchable import switchable_layers


class Outputs(NamedTuple):
    """What a step gives to its loss.

    Attributes:
        logits: Of the resolutions of this step, largest first.
        target: Labels (B,), shares of the classes (B, K), or label maps (B, H, W).
        scores: Raw ensemble scores of these resolutions, or None without ensemble.
        views: The normalised views that the logits are of.
    """

    logits: Sequence[Tensor]
    target: Tensor
    scores: Tensor | None
    views: Sequence[Tensor]


Loss = Callable[[Outputs], MREDLosses]


class TrainingError(RuntimeError):
    """A run that cannot go on; the message says where it was and what is saved."""


def train_step(
    net: nn.Module,
    views: Sequence[Tensor],
    target: Tensor,
    loss: Loss,
    optimizer: torch.optim.Optimizer,
    *,
    scores: Tensor | None = None,
    members: Sequence[int] | None = None,
    clip_norm: float | None = None,
    precision: str = "fp32",
) -> MREDLosses:
    """Train all resolutions with one batch.

    All views go through ONE forward of `net` and one backward: what wraps the network to
    distribute it has to see every BatchNorm set at once.

    Args:
        net: From S normalised views (B, 3, H, W) to S logits.
        views: The views, largest first.
        target: Labels (B,) or label maps (B, H, W).
        loss: From what the step gives to the losses.
        optimizer: Moves the parameters.
        scores: Raw ensemble scores of all resolutions, shape (S,), or None without ensemble.
        members: The resolutions of the views, as indices; default is all.
        clip_norm: Largest norm of the gradient.
        precision: "fp32" or "bf16".

    Returns:
        The losses, detached.

    Raises:
        TrainingError: If the loss or its gradient is not finite; no parameter has been changed
            then (running statistics may have been).
    """
    with torch.autocast(views[0].device.type, torch.bfloat16, enabled=precision == "bf16"):
        logits = net(views) if members is None else net(views, members)
    if scores is not None and members is not None:
        scores = scores[list(members)]
    losses = loss(Outputs(logits, target, scores, views))
    if not torch.isfinite(losses.total):
        raise TrainingError(_what_is_not_finite(logits, views, losses))
    optimizer.zero_grad(set_to_none=True)
    losses.total.backward()  # type: ignore[no-untyped-call]
    # Without a limit the gradient stays as it is, but its norm is known.
    norm = nn.utils.clip_grad_norm_(net.parameters(), math.inf if clip_norm is None else clip_norm)
    if not torch.isfinite(norm):
        raise TrainingError(
            f"the loss is {losses.total.item()}, but the norm of its gradient is {norm.item()}"
            f"{_sets_that_are_not_finite(net)}"
        )
    optimizer.step()
    return MREDLosses(*(value.detach() for value in losses))


def _what_is_not_finite(
    logits: Sequence[Tensor], views: Sequence[Tensor], losses: MREDLosses
) -> str:
    sides = [min(view.shape[-2:]) for view in views]
    bad = [str(r) for r, z in zip(sides, logits, strict=True) if not z.isfinite().all()]
    where = f"logits at resolution {', '.join(bad)} are not finite" if bad else "logits are finite"
    return f"the loss is {losses.total.item()} ({where})"


def _sets_that_are_not_finite(net: nn.Module) -> str:
    """Name the BatchNorm sets with a bad gradient: they are what belongs to one resolution."""
    bad = {
        name
        for layer in switchable_layers(net)
        for name, batchnorm in layer.sets.items()
        for parameter in batchnorm.parameters()
        if parameter.grad is not None and not parameter.grad.isfinite().all()
    }
    return f" (not finite at resolution {', '.join(sorted(bad))})" if bad else ""


def set_training_mode(net: nn.Module, *, freeze_batchnorm: bool) -> None:
    """Put a network into training mode; frozen BatchNorms keep statistics, gamma and beta."""
    net.train()
    if freeze_batchnorm:
        for layer in net.modules():
            if isinstance(layer, _BatchNorm):
                layer.eval().requires_grad_(False)
