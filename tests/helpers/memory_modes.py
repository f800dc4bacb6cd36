"""The gradients of a step in each memory mode, which have to be the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from rsseg.switchable.memory import TwoPasses
from rsseg.switchable.net import SwitchableNet

Gradients = Mapping[str, Tensor]


def total(logits: Sequence[Tensor]) -> Tensor:
    """Give a loss that every logit takes part in."""
    return torch.stack([z.square().sum() for z in logits]).sum()


def gradients_of(net: SwitchableNet, views: Sequence[Tensor], mode: str) -> Gradients:
    """Give the gradients by parameter, in the mode "normal", "checkpoint" or "two_pass"."""
    net.zero_grad()
    net.train().checkpointing = mode == "checkpoint"
    if mode == "two_pass":
        passes = TwoPasses(net, net.passes(views), views[0].device)
        torch.autograd.backward(total(passes.logits))
        passes.backward()
    else:
        torch.autograd.backward(total(net(views)))
    return {name: p.grad for name, p in net.named_parameters() if p.grad is not None}


def assert_modes_agree(net: SwitchableNet, views: Sequence[Tensor]) -> Gradients:
    """Check that all modes give the gradients of a normal step; give these."""
    normal = gradients_of(net, views, "normal")
    for mode in ("checkpoint", "two_pass"):
        found = gradients_of(net, views, mode)
        assert found.keys() == normal.keys()
        torch.testing.assert_close(found, normal)
    return normal
