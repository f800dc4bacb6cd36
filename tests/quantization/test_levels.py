"""The levels of a learned quantiser, against tables and fits written out by hand."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from rsseg.quantization.levels import Buckets, code_table, fit_basis, levels_of, nearest_levels

BITS = st.integers(1, 4)
SEEDS = st.integers(0, 2**31)
FEW = settings(max_examples=60, deadline=None)


def drawn(
    seed: int, rows: int, bits: int, signed: bool, values: int = 200
) -> tuple[Tensor, Tensor]:
    """Draw bases, some entries of them negative, and values."""
    source = torch.Generator().manual_seed(seed)
    basis = torch.randn((rows, bits), generator=source)
    found = torch.randn((rows, values), generator=source) * 2
    return basis, found if signed else found.relu()


def explicit(values: Tensor, basis: Tensor, signed: bool) -> tuple[Tensor, Tensor]:
    """Find level and fitted basis of one row from its N x K table of bits."""
    digits = [-1.0, 1.0] if signed else [0.0, 1.0]
    codes = np.array(list(itertools.product(digits, repeat=len(basis))))
    levels = codes @ basis.double().numpy()
    numbers = values.double().numpy()
    bits = codes[np.abs(numbers[:, None] - levels[None]).argmin(axis=1)]
    gram = bits.T @ bits + 1e-4 * np.eye(len(basis))
    right = bits.T @ numbers + 1e-4 * basis.double().numpy()
    nearest = bits @ basis.double().numpy()
    return torch.from_numpy(nearest), torch.from_numpy(np.linalg.solve(gram, right))


def test_codes_are_all_combinations() -> None:
    for bits in (1, 2, 3, 4):
        for signed, digits in ((True, (-1.0, 1.0)), (False, (0.0, 1.0))):
            rows = {tuple(row) for row in code_table(bits, signed=signed).tolist()}
            assert rows == set(itertools.product(digits, repeat=bits))


@given(seed=SEEDS, bits=BITS, signed=st.booleans())
@FEW
def test_levels_rise_and_are_the_sums_that_their_codes_tell(
    seed: int, bits: int, signed: bool
) -> None:
    basis, _ = drawn(seed, 3, bits, signed)
    values, codes, thresholds = levels_of(basis, signed=signed)
    assert (values.diff(dim=1) >= 0).all()
    torch.testing.assert_close((codes * basis[:, None]).sum(2), values)
    for row in codes:
        assert len({tuple(code) for code in row.tolist()}) == 2**bits
    assert ((thresholds >= values[:, :-1]) & (thresholds <= values[:, 1:])).all()


@given(seed=SEEDS, bits=BITS, signed=st.booleans(), piece=st.sampled_from([7, 64, 1 << 17]))
@FEW
def test_buckets_give_the_fit_of_the_explicit_table_of_bits(
    seed: int, bits: int, signed: bool, piece: int
) -> None:
    basis, values = drawn(seed, 3, bits, signed)
    levels = levels_of(basis, signed=signed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(nearest_levels.__globals__["_PIECE"], "cpu", piece)
        found, buckets = nearest_levels(values, levels, count=True)
    assert buckets is not None
    assert buckets.counts.sum(1).tolist() == [values.shape[1]] * 3
    fitted = fit_basis(buckets, levels.codes, basis)
    for row in range(3):
        nearest, by_hand = explicit(values[row], basis[row], signed)
        distance = (values[row] - nearest).abs()
        torch.testing.assert_close(
            (values[row] - found[row]).abs().double(), distance, atol=1e-6, rtol=1e-5
        )
        # Two levels may be equally near, and both codes stand for the same value then.
        if levels.values[row].diff().min() > 1e-3:
            torch.testing.assert_close(fitted[row].double(), by_hand, atol=2e-3, rtol=2e-3)


@given(seed=SEEDS, bits=BITS, signed=st.booleans())
@FEW
def test_one_alternation_does_not_raise_the_error_on_gaussian_data(
    seed: int, bits: int, signed: bool
) -> None:
    basis, values = drawn(seed, 2, bits, signed, values=2000)
    levels = levels_of(basis, signed=signed)
    before, buckets = nearest_levels(values, levels, count=True)
    assert buckets is not None
    fitted = fit_basis(buckets, levels.codes, basis)
    after, _ = nearest_levels(values, levels_of(fitted, signed=signed))
    old, new = (((values - found) ** 2).sum(1) for found in (before, after))
    # The ridge holds the basis back by less than this.
    assert (new <= old + 1e-3 + 1e-5 * old).all()


def test_value_half_way_takes_the_smaller_level_and_what_is_greater_the_larger() -> None:
    levels = levels_of(torch.tensor([[1.0, 2.0]]), signed=False)  # 0, 1, 2, 3
    values = torch.tensor([[-5.0, 0.5, torch.nextafter(torch.tensor(0.5), torch.tensor(1.0)), 9.0]])
    assert nearest_levels(values, levels)[0].tolist() == [[0.0, 0.0, 1.0, 3.0]]


def test_negative_and_unordered_basis_is_sorted() -> None:
    levels = levels_of(torch.tensor([[2.0, -1.0]]), signed=False)
    assert levels.values.tolist() == [[-1.0, 0.0, 1.0, 2.0]]
    assert levels.codes.tolist() == [[[0, 1], [0, 0], [1, 1], [1, 0]]]


def test_fit_of_a_bit_that_no_value_sets_keeps_its_entry() -> None:
    basis = torch.tensor([[0.5, 7.0]])
    levels = levels_of(basis, signed=False)
    _, buckets = nearest_levels(torch.tensor([[0.0, 0.4, 0.8]]), levels, count=True)
    assert buckets is not None
    fitted = fit_basis(buckets, levels.codes, basis)
    assert fitted[0].tolist() == pytest.approx([0.6, 7.0], abs=1e-4)


def test_fit_to_nothing_and_to_one_code_alone_is_finite() -> None:
    basis = torch.tensor([[0.5, 1.0]])
    codes = levels_of(basis, signed=True).codes
    nothing = torch.zeros(1, 4, dtype=torch.float64)
    torch.testing.assert_close(fit_basis(Buckets(nothing, nothing), codes, basis), basis)
    many = nothing.clone()
    many[0, 3] = 1e7
    assert fit_basis(Buckets(many, many), codes, basis).isfinite().all()


def test_few_small_values_among_millions_of_large_ones_are_not_lost() -> None:
    values = torch.full((1, 4_000_000), 3.0)
    values[0, 7] = 1.1
    levels = levels_of(torch.tensor([[1.0, 2.0]]), signed=False)
    _, buckets = nearest_levels(values, levels, count=True)
    assert buckets is not None
    assert buckets.sums[0].tolist() == pytest.approx([0.0, 1.1, 0.0, 3.0 * 3_999_999], abs=3e-4)


def test_value_that_is_not_finite_is_not_hidden() -> None:
    levels = levels_of(torch.tensor([[1.0, 2.0]]), signed=False)
    values = torch.tensor([[float("nan"), float("inf"), 1.0]])
    found, _ = nearest_levels(values, levels)
    assert found.isnan().tolist() == [[True, True, False]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_counted_in_single(dtype: torch.dtype) -> None:
    levels = levels_of(torch.tensor([[0.4497, 0.8993]]), signed=False)
    values = torch.full((1, 5000), 0.5).to(dtype)
    found, buckets = nearest_levels(values, levels, count=True)
    assert buckets is not None
    assert found.dtype == dtype
    assert buckets.sums[0].tolist() == [0.0, 2500.0, 0.0, 0.0]


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operations."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def test_shapes_of_many_values_are_followed_in_as_few_steps_as_those_of_few() -> None:
    counts = []
    for number in (10, 10_000_000):
        operations = Operations()  # type: ignore[no-untyped-call]
        with FakeTensorMode(), operations:
            levels = levels_of(torch.ones(2, 2), signed=True)
            nearest, _ = nearest_levels(torch.empty(2, number), levels)
        assert nearest.shape == (2, number)
        counts.append(operations.count)
    assert counts[0] == counts[1]
