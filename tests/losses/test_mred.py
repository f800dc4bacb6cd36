"""The reference of the MRED loss, against loops written out by hand and the paper's numbers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rsseg.losses.distillation import VARIANTS
from rsseg.losses.mred import MREDLosses, ensemble_logits, mred_loss

LN2 = 0.6931471805599453


def pairs_by_hand(variant: str, count: int) -> list[tuple[int, int, float]]:
    """Teacher, student, weight of every pair that a variant uses, from the paper's sums."""
    pairs = []
    for t in range(count + 1):
        for s in range(1, count + 1):
            if variant == "full" and t < s:
                pairs.append((t, s, 2 / (count + 1)))
            if variant == "dense" and 1 <= t < s:
                pairs.append((t, s, 2 / (count + 1)))
            if variant == "vanilla" and t == 0:
                pairs.append((t, s, 1.0))
            if variant == "from_largest" and t == 1 and s > 1:
                pairs.append((t, s, 1.0))
    return pairs


def losses_by_hand(z: Tensor, y: list[int], a: Tensor, variant: str) -> tuple[Tensor, ...]:
    """The three losses of logits (S, B, K), one sample and one pair at a time; -100 is ignored."""
    count, batch, _ = z.shape
    alpha = a.exp() / a.exp().sum()
    kept = [b for b in range(batch) if y[b] != -100]
    classification = ensemble = distillation = z.new_zeros(())
    for b in kept:
        z_0 = z.new_zeros(z.shape[2])
        for s in range(count):
            z_0 = z_0 + alpha[s] * z[s, b].detach()
            classification = classification - (z[s, b].exp() / z[s, b].exp().sum())[y[b]].log()
        ensemble = ensemble - (z_0.exp() / z_0.exp().sum())[y[b]].log()
        p = [x.exp() / x.exp().sum() for x in (z_0, *z[:, b])]
        for t, s, weight in pairs_by_hand(variant, count):
            teacher = p[t].detach()
            distillation = distillation + weight * (teacher * (teacher / p[s]).log()).sum()
    return tuple(x / max(1, len(kept)) for x in (classification, ensemble, distillation))


