"""The streamed loss over label maps, against the reference over logits resized by PyTorch."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import rsseg.losses.pixelwise
from rsseg.losses.distillation import VARIANTS
from rsseg.losses.mred import MREDLosses, mred_loss
from rsseg.losses.pixelwise import pixelwise_mred_loss


class Case(NamedTuple):
    logits: list[Tensor]
    target: Tensor
    scores: Tensor


def case(
    sizes: list[tuple[int, int]],
    target_size: tuple[int, int],
    *,
    batch: int = 2,
    classes: int = 4,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> Case:
    """Random logits, a label map with a quarter of void, random scores."""
    g = torch.Generator().manual_seed(seed)
    logits = [torch.randn(batch, classes, *s, dtype=dtype, generator=g) * 3 for s in sizes]
    target = torch.randint(0, classes, (batch, *target_size), generator=g)
    target[torch.rand(target.shape, generator=g) < 0.25] = 255
    scores = torch.randn(len(sizes), dtype=dtype, generator=g)
    return Case([z.requires_grad_() for z in logits], target.byte(), scores.requires_grad_())


SMALL = [(7, 9), (5, 6), (2, 3)]


def reference(
    logits: list[Tensor], target: Tensor, scores: Tensor | None, variant: str
) -> MREDLosses:
    resized = [F.interpolate(z, size=target.shape[1:], mode="bilinear") for z in logits]
    return mred_loss(resized, target, scores, variant=variant, ignore_index=255)


def assert_equal_to_reference(c: Case, variant: str, tolerance: float) -> None:
    found = pixelwise_mred_loss(*c, variant=variant)
    expected = reference(*c, variant)
    torch.testing.assert_close(tuple(found), tuple(expected), rtol=tolerance, atol=tolerance)
    inputs = [*c.logits, c.scores]
    torch.testing.assert_close(
        torch.autograd.grad(found.total, inputs),
        torch.autograd.grad(expected.total, inputs),
        rtol=tolerance,
        atol=tolerance,
    )


sides = st.integers(1, 23)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(sides, sides), min_size=1, max_size=5),
    st.tuples(sides, sides),
    st.sampled_from([*VARIANTS]),
    st.sampled_from([(torch.float64, 1e-10), (torch.float32, 1e-5)]),
    st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(0, 99)),
)
def test_losses_and_gradients_equal_the_reference(
    sizes: list[tuple[int, int]],
    target_size: tuple[int, int],
    variant: str,
    precision: tuple[torch.dtype, float],
    batch_classes_seed: tuple[int, int, int],
) -> None:
    dtype, tolerance = precision
    batch, classes, seed = batch_classes_seed
    c = case(sizes, target_size, batch=batch, classes=classes, dtype=dtype, seed=seed)
    assert_equal_to_reference(c, variant, tolerance)


@pytest.mark.parametrize("band", [1, 700, 5000, 1 << 24])
@pytest.mark.parametrize("columns", [5, 88])
def test_cutting_into_bands_and_columns_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, band: int, columns: int
) -> None:
    monkeypatch.setattr(rsseg.losses.pixelwise, "_CPU_BAND", band)
    monkeypatch.setattr("rsseg.losses.band_resize._CPU_COLUMNS", columns)
    assert_equal_to_reference(case(SMALL, (29, 37), batch=3), "full", 1e-10)


@pytest.mark.parametrize("target_size", [(352, 352), (96, 353)])
def test_sizes_of_the_paper_equal_the_reference(target_size: tuple[int, int]) -> None:
    c = case([(88, 88), (56, 56), (24, 24)], target_size, batch=1, classes=5)
    assert_equal_to_reference(c, "full", 1e-10)


@pytest.mark.parametrize("variant", ["dense", "from_largest", "none"])
def test_without_scores_the_losses_equal_the_reference(variant: str) -> None:
    logits, target, _ = case(SMALL, (20, 30))
    found = pixelwise_mred_loss(logits, target, None, variant=variant)
    expected = reference(logits, target, None, variant)
    torch.testing.assert_close(tuple(found), tuple(expected), rtol=1e-10, atol=1e-10)
    ours = torch.autograd.grad(found.total, logits)
    theirs = torch.autograd.grad(expected.total, logits)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_gradients_equal_finite_differences_of_the_scores() -> None:
    logits, target, scores = case(SMALL, (8, 9))
    fixed = [z.detach() for z in logits]

    def total(a: Tensor) -> Tensor:
        # Finite differences would see the scores move the teacher, which is detached.
        return pixelwise_mred_loss(fixed, target, a, variant="dense").total

    assert torch.autograd.gradcheck(total, scores)


def test_extreme_logits_stay_finite_and_equal_the_reference() -> None:
    c = case(SMALL, (20, 30))
    for z in c.logits:
        z.data *= 1000
    assert_equal_to_reference(c, "full", 1e-10)
    narrow = Case([z.detach().float().requires_grad_() for z in c.logits], c.target, c.scores)
    losses = pixelwise_mred_loss(*narrow)
    losses.total.backward()  # type: ignore[no-untyped-call]
    assert all(x.isfinite() for x in losses)


def test_equal_logits_have_no_distillation_loss() -> None:
    logits, target, scores = case([(6, 6)], (20, 30))
    assert pixelwise_mred_loss(logits * 4, target, scores.expand(4)).distillation.abs() < 1e-12


@pytest.mark.parametrize("variant", VARIANTS)
def test_label_map_without_valid_pixel_gives_zeros(variant: str) -> None:
    logits, target, scores = case(SMALL, (20, 30))
    losses = pixelwise_mred_loss(logits, torch.full_like(target, 255), scores, variant=variant)
    assert [float(x.detach()) for x in losses] == [0, 0, 0, 0]
    for gradient in torch.autograd.grad(losses.total, [*logits, scores]):
        assert (gradient == 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    c = case(SMALL, (20, 30), dtype=torch.float32)
    half = [z.detach().to(dtype).requires_grad_() for z in c.logits]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = pixelwise_mred_loss(half, c.target, c.scores)
    exact = [z.detach().float().requires_grad_() for z in half]
    expected = reference(exact, c.target, c.scores, "full")
    torch.testing.assert_close(tuple(found), tuple(expected), rtol=1e-5, atol=1e-5)
    ours = torch.autograd.grad(found.total, half)
    theirs = torch.autograd.grad(expected.total, exact)
    assert {g.dtype for g in ours} == {dtype}
    torch.testing.assert_close(ours, tuple(g.to(dtype) for g in theirs), rtol=1e-2, atol=1e-6)


def test_a_loss_scale_keeps_float16_gradients_alive() -> None:
    z = torch.full((1, 2, 2, 2), 6.0, dtype=torch.float16)
    z[:, 1] = -6.0
    z.requires_grad_()
    target = torch.zeros(1, 200, 200, dtype=torch.uint8)
    target[0, 0, 0] = 1
    loss = pixelwise_mred_loss([z], target, None, variant="none").total
    (plain,) = torch.autograd.grad(loss, z, retain_graph=True)
    (scaled,) = torch.autograd.grad(loss * 2.0**16, z)
    assert (scaled != 0).all()
    torch.testing.assert_close(scaled.float() / 2**16, plain.float(), rtol=0.1, atol=1e-7)


def test_strides_of_the_logits_change_nothing() -> None:
    c = case([(8, 8), (6, 6), (4, 4)], (20, 30))
    views = [
        c.logits[0].to(memory_format=torch.channels_last),
        c.logits[1].transpose(2, 3).contiguous().transpose(2, 3),
        torch.cat([c.logits[2]] * 2, dim=1)[:, :4],
    ]
    assert not any(z.is_contiguous() for z in views)
    found = pixelwise_mred_loss(views, c.target, c.scores)
    expected = pixelwise_mred_loss(*c)
    torch.testing.assert_close(tuple(found), tuple(expected))
    ours = torch.autograd.grad(found.total, c.logits)
    torch.testing.assert_close(ours, torch.autograd.grad(expected.total, c.logits))


def test_only_the_total_carries_gradients() -> None:
    losses = pixelwise_mred_loss(*case(SMALL, (20, 30)))
    assert [x.requires_grad for x in losses] == [True, False, False, False]


def test_without_gradients_the_losses_are_the_same() -> None:
    logits, target, scores = case(SMALL, (20, 30))
    expected = pixelwise_mred_loss(logits, target, scores)
    with torch.no_grad():
        found = pixelwise_mred_loss(logits, target, scores)
    assert not found.total.requires_grad
    torch.testing.assert_close(tuple(found), tuple(x.detach() for x in expected))
    frozen = pixelwise_mred_loss([z.detach() for z in logits], target, scores)
    (ours,) = torch.autograd.grad(frozen.total, scores)
    torch.testing.assert_close(ours, torch.autograd.grad(expected.total, scores)[0])


def test_second_derivative_is_refused() -> None:
    logits, target, scores = case(SMALL, (20, 30))
    loss = pixelwise_mred_loss(logits, target, scores).total
    with pytest.raises(RuntimeError, match="no second derivatives"):
        torch.autograd.grad(loss, scores, create_graph=True)


def test_backward_twice_adds_up() -> None:
    logits, target, scores = case(SMALL, (20, 30))
    loss = pixelwise_mred_loss(logits, target, scores).total
    (once,) = torch.autograd.grad(loss, logits[0], retain_graph=True)
    for _ in range(2):
        loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]
    assert logits[0].grad is not None
    torch.testing.assert_close(logits[0].grad, 2 * once)


# Where tracing stops, the compiler looks at .grad of tensors that are not leaves.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
def test_compiled_caller_gives_the_same_losses() -> None:
    c = case(SMALL, (20, 30))

    @torch.compile(backend="eager")
    def step(logits: list[Tensor]) -> Tensor:
        return 2 * pixelwise_mred_loss([z + 1 for z in logits], c.target, c.scores).total

    found, expected = step(c.logits), 2 * pixelwise_mred_loss(*c).total
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad(found, c.logits), torch.autograd.grad(expected, c.logits)
    )


@pytest.mark.parametrize(
    ("logits", "target", "message"),
    [
        ([], torch.zeros(1, 4, 4, dtype=torch.uint8), r"equal B and K, got \[\]"),
        ([torch.zeros(1, 2, 3)], torch.zeros(1, 4, 4, dtype=torch.uint8), r"\(B, K, h, w\)"),
        (
            [torch.zeros(1, 2, 3, 3), torch.zeros(1, 3, 3, 3)],
            torch.zeros(1, 4, 4, dtype=torch.uint8),
            r"got \[\(1, 2, 3, 3\), \(1, 3, 3, 3\)\]",
        ),
        ([torch.zeros(2, 2, 3, 3)], torch.zeros(1, 4, 4, dtype=torch.uint8), r"B = 2.*\(1, 4, 4\)"),
        ([torch.zeros(1, 2, 3, 3)], torch.zeros(1, dtype=torch.uint8), r"\(B, H, W\).*\(1,\)"),
        ([torch.zeros(1, 2, 3, 3)], torch.zeros(1, 4, 4), "integer classes, got torch.float32"),
        (
            [torch.zeros(1, 2, 3, 3)],
            torch.full((1, 4, 4), 7),
            r"0\.\.1 or ignore_index 255, found 7",
        ),
    ],
)
def test_bad_input_is_named(logits: list[Tensor], target: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pixelwise_mred_loss(logits, target, None, variant="none")


def test_bad_scores_and_variants_are_named() -> None:
    logits, target, _ = case(SMALL, (4, 5))
    with pytest.raises(ValueError, match=r"each of the 3 resolutions, got shape \(2,\)"):
        pixelwise_mred_loss(logits, target, torch.ones(2))
    with pytest.raises(ValueError, match="full, vanilla, dense, from_largest, none"):
        pixelwise_mred_loss(logits, target, torch.ones(3), variant="all")
    with pytest.raises(ValueError, match="dense, from_largest or none"):
        pixelwise_mred_loss(logits, target, None)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("ensemble", [True, False])
@pytest.mark.parametrize("teacher_size", [(7, 9), (3, 4), (12, 16)])
def test_fixed_teacher_adds_its_divergences_as_the_reference_does(
    variant: str, ensemble: bool, teacher_size: tuple[int, int]
) -> None:
    if not ensemble and variant in ("full", "vanilla"):
        return
    c = case(SMALL, (12, 16))
    scores = c.scores if ensemble else None
    g = torch.Generator().manual_seed(5)
    teacher = torch.randn(2, 4, *teacher_size, dtype=torch.float64, generator=g)
    options = {"teacher": teacher, "teacher_weight": 0.7}
    losses = pixelwise_mred_loss(c.logits, c.target, scores, variant=variant, **options)  # type: ignore[arg-type]
    plain = reference(c.logits, c.target, scores, variant)
    # Written out: the mean over valid pixels of D_kl(teacher || student), for each student.
    valid = c.target != 255
    p = F.interpolate(teacher, size=(12, 16), mode="bilinear").softmax(dim=1)
    extra = torch.zeros((), dtype=torch.float64)
    for z in c.logits:
        log_q = F.interpolate(z, size=(12, 16), mode="bilinear").log_softmax(dim=1)
        extra = extra + (p * (p.log() - log_q)).sum(dim=1)[valid].mean()
    torch.testing.assert_close(losses.total, plain.total + 0.7 * extra)
    torch.testing.assert_close(losses.classification, plain.classification.detach())
    torch.testing.assert_close(losses.distillation, (plain.distillation + 0.7 * extra).detach())
    inputs = [*c.logits, *([c.scores] if ensemble else [])]
    torch.testing.assert_close(
        torch.autograd.grad(losses.total, inputs),
        torch.autograd.grad(plain.total + 0.7 * extra, inputs),
    )


def test_teacher_of_other_classes_is_named() -> None:
    c = case(SMALL, (12, 16))
    with pytest.raises(ValueError, match="equal B and K"):
        pixelwise_mred_loss(*c, teacher=torch.zeros(2, 5, 3, 3))
