"""Targets of the loss that are no plain classes: shares, smoothing, and a teacher from outside."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rsseg.losses.distillation import VARIANTS
from rsseg.losses.mred import mred_loss

S, B, K = 3, 5, 7


def given_logits(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(S, B, K, generator=draw, dtype=torch.float64, requires_grad=True)
    shares = torch.rand(B, K, generator=draw, dtype=torch.float64).softmax(dim=1)
    scores = torch.randn(S, generator=draw, dtype=torch.float64, requires_grad=True)
    return logits, shares, scores


@given(st.integers(0, 99), st.sampled_from([0.0, 0.1, 0.5]))
def test_shares_of_the_classes_cost_what_torch_says(seed: int, smoothing: float) -> None:
    logits, shares, scores = given_logits(seed)
    losses = mred_loss(logits, shares, scores, label_smoothing=smoothing)
    expected = sum(F.cross_entropy(z, shares, label_smoothing=smoothing) for z in logits)
    torch.testing.assert_close(losses.classification, expected)
    z_0 = torch.einsum("s,sbk->bk", scores.softmax(0), logits.detach())
    expected = F.cross_entropy(z_0, shares, label_smoothing=smoothing)
    torch.testing.assert_close(losses.ensemble, expected)


@given(st.integers(0, 99), st.floats(0, 0.9))
def test_smoothed_labels_cost_what_torch_says(seed: int, smoothing: float) -> None:
    logits, _, scores = given_logits(seed)
    target = torch.arange(B) % K
    target[0] = -100
    losses = mred_loss(logits, target, scores, label_smoothing=smoothing)
    expected = sum(F.cross_entropy(z, target, label_smoothing=smoothing) for z in logits)
    torch.testing.assert_close(losses.classification, expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_shares_of_one_class_are_its_label(variant: str) -> None:
    logits, _, scores = given_logits()
    target = torch.arange(B) % K
    by_label = mred_loss(logits, target, scores, variant=variant)
    by_share = mred_loss(logits, F.one_hot(target, K).double(), scores, variant=variant)
    for one, other in zip(by_label, by_share, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("variant", VARIANTS)
def test_fixed_teacher_adds_its_divergence_from_every_resolution(variant: str) -> None:
    logits, _, scores = given_logits()
    target = torch.arange(B) % K
    teacher = torch.randn(B, K, dtype=torch.float64, requires_grad=True)
    alone = mred_loss(logits, target, scores, variant=variant)
    taught = mred_loss(logits, target, scores, variant=variant, teacher=teacher, teacher_weight=0.3)
    p = teacher.softmax(1).detach()
    added = sum((p * (p.log() - z.log_softmax(1))).sum(1).mean() for z in logits)
    torch.testing.assert_close(taught.distillation - alone.distillation, 0.3 * added)
    torch.testing.assert_close(taught.classification, alone.classification)
    (grad,) = torch.autograd.grad(taught.total - alone.total, logits)
    torch.testing.assert_close(grad, 0.3 * (logits.softmax(2) - p).detach() / B)
    assert not torch.autograd.grad(taught.total, teacher, allow_unused=True)[0]


def test_teacher_of_other_classes_is_refused_with_both_shapes() -> None:
    logits, _, scores = given_logits()
    with pytest.raises(ValueError, match=r"shape \(5, 7\) as those of each.*got \(5, 8\)"):
        mred_loss(logits, torch.zeros(B, dtype=torch.long), scores, teacher=torch.zeros(5, 8))
