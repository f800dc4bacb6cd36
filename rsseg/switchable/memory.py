"""Less memory in a training step, at the price of computing some forward passes twice.

"checkpoint" keeps the graph of the largest resolution alone: the others are forwarded first, only
their inputs are kept, and the backward pass forwards each again. "two_pass" computes the
logits of all resolutions without any graph, the loss and its gradient with respect to them, and
then forwards and backwards one resolution after another.

Gradients are those of a normal step. A pass that is repeated leaves the statistics of BatchNorm
as they are, so each step counts once, and draws the same dropout as the first time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from rsseg.switchable.step_scopes import paused

MODES = ("normal", "checkpoint", "two_pass")
Forward = Callable[[], Tensor]


@contextmanager
def kept_statistics(network: nn.Module) -> Iterator[None]:
    """Run forward passes in a `with` block as in training, and keep all statistics as they are.

    Those of BatchNorms, and what layers learn from that learn in the forward pass.
    """
    layers = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.training]
    before = [(layer, layer.momentum, _counter(layer)) for layer in layers]
    for layer in layers:
        # Not None for the buffers: the repeated pass has to run the same operations as the first.
        layer.momentum = 0.0
    try:
        with paused(network):
            yield
    finally:
        for layer, momentum, counter in before:
            layer.momentum = momentum
            if layer.num_batches_tracked is not None and counter is not None:
                layer.num_batches_tracked.copy_(counter)


def _counter(layer: _BatchNorm) -> Tensor | None:
    count = layer.num_batches_tracked
    return None if count is None else count.clone()


def checkpointed(network: nn.Module, forward: Forward, views: Tensor) -> Tensor:
    """Run a forward pass whose activations are not kept: the backward pass runs it again.

    Args:
        network: Whose BatchNorm statistics the repeated pass leaves alone.
        forward: The pass; it chooses the BatchNorm sets itself, since it is run again later.
        views: The input, whose device the pass draws its dropout on.
    """

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), kept_statistics(network)

    logits: Tensor = checkpoint(
        lambda _views: forward(), views, use_reentrant=False, context_fn=contexts
    )
    return logits


def forward_largest_last(
    network: nn.Module, passes: Sequence[Forward], views: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """Run one pass for each view, all but the largest checkpointed, and the largest last.

    The backward pass begins with what was forwarded last: the largest graph is gone when the
    smaller ones are made again.
    """
    logits = [
        checkpointed(network, forward, view)
        for forward, view in zip(passes[1:], views[1:], strict=True)
    ]
    return (passes[0](), *logits)


class TwoPasses:
    """The logits of several passes without graph, and later their gradients, one by one.

    Args:
        network: Whose BatchNorm statistics the second pass leaves alone.
        passes: One forward pass for each resolution.
        device: Where dropout is drawn.

    Attributes:
        logits: What the passes gave, as leaves whose gradient the loss fills.
    """

    def __init__(self, network: nn.Module, passes: Sequence[Forward], device: torch.device) -> None:
        self.network = network
        self.passes = passes
        self.device = device
        self._states = []
        self.logits: list[Tensor] = []
        for forward in passes:
            self._states.append(_generator_state(device))
            with torch.no_grad():
                self.logits.append(forward().detach().requires_grad_())

    def backward(self) -> None:
        """Run the passes again and send the gradient of each one's logits back through it."""
        devices = [self.device] if self.device.type == "cuda" else []
        for forward, leaf, state in zip(self.passes, self.logits, self._states, strict=True):
            if leaf.grad is None:
                continue
            with torch.random.fork_rng(devices), kept_statistics(self.network):
                _set_generator_state(state, self.device)
                logits = forward()
            logits.backward(leaf.grad)  # type: ignore[no-untyped-call]


def _generator_state(device: torch.device) -> tuple[Tensor, Tensor | None]:
    on_device = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return torch.get_rng_state(), on_device


def _set_generator_state(state: tuple[Tensor, Tensor | None], device: torch.device) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], device)