def example(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(count, 3, 4, dtype=torch.float64, generator=generator) * 2
    a = torch.randn(count, dtype=torch.float64, generator=generator)
    return z.requires_grad_(), a.requires_grad_()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("y", [[0, 3, 1], [2, -100, 1]])
def test_losses_and_gradients_equal_the_double_loop(variant: str, count: int, y: list[int]) -> None:
    z, a = example(count)
    found = mred_loss(z, torch.tensor(y), a, variant=variant)
    expected = losses_by_hand(z, y, a, variant)
    torch.testing.assert_close(tuple(found[1:]), expected, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(found.total, torch.stack(expected).sum(), rtol=1e-12, atol=1e-13)
    ours = torch.autograd.grad(found.total, [z, a])
    theirs = torch.autograd.grad(torch.stack(expected).sum(), [z, a])
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(("count", "terms", "weight"), [(5, 15, 1 / 3), (3, 6, 1 / 2)])
def test_full_variant_has_the_papers_terms_and_weight(
    count: int, terms: int, weight: float
) -> None:
    full = VARIANTS["full"](count)
    assert len(set(full)) == terms
    assert {term.weight for term in full} == {weight}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_lists_the_pairs_of_its_sum(variant: str) -> None:
    for count in range(1, 7):
        assert sorted(VARIANTS[variant](count)) == sorted(pairs_by_hand(variant, count))


def test_full_gradient_has_the_closed_form() -> None:
    z, a = example(4)
    distillation = mred_loss(z, torch.tensor([0, 1, 2]), a).distillation
    (found,) = torch.autograd.grad(distillation, z)
    p = torch.cat([ensemble_logits(z, a)[None], z]).softmax(dim=2).detach()
    for s in range(1, 5):
        expected = 2 / 5 * (s * p[s] - p[:s].sum(dim=0)) / 3
        torch.testing.assert_close(found[s - 1], expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_one_resolution_learns_nothing_by_distillation(variant: str) -> None:
    z, a = example(1)
    losses = mred_loss(z, torch.tensor([0, 1, 2]), a, variant=variant)
    (gradient,) = torch.autograd.grad(losses.distillation + 0 * z.sum(), z)
    assert gradient.abs().max() < 1e-12


@pytest.mark.parametrize("variant", VARIANTS)
def test_equal_logits_have_no_distillation_loss(variant: str) -> None:
    z = example(1)[0].detach().expand(5, -1, -1)
    losses = mred_loss(z, torch.tensor([0, 1, 2]), torch.randn(5), variant=variant)
    assert abs(losses.distillation.item()) < 1e-12


def test_uniform_logits_cost_the_log_of_the_classes() -> None:
    losses = mred_loss(torch.zeros(5, 2, 8), torch.tensor([0, 7]), torch.ones(5))
    torch.testing.assert_close(losses.classification.item(), 5 * 3 * LN2, rtol=1e-6, atol=0)
    torch.testing.assert_close(losses.ensemble.item(), 3 * LN2, rtol=1e-6, atol=0)


def test_teacher_trains_the_scores_and_not_the_logits() -> None:
    z, a = example(3)
    losses = mred_loss(z, torch.tensor([0, 1, 2]), a)
    for part, foreign in [
        (losses.ensemble, z),
        (losses.classification, a),
        (losses.distillation, a),
    ]:
        (none,) = torch.autograd.grad(part, foreign, retain_graph=True, materialize_grads=True)
        assert (none == 0).all()
    (from_ensemble,) = torch.autograd.grad(losses.ensemble, a, retain_graph=True)
    (from_total,) = torch.autograd.grad(losses.total, a)
    assert torch.equal(from_ensemble, from_total)
    assert from_total.abs().max() > 0


def test_ensemble_averages_with_the_softmax_of_the_scores() -> None:
    z, a = example(3)
    alpha = a.exp() / a.exp().sum()
    expected = alpha[0] * z[0] + alpha[1] * z[1] + alpha[2] * z[2]
    torch.testing.assert_close(ensemble_logits(z, a), expected)
    assert torch.autograd.gradcheck(lambda scores: ensemble_logits(z, scores), a)


def test_maps_cost_what_their_positions_cost_as_samples() -> None:
    z = torch.randn(3, 2, 4, 5, 6, dtype=torch.float64)
    y = torch.randint(0, 4, (2, 5, 6))
    y[0, :2] = -100
    a = torch.randn(3, dtype=torch.float64)
    samples = z.permute(0, 1, 3, 4, 2).flatten(1, 3)
    torch.testing.assert_close(mred_loss(z, y, a), mred_loss(samples, y.flatten(), a))


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([*VARIANTS]), st.integers(1, 4), st.integers(0, 99))
def test_ignored_samples_change_nothing(variant: str, count: int, seed: int) -> None:
    z, a = example(count, seed)
    with_void = torch.cat([z, 100 * torch.randn_like(z[:, :1])], dim=1).detach().requires_grad_()
    y = torch.tensor([0, 3, 2])
    plain = mred_loss(z, y, a, variant=variant)
    void = mred_loss(with_void, torch.cat([y, torch.tensor([-100])]), a, variant=variant)
    torch.testing.assert_close(tuple(void), tuple(plain))
    (gradient,) = torch.autograd.grad(void.total, with_void)
    assert (gradient[:, 3] == 0).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_batch_without_valid_position_gives_zeros(variant: str) -> None:
    z, a = example(3)
    losses = mred_loss(z, torch.full((3,), 255), a, variant=variant, ignore_index=255)
    assert [float(x.detach()) for x in losses] == [0, 0, 0, 0]
    for gradient in torch.autograd.grad(losses.total, [z, a]):
        assert (gradient == 0).all()


@pytest.mark.parametrize("variant", ["dense", "from_largest", "none"])
def test_without_scores_only_the_ensemble_loss_is_missing(variant: str) -> None:
    z, a = example(3)
    y = torch.tensor([0, 1, 2])
    with_scores, without = (
        mred_loss(z, y, a, variant=variant),
        mred_loss(z, y, None, variant=variant),
    )
    assert float(without.ensemble) == 0
    torch.testing.assert_close(without.total, with_scores.total - with_scores.ensemble)


def test_distillation_scale_is_a_factor() -> None:
    z, a = example(3)
    y = torch.tensor([0, 1, 2])
    once, thrice = mred_loss(z, y, a), mred_loss(z, y, a, distillation_scale=3.0)
    torch.testing.assert_close(thrice.distillation, 3 * once.distillation)
    torch.testing.assert_close(thrice.total, once.total + 2 * once.distillation)


def test_sequence_of_logits_is_stacked() -> None:
    z, a = example(3)
    y = torch.tensor([0, 1, 2])
    torch.testing.assert_close(mred_loss(list(z), y, a), mred_loss(z, y, a))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    z, a = (x.detach().to(dtype) for x in example(3))
    y = torch.tensor([0, 1, 2])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = mred_loss(z.requires_grad_(), y, a)
    assert {x.dtype for x in half} == {torch.float32}
    torch.testing.assert_close(half, mred_loss(z.float(), y, a.float()))
    half.total.backward()  # type: ignore[no-untyped-call]
    assert z.grad is not None
    assert z.grad.dtype == dtype


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_any_integer_type_of_target_gives_the_same_losses(dtype: torch.dtype) -> None:
    # Class 156 is what -100 becomes in uint8: it must not be ignored.
    z, y = torch.randn(2, 3, 160), torch.tensor([156, 1, 2])
    torch.testing.assert_close(mred_loss(z, y.to(dtype), None, variant="dense"), dense(z, y))


def dense(z: Tensor, y: Tensor) -> MREDLosses:
    return mred_loss(z, y, None, variant="dense")


def test_wrong_number_of_scores_names_both_numbers() -> None:
    with pytest.raises(ValueError, match=r"each of the 3 resolutions, got shape \(2,\)"):
        mred_loss(torch.zeros(3, 1, 2), torch.tensor([0]), torch.ones(2))
    with pytest.raises(ValueError, match=r"each of the 3 resolutions, got shape \(2,\)"):
        ensemble_logits(torch.zeros(3, 1, 2), torch.ones(2))


def test_unknown_variant_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'ful'.*full, vanilla, dense, from_largest, none"):
        mred_loss(torch.zeros(3, 1, 2), torch.tensor([0]), torch.ones(3), variant="ful")


@pytest.mark.parametrize("variant", ["full", "vanilla"])
def test_missing_scores_name_the_variants_that_need_none(variant: str) -> None:
    with pytest.raises(ValueError, match="dense, from_largest or none"):
        mred_loss(torch.zeros(3, 1, 2), torch.tensor([0]), None, variant=variant)


@pytest.mark.parametrize(
    ("logits", "target", "message"),
    [
        (torch.zeros(0, 1, 2), torch.tensor([0]), "hold no resolution"),
        ([], torch.tensor([0]), "hold no resolution"),
        (torch.zeros(3, 2), torch.tensor([0]), r"\(S, B, K, H, W\), got torch.float32 \(3, 2\)"),
        (torch.zeros(1, 1, 2, dtype=torch.int64), torch.tensor([0]), "floating point"),
        ([torch.zeros(1, 2), torch.zeros(1, 3)], torch.tensor([0]), "pixelwise_mred_loss"),
        (torch.zeros(1, 1, 2), torch.tensor([0, 1]), r"shape \(1,\), got \(2,\)"),
        (torch.zeros(1, 1, 2, 3, 4), torch.tensor([0]), r"shape \(1, 3, 4\), got \(1,\)"),
        (torch.zeros(1, 1, 2), torch.tensor([0.0]), "integer classes, got torch.float32"),
        (torch.zeros(1, 1, 2), torch.tensor([True]), "integer classes, got torch.bool"),
        (torch.zeros(1, 1, 2), torch.tensor([2]), r"0\.\.1 or ignore_index -100, found 2"),
        (torch.zeros(1, 1, 2), torch.tensor([-1]), r"0\.\.1 or ignore_index -100, found -1"),
    ],
)
def test_bad_input_is_named(logits: Tensor | list[Tensor], target: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mred_loss(logits, target, None, variant="none")
