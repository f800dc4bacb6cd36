"""LSQ: values and gradients against its paper, and where the step begins."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rsseg.quantization.lsq import LearnedStepQuantizer

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
