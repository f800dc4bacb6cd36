"""Quantisers: levels at the beginning, gradients, what they learn and when."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rsseg.quantization.levels import levels_of, nearest_levels
from rsseg.quantization.lqnets import ActivationQuantizer, WeightQuantizer
from rsseg.quantization.lsq import LearnedStepQuantizer
from rsseg.quantization.quantizer import LearnedLevels, Quantizer
from rsseg.switchable.step_scopes import held_weights, one_step, paused

FEW = settings(max_examples=40, deadline=None)
SHAPE = (6, 4, 3, 3)


def weights(seed: int = 0) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)) * 0.1


def activation(seed: int = 0, shape: tuple[int, ...] = (2, 5, 6, 6)) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).relu()


# Of LQ-Nets, Section 3: factors of sigma for weights; levels and thresholds for activations.
FIRST_WEIGHTS = {1: [0.6745], 2: [0.33725, 0.6745], 3: [0.168625, 0.33725, 0.6745]}
FIRST_ACTIVATIONS = {
    1: ([0, 1.349], [0.6745]),
    2: ([0, 0.449667, 0.899333, 1.349], [0.224833, 0.6745, 1.124167]),
    3: (
        [0, 0.192714, 0.385429, 0.578143, 0.770857, 0.963571, 1.156286, 1.349],
        [0.096357, 0.289071, 0.481786, 0.6745, 0.867214, 1.059929, 1.252643],
    ),
}


@pytest.mark.parametrize("bits", [1, 2, 3])
def test_first_basis_of_weights_follows_the_number_of_weights_of_an_output(bits: int) -> None:
    quantizer = WeightQuantizer(SHAPE, bits)
    sigma = math.sqrt(2 / (3 * 3 * 6))
    expected = torch.tensor([[factor * sigma for factor in FIRST_WEIGHTS[bits]]] * 6)
    torch.testing.assert_close(quantizer.basis, expected)
    sums = [sum(signs) for signs in _signed_sums(expected[0].tolist())]
    torch.testing.assert_close(quantizer.level_values()[0], torch.tensor(sorted(sums)))


def _signed_sums(entries: list[float]) -> list[list[float]]:
    if not entries:
        return [[]]
    rest = _signed_sums(entries[1:])
    return [[sign * entries[0], *one] for sign in (-1, 1) for one in rest]


@pytest.mark.parametrize("bits", [1, 2, 3])
def test_first_levels_and_thresholds_of_activations(bits: int) -> None:
    quantizer, (levels, thresholds) = ActivationQuantizer(bits), FIRST_ACTIVATIONS[bits]
    assert quantizer.level_values()[0].tolist() == pytest.approx(levels, abs=1e-5)
    assert quantizer.level_values()[0, 0] == 0
    assert quantizer.level_thresholds()[0].tolist() == pytest.approx(thresholds, abs=1e-5)


@given(seed=st.integers(0, 2**31), bits=st.integers(1, 4), steps=st.integers(0, 3))
@FEW
def test_quantised_weight_has_at_most_two_to_the_bits_values_in_a_channel(
    seed: int, bits: int, steps: int
) -> None:
    quantizer = WeightQuantizer(SHAPE, bits)
    for _ in range(steps):
        quantizer(weights(seed))
    for channel in quantizer.eval()(weights(seed)):
        assert channel.unique().numel() <= 2**bits


def test_gradient_of_weights_is_the_identity() -> None:
    weight = (weights() * 50).requires_grad_()
    upstream = torch.randn(SHAPE)
    WeightQuantizer(SHAPE, 2)(weight).backward(upstream)
    assert torch.equal(weight.grad, upstream)  # type: ignore[arg-type]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradient_of_an_activation_is_cut_above_the_largest_level(
    layout: torch.memory_format,
) -> None:
    x = (2 * torch.randn(2, 5, 6, 6)).contiguous(memory_format=layout).requires_grad_()
    quantizer = ActivationQuantizer(2).eval()
    with torch.no_grad():
        x[0, 0, 0, 0] = top = quantizer.level_values()[0, -1]
    upstream = torch.randn(2, 5, 6, 6)
    quantizer(x).backward(upstream)
    assert x.grad is not None
    assert torch.equal(x.grad, upstream * x.le(top))
    assert x.grad[0, 0, 0, 0] != 0


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_activation_of_any_layout_takes_its_nearest_levels(layout: torch.memory_format) -> None:
    x = activation().contiguous(memory_format=layout)
    quantizer = ActivationQuantizer(2).eval()
    found = quantizer(x)
    levels = quantizer.level_values()[0]
    expected = levels[(x[..., None] - levels).abs().argmin(dim=-1)]
    assert torch.equal(found, expected)
    assert found.is_contiguous(memory_format=layout)
    sliced = activation(shape=(4, 5, 6, 6))[::2, :, 1:]
    assert torch.equal(quantizer(sliced), quantizer(sliced.clone()))


def test_output_uses_the_basis_from_before_its_own_step() -> None:
    quantizer = ActivationQuantizer(2)
    before = copy.deepcopy(quantizer).eval()
    assert torch.equal(quantizer(activation()), before(activation()))
    assert not torch.equal(quantizer.basis, before.basis)


def by_hand(quantizer: LearnedLevels, rows: Tensor) -> Tensor:
    """Fit the basis of a quantiser to values with numpy's least squares, without the ridge."""
    levels = levels_of(quantizer.basis, signed=quantizer.signed)
    found, _ = nearest_levels(rows, levels)
    fits = []
    for row, values in enumerate(rows):
        place = torch.searchsorted(levels.values[row].contiguous(), found[row].contiguous())
        fit = torch.linalg.lstsq(levels.codes[row][place].double(), values[:, None].double())
        fits.append(fit.solution[:, 0])
    return torch.stack(fits).float()


