"""Parameter groups, learning rates and the steps that follow, against formulas by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from rsseg.switchable.net import SwitchableNet
from rsseg.training.config import OptimConfig, ScheduleConfig
from rsseg.training.optim import (
    build_optimizer,
    learning_rates,
    schedule_factor,
    set_learning_rates,
)


class Segmenter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.head = nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encoder(images))
        return logits


def double_net() -> SwitchableNet:
    return SwitchableNet(Segmenter(), [16, 8]).double()


def settings_by_name(config: OptimConfig, net: nn.Module) -> dict[str, tuple[str, float]]:
    """Rate and weight decay of every parameter that the optimiser moves."""
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    return {
        names[id(parameter)]: (group["rate"], group["weight_decay"])
        for group in build_optimizer(net, config).param_groups
        for parameter in group["params"]
    }


@pytest.mark.parametrize("decay_batchnorm", [True, False])
@pytest.mark.parametrize("decay_scores", [True, False])
def test_groups_give_each_parameter_its_rate_and_decay(
    decay_batchnorm: bool, decay_scores: bool
) -> None:
    config = OptimConfig(
        lr=0.1, weight_decay=0.5, decay_batchnorm=decay_batchnorm, decay_scores=decay_scores
    )
    net = double_net()
    decays = {"scores": decay_scores, "sets": decay_batchnorm}
    expected = {}
    for name, _ in net.named_parameters():
        kind = next((kind for kind in decays if kind in name), "other")
        rate = "encoder" if "encoder" in name else "other"
        expected[name] = (rate, 0.5 * decays.get(kind, True))
    assert settings_by_name(config, net) == expected


def test_scores_are_not_decayed_by_default_and_batchnorm_is() -> None:
    settings = settings_by_name(OptimConfig(lr=0.1, weight_decay=0.5), double_net())
    assert settings["scores"] == ("other", 0.0)
    assert settings["network.encoder.1.sets.8.weight"] == ("encoder", 0.5)
    assert settings["network.head.0.sets.16.bias"] == ("other", 0.5)


def test_frozen_parameters_are_in_no_group() -> None:
    net = double_net()
    for parameter in net.network.get_submodule("encoder").parameters():
        parameter.requires_grad_(False)
    settings = settings_by_name(OptimConfig(lr=0.1), net)
    assert settings.keys() == {n for n, p in net.named_parameters() if p.requires_grad}
    assert not any("encoder" in name for name in settings)


@pytest.mark.parametrize("nesterov", [False, True])
def test_two_steps_follow_the_formula_of_sgd(nesterov: bool) -> None:
    config = OptimConfig(lr=0.1, encoder_lr=0.02, momentum=0.8, weight_decay=0.3, nesterov=nesterov)
    net = double_net()
    optimizer = build_optimizer(net, config)
    values = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    momenta = {name: torch.zeros_like(value) for name, value in values.items()}
    for epoch in (3.0, 4.0):
        rates = learning_rates(config, ScheduleConfig(kind="cosine"), epoch, 10)
        set_learning_rates(optimizer, rates)
        for name, parameter in net.named_parameters():
            parameter.grad = torch.randn_like(parameter)
            gradient = parameter.grad + (0.0 if name == "scores" else 0.3) * values[name]
            momenta[name] = 0.8 * momenta[name] + gradient
            direction = gradient + 0.8 * momenta[name] if nesterov else momenta[name]
            base = 0.02 if "encoder" in name else 0.1
            rate = base * 0.5 * (1 + math.cos(math.pi * epoch / 10))
            values[name] = values[name] - rate * direction
        optimizer.step()
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(parameter.detach(), values[name], rtol=1e-10, atol=1e-10)


@given(epoch=st.floats(0, 120))
def test_cosine_and_poly_are_their_formulas(epoch: float) -> None:
    cosine = schedule_factor(ScheduleConfig(kind="cosine"), epoch, 120)
    assert cosine == pytest.approx(0.5 + 0.5 * math.cos(math.pi * epoch / 120), abs=1e-9)
    poly = schedule_factor(ScheduleConfig(kind="poly", power=0.7), epoch, 120)
    assert poly == pytest.approx((1 - epoch / 120) ** 0.7, abs=1e-9)


@pytest.mark.parametrize("kind", ["cosine", "poly"])
@pytest.mark.parametrize("warmup", [0.0, 2.5])
def test_falling_schedules_begin_at_one_and_end_at_zero(kind: Any, warmup: float) -> None:
    schedule = ScheduleConfig(kind=kind, warmup_epochs=warmup)
    assert schedule_factor(schedule, warmup, 120) == 1.0
    assert schedule_factor(schedule, 120.0, 120) == 0.0


@given(epoch=st.floats(0, 10, exclude_max=True))
def test_warmup_rises_linearly_and_the_rest_takes_the_epochs_that_are_left(epoch: float) -> None:
    schedule = ScheduleConfig(kind="cosine", warmup_epochs=4)
    factor = schedule_factor(schedule, epoch, 10)
    after = 0.5 + 0.5 * math.cos(math.pi * (epoch - 4) / 6)
    assert factor == pytest.approx(epoch / 4 if epoch < 4 else after, abs=1e-9)


@given(
    kind=st.sampled_from(["cosine", "poly", "constant"]),
    warmup=st.floats(0, 20),
    epochs=st.integers(1, 10),
    part=st.floats(0, 1, exclude_max=True),
)
def test_factor_is_always_a_share(kind: Any, warmup: float, epochs: int, part: float) -> None:
    factor = schedule_factor(ScheduleConfig(kind=kind, warmup_epochs=warmup), part * epochs, epochs)
    assert isinstance(factor, float)
    assert 0 <= factor <= 1


def test_stages_change_exactly_at_their_milestones() -> None:
    optim = OptimConfig(lr=(3e-3, 1.5e-3, 7e-4), encoder_lr=(5e-4, 2.5e-4, 1e-4))
    schedule = ScheduleConfig(kind="staged", milestones=(100, 200))
    expected = {
        0.0: (5e-4, 3e-3),
        99.999: (5e-4, 3e-3),
        100.0: (2.5e-4, 1.5e-3),
        199.999: (2.5e-4, 1.5e-3),
        200.0: (1e-4, 7e-4),
        299.999: (1e-4, 7e-4),
    }
    for epoch, (encoder, other) in expected.items():
        rates = learning_rates(optim, schedule, epoch, 300)
        assert rates == {"encoder": encoder, "other": other}


def test_encoder_takes_the_common_learning_rate_if_it_has_none() -> None:
    rates = learning_rates(OptimConfig(lr=0.1), ScheduleConfig(kind="constant"), 7, 10)
    assert rates == {"encoder": 0.1, "other": 0.1}


def test_momentum_of_zero_at_the_start_changes_no_step() -> None:
    torch.manual_seed(0)
    ours, plain = nn.Linear(4, 3), nn.Linear(4, 3)
    plain.load_state_dict(ours.state_dict())
    optimizer = build_optimizer(ours, OptimConfig(lr=0.1, momentum=0.9, weight_decay=0.01))
    set_learning_rates(optimizer, {"other": 0.1})
    other = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    assert all("momentum_buffer" in optimizer.state[p] for p in ours.parameters())
    for seed in range(3):
        x = torch.randn(5, 4, generator=torch.Generator().manual_seed(seed))
        for network, sgd in ((ours, optimizer), (plain, other)):
            sgd.zero_grad()
            network(x).square().sum().backward()
            sgd.step()
    for one, same in zip(ours.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one, same)


def test_fused_kernel_takes_parameters_that_have_their_first_gradient_later() -> None:
    # As sandwich steps do on a device, where the kernel is fused; that of the CPU is as strict.
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    optimizer = build_optimizer(nn.ModuleList([first, second]), OptimConfig(lr=0.1))
    for group in optimizer.param_groups:
        group["fused"] = True
        group["lr"] = 0.1
    for networks in ((first,), (first, second)):
        optimizer.zero_grad()
        sum(network(torch.ones(1, 2)).sum() for network in networks).backward()
        optimizer.step()
    assert optimizer.state[second.weight]["momentum_buffer"].abs().sum() > 0


def test_adamw_is_that_of_torch() -> None:
    torch.manual_seed(0)
    ours, plain = nn.Linear(4, 3), nn.Linear(4, 3)
    plain.load_state_dict(ours.state_dict())
    config = OptimConfig(kind="adamw", lr=0.1, weight_decay=0.05, betas=(0.8, 0.95), eps=1e-6)
    optimizer = build_optimizer(ours, config)
    set_learning_rates(optimizer, {"other": 0.1})
    other = torch.optim.AdamW(
        plain.parameters(), lr=0.1, weight_decay=0.05, betas=(0.8, 0.95), eps=1e-6
    )
    for seed in range(3):
        x = torch.randn(5, 4, generator=torch.Generator().manual_seed(seed))
        for network, adam in ((ours, optimizer), (plain, other)):
            adam.zero_grad()
            network(x).square().sum().backward()
            adam.step()
    for one, same in zip(ours.parameters(), plain.parameters(), strict=True):
        # The fused kernel rounds in another order than the loop over the parameters.
        torch.testing.assert_close(one, same, rtol=1e-6, atol=1e-7)


def test_no_decay_leaves_out_norms_and_biases_and_nothing_else() -> None:
    net = double_net()
    settings = settings_by_name(OptimConfig(lr=0.1, weight_decay=0.5, no_decay=True), net)
    for name, parameter in net.named_parameters():
        assert settings[name][1] == (0.5 if parameter.ndim > 1 else 0.0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "adamw", "nesterov": True}, "are for kind 'sgd'; adamw has betas"),
        ({"kind": "adamw", "momentum": 0.8}, "momentum 0.8 and nesterov false are for kind 'sgd'"),
        ({"betas": (0.5, 0.9)}, "betas and eps are for kind 'adamw'"),
        ({"body_lr": 0.1, "encoder_lr": 0.1}, "encoder_lr is an older name of body_lr"),
    ],
)
def test_settings_without_effect_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OptimConfig(lr=0.1, **values)
