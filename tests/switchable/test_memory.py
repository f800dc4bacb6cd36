"""Steps with less memory: the same gradients, the same statistics, the same dropout."""

from __future__ import annotations

import copy
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from rsseg.losses.mred import MREDLosses, mred_loss
from rsseg.switchable.memory import kept_statistics
from rsseg.switchable.net import SwitchableNet
from rsseg.training.config import OptimConfig
from rsseg.training.optim import build_optimizer, set_learning_rates
from rsseg.training.step import Outputs, StepSettings, train_step

RESOLUTIONS = (24, 20, 16)
TARGET = torch.tensor([0, 1, 2, 0])


class Block(nn.Module):
    """A layer that counts its passes and tells their resolution."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(dropout)
        self.last = nn.Linear(8, 3)
        self.seen: list[tuple[int, bool]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append((x.shape[-1], torch.is_grad_enabled()))
        x = self.drop(torch.relu(self.norm(self.conv(x))))
        out: Tensor = self.last(x.mean(dim=(2, 3)))
        return out


def net(dropout: float = 0.0, batchnorm: Literal["private", "shared"] = "private") -> SwitchableNet:
    torch.manual_seed(0)
    return SwitchableNet(Block(dropout).double(), RESOLUTIONS, batchnorm=batchnorm).double()


def views() -> list[Tensor]:
    draw = torch.Generator().manual_seed(1)
    return [torch.randn(4, 3, r, r, generator=draw, dtype=torch.float64) for r in RESOLUTIONS]


def loss(outputs: Outputs) -> MREDLosses:
    return mred_loss(outputs.logits, outputs.target, outputs.scores)


def trained(network: SwitchableNet, mode: str, steps: int = 2) -> tuple[Any, MREDLosses]:
    """Train and return gradients, parameters and buffers, and the last losses."""
    network = copy.deepcopy(network).train()
    network.checkpointing = mode == "checkpoint"
    optimizer = build_optimizer(network, OptimConfig(lr=0.1))
    set_learning_rates(optimizer, {"other": 0.1})
    torch.manual_seed(7)
    for _ in range(steps):
        losses = train_step(
            network,
            views(),
            TARGET,
            loss,
            optimizer,
            scores=network.scores,
            settings=StepSettings(two_pass=mode == "two_pass"),
        )
    gradients = {f"{k}.grad": v.grad for k, v in network.named_parameters()}
    return {**network.state_dict(), **gradients}, losses


@pytest.mark.parametrize(
    ("mode", "batchnorm"),
    [("checkpoint", "private"), ("two_pass", "private"), ("two_pass", "shared")],
)
def test_gradients_and_statistics_are_those_of_a_normal_step(
    mode: str, batchnorm: Literal["private", "shared"]
) -> None:
    expected, normal = trained(net(batchnorm=batchnorm), "normal")
    found, losses = trained(net(batchnorm=batchnorm), mode)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-10, atol=1e-12)
    for one, other in zip(losses, normal, strict=True):
        torch.testing.assert_close(one, other)
    counters = [v for k, v in found.items() if "num_batches_tracked" in k]
    assert {int(counter) for counter in counters} == {2 if batchnorm == "private" else 6}


@pytest.mark.parametrize("mode", ["checkpoint", "two_pass"])
def test_statistics_are_equal_to_the_bit(mode: str) -> None:
    expected, _ = trained(net(), "normal", steps=1)
    found, _ = trained(net(), mode, steps=1)
    statistics = [name for name in expected if "running" in name]
    assert statistics
    assert all(torch.equal(found[name], expected[name]) for name in statistics)


def test_two_passes_draw_the_dropout_of_a_normal_step() -> None:
    expected, _ = trained(net(dropout=0.5), "normal")
    found, _ = trained(net(dropout=0.5), "two_pass")
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-10, atol=1e-12)


def test_checkpointed_dropout_is_the_same_in_both_passes() -> None:
    """Against finite differences, which a second draw would not meet."""
    network = net(dropout=0.5).train()
    network.checkpointing = True

    def total(seed: int) -> Tensor:
        torch.manual_seed(seed)
        logits = network(views())
        return mred_loss(logits, TARGET, None, variant="none").total

    weight = network.network.get_parameter("last.weight")
    (gradient,) = torch.autograd.grad(total(3), weight)
    with torch.no_grad():
        weight[0, 0] += 1e-6
        above = total(3)
        weight[0, 0] -= 2e-6
        slope = (above - total(3)) / 2e-6
    torch.testing.assert_close(gradient[0, 0], slope, rtol=1e-5, atol=1e-8)


def seen(mode: str) -> list[tuple[int, bool]]:
    network = net()
    network.checkpointing = mode == "checkpoint"
    optimizer = build_optimizer(network.train(), OptimConfig(lr=0.1))
    settings = StepSettings(two_pass=mode == "two_pass")
    train_step(network, views(), TARGET, loss, optimizer, scores=network.scores, settings=settings)
    found: list[tuple[int, bool]] = network.network.seen  # type: ignore[assignment]
    return found


def test_each_mode_forwards_what_it_says() -> None:
    assert seen("normal") == [(24, True), (20, True), (16, True)]
    first = [(side, False) for side in RESOLUTIONS]
    assert seen("two_pass") == [*first, *((side, True) for side in RESOLUTIONS)]
    # The largest last and once; the others again in the backward pass.
    passes = [side for side, _ in seen("checkpoint")]
    assert passes[:3] == [20, 16, 24]
    assert sorted(passes[3:]) == [16, 20]


def test_kept_statistics_come_back_after_an_error() -> None:
    network = net().train()
    layer = next(m for m in network.modules() if isinstance(m, _BatchNorm))
    momentum = layer.momentum

    def fail() -> None:
        with kept_statistics(network):
            assert layer.momentum == 0
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        fail()
    assert layer.momentum == momentum


def test_evaluation_checkpoints_nothing() -> None:
    network = net().eval()
    network.checkpointing = True
    with torch.no_grad():
        network(views())
    assert [side for side, _ in network.network.seen] == list(RESOLUTIONS)  # type: ignore[union-attr]