def test_first_update_replaces_the_basis_and_later_ones_average_without_bias() -> None:
    quantizer = WeightQuantizer(SHAPE, 2)
    fits = []
    for seed in range(4):
        fits.append(by_hand(quantizer, weights(seed).flatten(1)))
        quantizer(weights(seed))
        # A moving average from zero, divided by the sum of its weights.
        shares = [0.1 * 0.9 ** (seed - past) for past in range(seed + 1)]
        mean = sum(share * fit for share, fit in zip(shares, fits, strict=True)) / sum(shares)
        torch.testing.assert_close(quantizer.basis, mean, atol=2e-4, rtol=2e-3)
    assert quantizer.updates == 4


def test_without_debiasing_the_basis_moves_a_tenth_of_the_way() -> None:
    quantizer = ActivationQuantizer(2, debias=False)
    fit, first = by_hand(quantizer, activation().flatten()[None]), quantizer.basis.clone()
    quantizer(activation())
    torch.testing.assert_close(quantizer.basis, 0.9 * first + 0.1 * fit, atol=1e-5, rtol=1e-4)


def test_basis_is_untouched_in_evaluation_and_while_paused() -> None:
    quantizer = ActivationQuantizer(2).eval()
    first = quantizer.basis.clone()
    quantizer(activation())
    with paused(quantizer):
        quantizer.train()(activation())
    assert torch.equal(quantizer.basis, first)
    assert quantizer.updates == 0


def test_constant_and_dead_activations_give_no_nan() -> None:
    for value in (0.0, 0.3, 1e6, -1.0):
        quantizer = ActivationQuantizer(3)
        for _ in range(5):
            found = quantizer(torch.full((2, 3, 4, 4), value))
        assert quantizer.basis.isfinite().all()
        assert found.isfinite().all()


