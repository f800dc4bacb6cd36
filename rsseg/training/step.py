"""One training step of any task: S views, one forward, one backward, one update.

It knows neither the task nor the data set; it is given the loss. Epochs and files are in
`loop`.

Source: Wang et al., ECCV 2020, https://arxiv.org/abs/2007.09558, Eq. 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.profiler import record_function
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from rsseg.common.distributed import all_gather_object, average, lost_process_errors
from rsseg.losses.mred import MREDLosses
from rsseg.switchable.convert import private_layers
from rsseg.switchable.memory import TwoPasses
from rsseg.switchable.net import SwitchableNet
from rsseg.switchable.step_scopes import one_step
from rsseg.training.diagnose import describe_largest


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
Teach = Callable[[Tensor], Tensor]  # from normalised views (B, 3, h, w) to a fixed network's logits


class TrainingError(RuntimeError):
    """A run that cannot go on; the message says where it was and what is saved."""


class NotFiniteError(TrainingError):
    """A step whose loss or gradient is not finite; no parameter has been changed."""


@dataclass(frozen=True)
class StepSettings:
    """How a step is computed.

    Args:
        precision: Number format of the forward pass, a key of AUTOCAST.
        two_pass: Forward twice, with the graph of one resolution at a time; see `memory`.
        clip_norm: Largest norm of the gradient; None for no limit.
    """

    precision: str = "fp32"
    two_pass: bool = False
    clip_norm: float | None = None


AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
SMALLEST_SCALE = 2.0**-10  # Below, fp16 has nothing left to gain: the loss itself overflows.


def fixed_teacher(network: nn.Module, precision: str) -> Teach:
    """Return a network as a teacher beside the ensemble: in evaluation mode, without gradients.

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


