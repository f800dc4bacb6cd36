"""Facts about rsseg/runtime/budget/budget.py and hysteresis.py: what keeps a budget.

Times are drawn, never measured.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsseg.runtime.budget.budget import Budget, Choice
from rsseg.runtime.budget.hysteresis import BAND, MOST_PATIENCE, PATIENCE, WINDOW, Hysteresis

IDLE = {352: 80.0, 224: 40.0, 160: 20.0, 96: 10.0}
REST = WINDOW + PATIENCE  # predictions after which a constant load has nothing more to change

tables = st.dictionaries(st.integers(1, 4096), st.floats(0.01, 1e4), min_size=1, max_size=8)
loads = st.floats(0.05, 50)
budgets = st.floats(0.001, 1e6)
examples = settings(max_examples=60, deadline=None)


def serve(
    budget: Budget, budget_ms: float, took: Callable[[int], float], predictions: int
) -> list[int]:
    """Predict so many times; return the resolutions."""
    chosen = []
    for _ in range(predictions):
        resolution = budget.choose(budget_ms).resolution
        budget.observe(resolution, took(resolution))
        chosen.append(resolution)
    return chosen


def changes(chosen: list[int]) -> int:
    return sum(one != other for one, other in pairwise(chosen))


def best(idle: dict[int, float], budget_ms: float, load: float = 1.0) -> int:
    return max((r for r in idle if load * idle[r] <= budget_ms), default=min(idle))


@examples
@given(tables, budgets)
def test_idle_machine_gets_the_highest_resolution_that_fits(
    idle: dict[int, float], budget_ms: float
) -> None:
    choice = Budget(idle).choose(budget_ms)
    assert choice.resolution == best(idle, budget_ms)
    assert choice.fits == (idle[choice.resolution] <= budget_ms)
    assert choice.milliseconds == idle[choice.resolution]


@examples
@given(tables, budgets, loads)
def test_constant_load_comes_to_rest(idle: dict[int, float], budget_ms: float, load: float) -> None:
    budget = Budget(idle)
    chosen = serve(budget, budget_ms, lambda r: load * idle[r], 200)
    assert len(set(chosen[REST:])) == 1
    assert set(chosen) <= set(idle)
    # At rest the resolution keeps the budget, if any does, and is too low by the band at most.
    assert chosen[-1] <= best(idle, budget_ms, load * (1 - 1e-9))
    assert chosen[-1] >= best(idle, budget_ms, load * (1 + BAND) * (1 + 1e-9))


@examples
@given(tables, budgets, loads, st.floats(0, 0.04), st.integers())
def test_load_that_trembles_less_than_the_band_comes_to_rest(
    idle: dict[int, float], budget_ms: float, load: float, noise: float, seed: int
) -> None:
    rng = random.Random(seed)

    def took(resolution: int) -> float:
        return idle[resolution] * load * rng.uniform(1 - noise, 1 + noise)

    chosen = serve(Budget(idle), budget_ms, took, 1500)
    # After the first rest the load only creeps up to the largest quantile that it meets.
    assert all(one >= other for one, other in pairwise(chosen[REST:]))


@examples
@given(tables, budgets, st.lists(st.tuples(loads, st.integers(1, 60)), max_size=8))
def test_no_load_leads_to_a_resolution_that_is_not_in_the_table(
    idle: dict[int, float], budget_ms: float, phases: list[tuple[float, int]]
) -> None:
    budget = Budget(idle)
    for load, predictions in phases:
        loaded = {resolution: load * took for resolution, took in idle.items()}
        chosen = serve(budget, budget_ms, loaded.__getitem__, predictions)
        assert set(chosen) <= set(idle)


@examples
@given(tables, budgets, st.floats(1.0, 50))
def test_load_that_has_gone_is_forgotten(
    idle: dict[int, float], budget_ms: float, load: float
) -> None:
    budget = Budget(idle)
    serve(budget, budget_ms, lambda r: load * idle[r], 100)
    serve(budget, budget_ms, lambda r: idle[r], REST)
    recovered = budget.choose(budget_ms).resolution
    assert recovered >= best(idle, budget_ms, (1 + BAND) * (1 + 1e-9))
    if load > 1 + 2 * BAND:
        assert recovered == best(idle, budget_ms)


def test_three_slow_predictions_lower_the_resolution_and_two_do_not() -> None:
    budget = Budget(IDLE)
    for _ in range(2):
        budget.observe(352, 900.0)
    assert budget.choose(100).resolution == 352
    budget.observe(352, 160.0)
    assert budget.choose(100) == Choice(224, 80.0, True)


def test_lowest_resolution_is_used_where_none_fits_and_that_is_told() -> None:
    assert Budget(IDLE).choose(9.9) == Choice(96, 10.0, False)
    assert Budget(IDLE, fixed=5.0).choose(14.9) == Choice(96, 15.0, False)


def test_resolutions_that_are_not_in_use_are_expected_to_be_as_much_slower() -> None:
    budget = Budget(IDLE)
    serve(budget, 15, lambda r: 3 * IDLE[r], REST)
    assert budget.load == 3
    assert [budget.choose(ms).resolution for ms in (30, 60, 120, 240)] == [96, 160, 224, 352]


def test_time_that_no_resolution_changes_is_not_taken_for_load() -> None:
    # A large image: 50 ms to read it, at every resolution.
    budget = Budget(IDLE)
    for _ in range(100):
        chosen = budget.choose(100).resolution
        budget.observe(chosen, IDLE[chosen], rest=50.0)
    assert (budget.load, budget.choose(100)) == (1, Choice(224, 90.0, True))


def test_machine_that_fits_the_table_badly_is_tried_ever_more_seldom() -> None:
    # At the largest resolution, and there alone, it is twice as slow as the table says.
    took = {**IDLE, 352: 160.0}
    budget = Budget(IDLE)
    chosen = serve(budget, 100, took.__getitem__, 20_000)
    assert changes(chosen[:1000]) <= 14
    assert changes(chosen[-5000:]) <= 2 * 5000 / MOST_PATIENCE + 2
    assert chosen.count(352) < 0.01 * len(chosen)


def test_patience_returns_after_a_long_calm() -> None:
    load = Hysteresis(1.0)
    for _ in range(6):  # Six times back and forth.
        for value in (*[1.0] * 200, *[5.0] * 3):
            load.measure(value)
    for _ in range(5000):
        load.measure(1.0)
    assert load.value == 1.0
    for _ in range(50):
        load.measure(5.0)
    for _ in range(REST):
        load.measure(1.0)
    assert load.value == 1.0


def test_budgets_share_what_is_measured() -> None:
    budget = Budget(IDLE)
    serve(budget, 100, lambda r: 2 * IDLE[r], REST)
    assert budget.choose(50).resolution == 160


def test_prediction_at_a_resolution_without_a_time_says_nothing_about_the_load() -> None:
    budget = Budget(IDLE)
    for _ in range(50):
        budget.observe(300, 1e6)
    assert budget.load == 1


def test_threads_may_observe_and_choose_at_once() -> None:
    budget, chosen = Budget(IDLE), []

    def work() -> None:
        chosen.extend(serve(budget, 100, lambda r: 2 * IDLE[r], 500))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(chosen) == 2000
    assert set(chosen) <= set(IDLE)
    assert (budget.load, budget.choose(100).resolution) == (2, 224)


@pytest.mark.parametrize("wrong", [0, -1.0, float("nan"), float("inf"), True, "20"])
def test_budget_has_to_be_a_positive_number(wrong: float) -> None:
    with pytest.raises(ValueError, match="must be a positive number of milliseconds, got"):
        Budget(IDLE).choose(wrong)


def test_table_has_to_hold_positive_times_of_resolutions() -> None:
    for idle, fixed, message in (
        ({}, 0.0, "no resolution given"),
        ({96: 0.0}, 0.0, "the time of a resolution must be a positive number"),
        ({0: 1.0}, 0.0, "is not a whole number of pixels"),
        ({96: 1.0}, -1.0, "the fixed part must be at least 0 ms, got -1.0"),
    ):
        with pytest.raises(ValueError, match=message):
            Budget(idle, fixed=fixed)


def test_what_depends_on_the_resolution_is_summed_and_grows_with_the_load() -> None:
    budget = Budget({64: 40.0, 32: 10.0}, rest={64: 5.0, 32: 1.0}, decode={64: 8.0, 32: 2.0})
    assert budget.expected() == {64: 45.0, 32: 11.0}
    assert budget.expected(decoding=True) == {64: 53.0, 32: 13.0}
    assert budget.choose(50.0).resolution == 64
    assert budget.choose(50.0, decoding=True) == Choice(32, 13.0, True)
    for _ in range(3):
        budget.observe(64, 80.0, rest=10.0, decode=16.0)  # everything takes twice as long
    assert budget.expected(decoding=True) == {64: 106.0, 32: 26.0}


def test_what_a_larger_photo_adds_is_added_at_every_resolution() -> None:
    budget = Budget({64: 40.0, 32: 10.0}, rest={64: 5.0, 32: 1.0}, decode={64: 8.0, 32: 2.0})
    for _ in range(3):
        budget.observe(32, 10.0, rest=31.0, decode=52.0)
    assert budget.expected(decoding=True) == {64: 53.0 + 80.0, 32: 13.0 + 80.0}


@pytest.mark.parametrize("times", [{64: 1.0}, {64: 1.0, 32: -1.0}, {64: 1.0, 32: float("nan")}])
def test_parts_of_a_prediction_are_known_at_every_resolution(times: dict[int, float]) -> None:
    for part in ("rest", "decode"):
        with pytest.raises(ValueError, match=f"{part} must be at least 0 ms at each resolution"):
            Budget({64: 40.0, 32: 10.0}, **{part: times})  # type: ignore[arg-type]