def test_step_that_is_not_finite_teaches_nothing() -> None:
    quantizer = ActivationQuantizer(2)
    first = quantizer.basis.clone()
    found = quantizer(torch.tensor([1.0, float("nan")]))
    assert found.isnan().tolist() == [False, True]
    quantizer(torch.zeros(0))
    assert torch.equal(quantizer.basis, first)
    other = ActivationQuantizer(2)
    for one in (quantizer, other):
        one(activation())
    assert torch.equal(
        quantizer.basis, other.basis
    )  # The first fit still replaces the first basis.
    plain = quantizer.eval().plain()
    assert plain(torch.tensor([1.0, float("nan"), float("inf")])).isnan().tolist() == [0, 1, 1]


def test_passes_of_one_step_share_levels_and_teach_once_with_all_their_values() -> None:
    quantizer, together = ActivationQuantizer(2), ActivationQuantizer(2)
    first, second = activation(1), activation(2, (3, 5, 4, 4))
    with one_step(quantizer):
        found = [quantizer(first), quantizer(second)]
    expected = [copy.deepcopy(together).eval()(x) for x in (first, second)]
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    together(torch.cat([first.flatten(), second.flatten()]))
    torch.testing.assert_close(quantizer.basis, together.basis)
    assert quantizer.updates == 1


def test_weights_are_quantised_once_in_a_step_and_teach_once() -> None:
    quantizer, once = WeightQuantizer(SHAPE, 2), WeightQuantizer(SHAPE, 2)
    weight = weights().requires_grad_()
    with one_step(quantizer):
        found = [quantizer(weight) for _ in range(3)]
    torch.stack(found).sum().backward()  # type: ignore[no-untyped-call]
    once(weight)
    assert torch.equal(quantizer.basis, once.basis)
    assert torch.equal(weight.grad, torch.full(SHAPE, 3.0))  # type: ignore[arg-type]
    assert quantizer.cached is None


def test_step_that_fails_teaches_nothing() -> None:
    quantizer = ActivationQuantizer(2)
    first = quantizer.basis.clone()

    def failing() -> None:
        with one_step(quantizer):
            quantizer(activation())
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        failing()
    assert torch.equal(quantizer.basis, first)
    quantizer(activation())
    assert quantizer.updates == 1


def test_held_weights_are_let_go_at_the_end() -> None:
    quantizer, weight = WeightQuantizer(SHAPE, 2).eval(), weights()
    with held_weights(quantizer):
        assert torch.equal(quantizer(weight), quantizer(weight))
        assert quantizer.cached is not None
        assert torch.equal(quantizer(2 * weight), quantizer(weight))  # As it was told.
    assert not torch.equal(quantizer(2 * weight), quantizer(weight))


def test_largest_only_learns_at_the_largest() -> None:
    quantizer = ActivationQuantizer(2, basis="largest_only")
    quantizer.at_largest = False
    quantizer(activation())
    assert quantizer.updates == 0
    quantizer.at_largest = True
    quantizer(activation())
    assert quantizer.updates == 1


@pytest.mark.parametrize("bits", [0, 5, 32])
def test_number_of_bits_is_checked(bits: int) -> None:
    with pytest.raises(ValueError, match=rf"one of \[1, 2, 3, 4\] bits, got {bits}"):
        ActivationQuantizer(bits)


def test_unknown_basis_and_momentum_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown basis 'common'"):
        ActivationQuantizer(2, basis="common")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="momentum must be in"):
        ActivationQuantizer(2, momentum=1.0)


@pytest.mark.parametrize("bits", [2, 3])
@pytest.mark.parametrize(
    "make",
    [ActivationQuantizer, lambda bits: LearnedStepQuantizer(bits, signed=False)],
    ids=["lq", "lsq"],
)
def test_plain_layer_gives_the_same_and_holds_nothing_to_learn(
    make: type[ActivationQuantizer], bits: int
) -> None:
    quantizer: Quantizer = make(bits)
    quantizer(activation(7))
    plain: nn.Module = quantizer.eval().plain()
    assert torch.equal(plain(activation(8)), quantizer(activation(8)))
    assert not list(plain.parameters())
    assert set(quantizer(activation(8)).unique().tolist()) <= set(
        quantizer.level_values()[0].tolist()
    )
