"""One training step: what it moves, by how much, and what it refuses."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from rsseg.images.preprocessing import Preprocessing
from rsseg.losses.mred import MREDLosses, ensemble_logits
from rsseg.losses.pixelwise import pixelwise_mred_loss
from rsseg.switchable.net import SwitchableNet
from rsseg.training.config import OptimConfig
from rsseg.training.optim import build_optimizer, set_learning_rates
from rsseg.training.step import Outputs, StepSettings, TrainingError, set_training_mode, train_step
from tests.helpers.small_runs import RESOLUTIONS, draw, loss_by_hand, loss_of, small_net

PLAIN = OptimConfig(lr=0.1, momentum=0.0, weight_decay=0.0)


def batch() -> tuple[list[Tensor], Tensor]:
    views, labels = draw(7)
    return [Preprocessing().normalise(view) for view in views], labels


def step(net: SwitchableNet, loss: Any = None, **options: Any) -> MREDLosses:
    """Train one step of plain gradient descent with the learning rate 0.1."""
    optimizer = build_optimizer(net, PLAIN)
    set_learning_rates(optimizer, {"other": 0.1, "encoder": 0.1})
    return train_step(
        net,
        *batch(),
        loss or loss_of,
        optimizer,
        scores=net.scores,
        settings=StepSettings(**options),
    )


def parameters(net: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in net.named_parameters()}


def net_without_dropout(**options: Any) -> SwitchableNet:
    net = small_net(**options)
    net.network.get_submodule("3").eval()
    return net


def gradients_by_hand(net: SwitchableNet) -> dict[str, Tensor]:
    """Gradient of the loss from a copy of the network, view by view."""
    net = copy.deepcopy(net)
    views, labels = batch()
    logits = [net.predict(view, side) for view, side in zip(views, RESOLUTIONS, strict=True)]
    found = torch.autograd.grad(loss_by_hand(net, logits, labels), list(net.parameters()))
    return dict(zip((name for name, _ in net.named_parameters()), found, strict=True))


@pytest.mark.parametrize("clip_norm", [None, 0.01, 1e6])
def test_step_moves_parameters_against_the_clipped_gradient(clip_norm: float | None) -> None:
    net = net_without_dropout()
    gradients, before = gradients_by_hand(net), parameters(net)
    norm = torch.cat([g.flatten() for g in gradients.values()]).norm().item()
    assert 0.01 < norm < 1e6
    step(net, clip_norm=clip_norm)
    factor = 1.0 if clip_norm is None else min(1.0, clip_norm / norm)
    for name, value in parameters(net).items():
        moved = before[name] - 0.1 * factor * gradients[name]
        torch.testing.assert_close(value, moved, rtol=1e-4, atol=1e-6)


def test_limit_that_is_not_reached_changes_nothing_to_the_bit() -> None:
    first, second = net_without_dropout(), net_without_dropout()
    step(first)
    step(second, clip_norm=1e6)
    ones, others = parameters(first), parameters(second)
    assert all(torch.equal(ones[name], others[name]) for name in ones)


def test_step_trains_statistics_and_parameters_of_every_batchnorm_set() -> None:
    net = small_net()
    before = copy.deepcopy(net.state_dict())
    step(net)
    after = net.state_dict()
    for side in RESOLUTIONS:
        kinds = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        for kind in kinds:
            name = f"network.1.sets.{side}.{kind}"
            assert not torch.equal(after[name], before[name])
    for kind in ("weight", "bias", "running_mean", "running_var"):
        ones, others = (after[f"network.1.sets.{side}.{kind}"] for side in RESOLUTIONS)
        assert not torch.equal(ones, others)


def test_statistics_after_a_step_are_those_of_the_views() -> None:
    net = small_net()
    convolution = copy.deepcopy(net.network.get_submodule("0"))
    step(net)
    for view, side in zip(batch()[0], RESOLUTIONS, strict=True):
        features = convolution(view).detach().transpose(0, 1).flatten(1)
        mean = net.state_dict()[f"network.1.sets.{side}.running_mean"]
        torch.testing.assert_close(mean, 0.1 * features.mean(dim=1), rtol=1e-4, atol=1e-6)


def test_scores_move_against_the_gradient_of_the_ensemble_alone() -> None:
    net = net_without_dropout()
    assert net.scores is not None
    views, labels = batch()
    with torch.no_grad():
        logits = copy.deepcopy(net)(views)
    largest = [
        nn.functional.interpolate(z, size=labels.shape[-2:], mode="bilinear") for z in logits
    ]
    scores = torch.ones(2, requires_grad=True)
    ensemble = ensemble_logits(torch.stack(largest), scores)
    nn.functional.cross_entropy(ensemble, labels.long(), ignore_index=255).backward()  # type: ignore[no-untyped-call]
    step(net)
    assert scores.grad is not None
    torch.testing.assert_close(net.scores.detach(), 1 - 0.1 * scores.grad, rtol=1e-5, atol=1e-6)


def test_ensemble_moves_nothing_but_the_scores() -> None:
    first, second = net_without_dropout(), net_without_dropout(scores=False)

    def dense(outputs: Outputs) -> MREDLosses:
        logits, target, scores, _ = outputs
        return pixelwise_mred_loss(logits, target, scores, variant="dense")

    losses = step(first, dense)
    assert losses.ensemble > 0
    assert step(second).ensemble == 0
    moved, others = parameters(first), parameters(second)
    assert not torch.equal(moved.pop("scores"), torch.ones(2))
    assert moved.keys() == others.keys()
    assert all(torch.equal(moved[name], others[name]) for name in others)


def test_half_precision_gives_a_finite_loss_near_the_full_one() -> None:
    seen: list[torch.dtype] = []
    net = net_without_dropout()

    def loss(outputs: Outputs) -> MREDLosses:
        seen.extend(z.dtype for z in outputs.logits)
        return loss_of(outputs)

    half = step(net, loss, precision="bf16")
    full = step(net_without_dropout())
    assert seen == [torch.bfloat16] * 2
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in net.parameters())
    torch.testing.assert_close(half.total, full.total, rtol=0.02, atol=0)


def test_losses_come_back_detached_and_add_up() -> None:
    losses = step(small_net())
    assert not any(value.requires_grad for value in losses)
    torch.testing.assert_close(losses.total, sum(losses[1:], torch.zeros(())))


def test_loss_that_is_not_a_number_names_the_resolution_and_moves_no_parameter() -> None:
    net = small_net()
    optimizer = build_optimizer(net, OptimConfig(lr=0.1))
    train_step(net, *batch(), loss_of, optimizer)
    before, momenta = parameters(net), copy.deepcopy(optimizer.state_dict())
    (large, small), labels = batch()
    small[0, 0, 0, 0] = torch.nan
    with pytest.raises(TrainingError, match=r"the loss is nan \(logits at resolution 8 are not"):
        train_step(net, [large, small], labels, loss_of, optimizer)
    assert all(torch.equal(before[name], value) for name, value in parameters(net).items())
    after = optimizer.state_dict()["state"]
    for index, state in momenta["state"].items():
        assert torch.equal(state["momentum_buffer"], after[index]["momentum_buffer"])


def test_gradient_that_is_not_a_number_moves_no_parameter() -> None:
    net = small_net()
    before = parameters(net)

    def rooted(outputs: Outputs) -> MREDLosses:
        total = (
            (0 * outputs.logits[0].sum()).square().sqrt()
        )  # The root of 0 is finite, its slope is not.
        return MREDLosses(total, total, total, total)

    with pytest.raises(TrainingError, match=r"the loss is 0\.0, but the norm of its gradient is"):
        step(net, rooted)
    assert all(torch.equal(before[name], value) for name, value in parameters(net).items())


@pytest.mark.parametrize("batchnorm", ["private", "shared"])
def test_frozen_batchnorms_stay_equal_to_the_bit_and_the_rest_learns(batchnorm: str) -> None:
    net = small_net(batchnorm=batchnorm)
    for layer in net.modules():
        if isinstance(layer, _BatchNorm):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.state_dict()["running_mean"], -1, 1)
    before = copy.deepcopy(net.state_dict())
    for _ in range(2):
        net.eval()  # As an evaluation in between does.
        set_training_mode(net, freeze_batchnorm=True)
        step(net)
    changed = {k for k, v in net.state_dict().items() if not torch.equal(v, before[k])}
    convolutions = {f"network.{i}.{kind}" for i in (0, 4) for kind in ("weight", "bias")}
    assert changed == convolutions | {"scores"}


def test_frozen_batchnorm_leaves_dropout_on() -> None:
    net = small_net().eval()
    set_training_mode(net, freeze_batchnorm=True)
    assert net.network.get_submodule("3").training
    assert not any(m.training for m in net.modules() if isinstance(m, _BatchNorm))
