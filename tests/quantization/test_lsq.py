"""LSQ: values and gradients against its paper, and where the step begins."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rsseg.quantization.lsq import SMALLEST, LearnedStepQuantizer

FEW = settings(max_examples=40, deadline=None)
SHAPE = (6, 4, 3, 3)


def weights(seed: int = 0) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)) * 0.1


def lsq_by_hand(x: Tensor, step: Tensor, lowest: int, highest: int) -> Tensor:
    """Write LSQ with detached parts, as its paper's appendix does."""
    scale = 1 / math.sqrt(x.numel() * max(highest, 1))
    step = (step - step * scale).detach() + step * scale
    scaled = (x / step).clamp(lowest, highest)
    return ((scaled.round() - scaled).detach() + scaled) * step


@given(seed=st.integers(0, 2**31), bits=st.integers(2, 4), signed=st.booleans())
@FEW
def test_learned_step_has_values_and_gradients_of_its_paper(
    seed: int, bits: int, signed: bool
) -> None:
    source = torch.Generator().manual_seed(seed)
    x = torch.randn(3, 40, generator=source)
    x = x if signed else x.relu()
    quantizer = LearnedStepQuantizer(bits, signed=signed)
    quantizer(x)
    step = quantizer.step.detach().clone().requires_grad_()
    first, second = x.clone().requires_grad_(), x.clone().requires_grad_()
    upstream = torch.randn(3, 40, generator=source)
    quantizer(first).backward(upstream)
    expected = lsq_by_hand(second, step, quantizer.lowest, quantizer.highest)
    expected.backward(upstream)  # type: ignore[no-untyped-call]
    torch.testing.assert_close(quantizer(x), expected.detach())
    torch.testing.assert_close(quantizer.step.grad, step.grad)
    inside = (x / step > quantizer.lowest) & (x / step < quantizer.highest)
    torch.testing.assert_close(first.grad, upstream * inside)


def test_learned_step_begins_with_the_size_of_its_first_values() -> None:
    given = LearnedStepQuantizer(3, signed=True, first=weights())
    assert float(given.step.detach()) == pytest.approx(2 * float(weights().abs().mean()) / 3**0.5)
    quantizer = LearnedStepQuantizer(2, signed=True)
    quantizer.eval()(weights())
    assert not quantizer.started
    quantizer.train()(torch.zeros(4))
    assert not quantizer.started
    quantizer(weights(3))
    expected = 2 * float(weights(3).abs().mean())
    assert float(quantizer.step.detach()) == pytest.approx(expected)
    quantizer(weights(4) * 10)
    assert float(quantizer.step.detach()) == pytest.approx(expected)


def test_learned_step_of_one_signed_bit_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 bits"):
        LearnedStepQuantizer(1, signed=True)


@pytest.mark.parametrize("signed", [True, False])
def test_step_that_gradients_push_through_zero_stays_positive_and_learns_on(signed: bool) -> None:
    x = weights() if signed else weights().relu()
    quantizer = LearnedStepQuantizer(2, signed=signed, first=x)
    optimiser = torch.optim.SGD(quantizer.parameters(), lr=1.0)
    crossed = False
    for _ in range(60):
        optimiser.zero_grad()
        # The output grows with the step: this loss pulls it to 0 and past it.
        loss = 5 * quantizer.positive_step + quantizer(x).abs().mean()
        loss.backward()
        assert quantizer.step.grad is not None
        assert quantizer.step.grad.isfinite()
        assert float(quantizer.step.grad) != 0
        optimiser.step()
        crossed |= float(quantizer.step.detach()) < 0
        levels = quantizer.level_values()[0]
        assert float(quantizer.positive_step.detach()) >= SMALLEST
        assert (levels.diff() > 0).all()
        assert quantizer(x).isfinite().all()
    assert crossed


@pytest.mark.parametrize("step", [0.0, -0.0, 1e-30, -1e-9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_step_of_nothing_gives_finite_values_and_a_gradient(
    step: float, dtype: torch.dtype
) -> None:
    quantizer = LearnedStepQuantizer(2, signed=True, first=weights())
    quantizer.step.data.fill_(step)
    output = quantizer(weights().to(dtype))
    output.sum().backward()
    assert output.isfinite().all()
    assert quantizer.step.grad is not None
    assert quantizer.step.grad.isfinite()
    assert float(quantizer.step.grad) != 0


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("step", [0.0, -0.05, 0.05])
def test_plain_layer_and_levels_are_those_of_the_quantiser_whatever_the_sign(
    signed: bool, step: float
) -> None:
    quantizer = LearnedStepQuantizer(3, signed=signed, first=weights()).eval()
    quantizer.step.data.fill_(step)
    with torch.no_grad():
        output = quantizer(weights())
        torch.testing.assert_close(quantizer.plain()(weights()), output)
    levels = quantizer.level_values()[0]
    assert (levels.diff() > 0).all()
    assert (output[..., None] - levels).abs().amin(dim=-1).max() < 1e-6
    thresholds = quantizer.level_thresholds()[0]
    nearest = levels[torch.bucketize(weights(), thresholds)]
    torch.testing.assert_close(nearest, output, atol=1e-6, rtol=0)


def test_positive_step_is_used_to_the_bit() -> None:
    quantizer = LearnedStepQuantizer(3, signed=True, first=weights())
    assert torch.equal(quantizer.positive_step, quantizer.step)
    step = quantizer.step.detach()
    expected = (weights() / step).round().clamp(-4, 3) * step
    assert torch.equal(quantizer(weights()), expected)