def make_scaler(precision: str, device: torch.device) -> torch.amp.GradScaler:
    """Return the scaler of the loss; for anything but fp16 it changes nothing."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")


def train_step(
    net: nn.Module,
    views: Sequence[Tensor],
    target: Tensor,
    loss: Loss,
    optimizer: torch.optim.Optimizer,
    *,
    scores: Tensor | None = None,
    members: Sequence[int] | None = None,
    settings: StepSettings = StepSettings(),
    scaler: torch.amp.GradScaler | None = None,
    parallel: DistributedDataParallel | None = None,
) -> MREDLosses:
    """Train all resolutions with one batch.

    Of several processes each brings its share of the batch; gradients and losses are the means
    over all, and so every process does the same with its weights.

    Args:
        net: From S normalised views (B, 3, H, W) to S logits.
        views: The views, largest first.
        target: Labels (B,), shares of the classes (B, K), or label maps (B, H, W).
        loss: From what the step gives to the losses.
        optimizer: Moves the parameters.
        scores: Raw ensemble scores of all resolutions, shape (S,), or None without ensemble.
        members: The resolutions of the views, as indices; default is all.
        settings: How it is computed.
        scaler: Scales the loss of fp16, see `make_scaler`. A step whose scaled gradient overflows
            is left out, and the next one scaled less.
        parallel: `net` in a wrapper whose backward pass averages the gradients of all processes,
            see `parallel`, and that gives the scores as well; by default they are averaged behind
            the last backward pass.

    Returns:
        The losses, detached.

    Raises:
        NotFiniteError: If the loss or its gradient is not finite; no parameter has been changed
            then (running statistics may have been).
    """
    scaler = scaler or make_scaler("fp32", views[0].device)
    with one_step(net):  # Quantisers learn from all passes together, if the step succeeds.
        if parallel is not None:
            (logits, scores), passes = _forward_parallel(parallel, views, members, settings), None
        else:
            logits, passes = _forward(net, views, members, settings)
            scores = scores if scores is None or members is None else scores[list(members)]
        with record_function("loss"):
            losses = loss(Outputs(logits, target, scores, views))
        optimizer.zero_grad(set_to_none=True)
        with record_function("backward"), lost_process_errors():
            scaler.scale(losses.total).backward()  # type: ignore[no-untyped-call]
            if passes:
                passes.backward()
        with record_function("exchange"):
            means = MREDLosses(*_mean_losses(losses))
            if parallel is None:
                average([p.grad for p in net.parameters() if p.grad is not None])
        with record_function("optimiser"):
            scaler.unscale_(optimizer)
            norm = _clipped_norm(net, settings.clip_norm)
            if not torch.isfinite(means.total + norm):  # One look: each waits for the device.
                fault = _fault(net, means, norm, scaler, (logits, views))
                if fault:
                    again = partial(_forward, net, views, members, settings)
                    where = describe_largest(net, again, views[0].device)
                    raise NotFiniteError(_message_of_faulty(f"{fault}; {where}", losses))
            scaler.step(optimizer)
            scaler.update()
    return means


def _clipped_norm(net: nn.Module, limit: float | None) -> Tensor:
    """Clip the gradient; return its norm before. Without a limit the gradient stays as it is."""
    return nn.utils.clip_grad_norm_(net.parameters(), math.inf if limit is None else limit)


def _mean_losses(losses: MREDLosses) -> Tensor:
    """Return the means of the losses over all processes, detached, shape (4,)."""
    values = torch.stack([value.detach() for value in losses])
    average([values])
    return values


def _message_of_faulty(text: str, losses: MREDLosses) -> str:
    """Return what the process says whose own loss is not finite, else what the first one says."""
    messages = all_gather_object((bool(torch.isfinite(losses.total)), text))
    faulty = [number for number, (finite, _) in enumerate(messages) if not finite]
    number = faulty[0] if faulty else 0
    return f"process {number}: {messages[number][1]}" if len(messages) > 1 else text


def _fault(
    net: nn.Module,
    losses: MREDLosses,
    norm: Tensor,
    scaler: torch.amp.GradScaler,
    outputs: tuple[Sequence[Tensor], Sequence[Tensor]],
) -> str | None:
    """Return what is not finite; None if the scale of fp16 alone was too large."""
    if not torch.isfinite(losses.total):
        fault = _what_is_not_finite(*outputs, losses)
    elif not scaler.is_enabled() or scaler.get_scale() < SMALLEST_SCALE:
        fault = (
            f"the loss is {losses.total.item()}, but the norm of its gradient is {norm.item()}"
            f"{_sets_that_are_not_finite(net)}"
        )
    else:
        return None
    scaler.update()  # Else the scaler would take the next step for a part of this one.
    return fault


def _forward(
    net: nn.Module, views: Sequence[Tensor], members: Sequence[int] | None, settings: StepSettings
) -> tuple[Sequence[Tensor], TwoPasses | None]:
    """Compute the logits; with two passes also what sends their gradients back later."""
    device = views[0].device

    def cast(forward: Callable[[], Any]) -> Any:
        with _autocast(settings, device):
            return forward()

    if not settings.two_pass:
        given = (views,) if members is None else (views, members)
        return cast(partial(net, *given)), None
    assert isinstance(net, SwitchableNet)
    single = [partial(cast, forward) for forward in net.passes(views, members)]
    passes = TwoPasses(net, single, device)
    return passes.logits, passes


def _forward_parallel(
    parallel: DistributedDataParallel,
    views: Sequence[Tensor],
    members: Sequence[int] | None,
    settings: StepSettings,
) -> tuple[Sequence[Tensor], Tensor | None]:
    """Compute the logits, and pick the scores of their resolutions."""
    with _autocast(settings, views[0].device), lost_process_errors():
        logits, scores = parallel(views, members)
    return logits, scores


def _autocast(settings: StepSettings, device: torch.device) -> torch.autocast:
    dtype = AUTOCAST[settings.precision]
    return torch.autocast(device.type, dtype, enabled=dtype is not None)


def _what_is_not_finite(
    logits: Sequence[Tensor], views: Sequence[Tensor], losses: MREDLosses
) -> str:
    sides = [min(view.shape[-2:]) for view in views]
    bad = [str(r) for r, z in zip(sides, logits, strict=True) if not z.isfinite().all()]
    where = f"logits at resolution {', '.join(bad)} are not finite" if bad else "logits are finite"
    return f"the loss is {losses.total.item()} ({where})"


def _sets_that_are_not_finite(net: nn.Module) -> str:
    """Return the names of the private sets with a bad gradient, each of one resolution."""
    bad = {
        name
        for layer in private_layers(net)
        for name, private in layer.sets.items()
        for parameter in private.parameters()
        if parameter.grad is not None and not parameter.grad.isfinite().all()
    }
    return f" (not finite at resolution {', '.join(sorted(bad))})" if bad else ""


def set_training_mode(
    net: nn.Module, *, freeze_batchnorm: bool, fixed_statistics: bool = False
) -> None:
    """Set training mode; frozen BatchNorms keep statistics, gamma and beta, or statistics alone."""
    net.train()
    if not (freeze_batchnorm or fixed_statistics):
        return
    for layer in net.modules():
        if isinstance(layer, _BatchNorm):
            layer.eval()
            if freeze_batchnorm:
                layer.requires_grad_(False)
