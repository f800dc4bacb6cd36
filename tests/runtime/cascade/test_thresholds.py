"""Facts about rsseg/runtime/cascade/thresholds.py: a chosen cascade keeps its target."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsseg.runtime.cascade.thresholds import (
    GRID,
    Candidates,
    Outcomes,
    chains,
    fixed_at,
    fixed_points,
    run_chain,
)
from tests.helpers.small_outcomes import SIDES, outcomes


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.integers(0, 6), st.floats(0, 1))
def test_chain_over_all_images_is_the_chain_over_each(
    seed: int, which: int, threshold: float
) -> None:
    answers, chain = outcomes(20, seed), chains(SIDES, None)[which]
    costs, correct = run_chain(answers, chain, np.array([threshold]))
    for image in range(20):
        cost = 0.0
        for side in chain:
            row = SIDES.index(side)
            cost += answers.costs[row]
            right = answers.correct[row, image]
            if answers.margins[row, image] >= threshold:
                break
        assert (costs[0, image], correct[0, image]) == (cost, right)


def test_chains_are_all_of_at_most_three_resolutions_or_the_one_given() -> None:
    assert chains([64, 32], None) == [(32,), (64,), (32, 64)]
    assert len(chains(range(5), None)) == 5 + 10 + 10
    assert chains(range(5), [4, 3, 2, 1]) == [(1, 2, 3, 4)]


@pytest.mark.parametrize("target", [0.25, 0.4, 0.6, 0.9, 1.0, 9.0])
def test_chosen_cascade_keeps_the_target_on_the_images_that_chose_it(target: float) -> None:
    answers = outcomes(500)
    chosen = Candidates(answers).choose(target)
    assert chosen.own.cost <= target * (1 + 1e-9)
    *lower, largest = chosen.thresholds
    shared = np.array([chosen.thresholds[side] for side in lower][:1] or [0.0])
    costs, correct = run_chain(answers, tuple(chosen.thresholds), shared)
    assert chosen.thresholds[largest] == 0
    assert chosen.own.cost == pytest.approx(costs.mean())
    assert chosen.own.accuracy == pytest.approx(correct.mean())


def test_chosen_threshold_is_the_largest_that_keeps_the_target() -> None:
    answers = outcomes(500)
    chosen = Candidates(answers, [32, 64]).choose(0.6)
    above = GRID[np.searchsorted(GRID, chosen.thresholds[32]) + 1]
    costs, _ = run_chain(answers, (32, 64), np.array([above]))
    assert costs.mean() > 0.6 >= chosen.own.cost


def test_cascade_beats_fixed_resolutions_where_margins_tell_something() -> None:
    answers = outcomes(4000)
    chosen = Candidates(answers).choose(0.6)
    assert chosen.validated.accuracy > fixed_at(answers, chosen.validated.cost) + 0.05
    assert abs(chosen.validated.cost - 0.6) < 0.02


def test_validation_does_not_believe_what_chance_has_chosen() -> None:
    # Margins say nothing and all resolutions are equally good: whatever is chosen is chance.
    own, validated = [], []
    for seed in range(30):
        chosen = Candidates(outcomes(60, seed, informative=False)).choose(1.0)
        own.append(chosen.own.accuracy)
        validated.append(chosen.validated.accuracy)
    assert np.mean(own) > 0.72
    assert abs(np.mean(validated) - 0.7) < 0.02


def test_target_below_the_cheapest_resolution_is_refused() -> None:
    with pytest.raises(ValueError, match=r"target cost 0\.2 is below .* alone, 0\.25"):
        Candidates(outcomes(50)).choose(0.2)


def test_resolution_that_others_beat_is_no_part_of_a_mixture() -> None:
    correct = np.zeros((3, 4), np.bool_)
    correct[0, :2] = correct[2, :2] = True  # 0.5, 0 and 0.5: the middle one only costs.
    answers = Outcomes(SIDES, (0.25, 0.5, 1.0), correct, np.zeros((3, 4), np.float32))
    assert [fixed_at(answers, cost) for cost in (0.1, 0.25, 0.5, 0.7, 1.0)] == [0.5] * 5


def test_thresholds_need_images_to_choose_with_and_to_judge_on() -> None:
    with pytest.raises(ValueError, match=r"on 1 image\(s\); evaluate on at least 4"):
        Candidates(outcomes(1))


def test_fixed_resolutions_are_mixed_between_their_costs() -> None:
    answers = outcomes(50)
    points = fixed_points(answers)
    assert points[48].accuracy == answers.correct[1].mean()
    middle = (points[48].accuracy + points[64].accuracy) / 2
    assert fixed_at(answers, 0.75) == pytest.approx(middle)
