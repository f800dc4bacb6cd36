r"""Choosing the thresholds of a cascade on validation data, for a target mean cost.

The rule: a cascade is a chain of at most three resolutions with one threshold that all of them
share. Each chain gets the largest threshold at which its mean cost over the images is at most the
target; answers have no part in that, or chance would choose among a hundred thresholds. Of these
chains, those of a single resolution included, the one with the most right answers is taken, of
equal ones the cheapest. What it is worth is measured on other images than those that chose it.

.. math:: \mathrm{cost} = \frac{1}{N} \sum_i \sum_{r \,\text{run on}\, i} c_r
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray

LONGEST: Final = 3  # Of longer chains the sum of all costs grows, and hardly any is the best.
REPEATS: Final = 20
FEWEST: Final = 4  # images: two to choose with, two to judge on
# Fixed before any image is seen, and densest where margins are: near 0 and near 1.
GRID: Final = 1 / (1 + np.exp(-np.linspace(-5, 13, 109)))
_ROUNDING: Final = 1e-9  # Means of equal costs differ by less.
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Outcomes:
    """The answers to N images at S resolutions.

    Args:
        resolutions: From small to large.
        costs: Of one image at each resolution, in any unit.
        correct: Whether each answer was right, shape (S, N).
        margins: How sure each answer was, 0..1, shape (S, N).
    """

    resolutions: tuple[int, ...]
    costs: tuple[float, ...]
    correct: NDArray[np.bool_]
    margins: NDArray[np.float32]


@dataclass(frozen=True)
class Point:
    """A mean cost and the accuracy (0..1) that goes with it."""

    cost: float
    accuracy: float


@dataclass(frozen=True)
class Selection:
    """A cascade, and what it is worth.

    Args:
        thresholds: Of each resolution in use, from small to large; 0 of the largest.
        target: Largest mean cost.
        own: On the images that selected it, so the accuracy is too good on average.
        validated: On images that did not select it: the mean over `REPEATS` splits into two halves,
            each of which is judged by the cascade that the other selected.
        spread: Standard deviations of these over the splits.
    """

    thresholds: dict[int, float]
    target: float
    own: Point
    validated: Point
    spread: Point


def chains(resolutions: Sequence[int], only: Sequence[int] | None) -> list[tuple[int, ...]]:
    """Return chains of resolutions, each from small to large: that of `only`, or all."""
    if only is not None:
        return [tuple(sorted(only))]
    sides = sorted(resolutions)
    return [chain for n in range(1, LONGEST + 1) for chain in combinations(sides, n)]


def run_chain(
    outcomes: Outcomes, chain: Sequence[int], thresholds: Floats
) -> tuple[Floats, NDArray[np.bool_]]:
    """Run a cascade over all images, with each of G thresholds that its steps share.

    Args:
        outcomes: The answers.
        chain: Resolutions from small to large.
        thresholds: Margins, shape (G,).

    Returns:
        The cost of each image, and whether its answer was right, both of shape (G, N).
    """
    rows = [outcomes.resolutions.index(resolution) for resolution in chain]
    shape = (len(thresholds), outcomes.correct.shape[1])
    costs, correct = np.zeros(shape), np.zeros(shape, np.bool_)
    pending = np.ones(shape, np.bool_)  # images that no step has answered so far
    for row in rows:
        costs += outcomes.costs[row] * pending
        goes_on = outcomes.margins[row] < thresholds[:, None] if row != rows[-1] else False
        stops = pending & ~np.broadcast_to(goes_on, shape)
        correct |= stops & outcomes.correct[row]
        pending &= ~stops
    return costs, correct


class Candidates:
    """All cascades to choose from, run over all images.

    Args:
        outcomes: The answers.
        only: Resolutions of the only chain; default: all chains.
        seed: Of the splits into halves.
    """

    def __init__(
        self, outcomes: Outcomes, only: Sequence[int] | None = None, *, seed: int = 0
    ) -> None:
        images = outcomes.correct.shape[1]
        self.names: list[tuple[tuple[int, ...], float]] = []
        weights = _halves(images, seed)
        costs, accuracies = [], []
        self._starts: list[int] = []  # the first row of each chain
        for chain in chains(outcomes.resolutions, only):
            grid = GRID if len(chain) > 1 else np.zeros(1)
            self._starts.append(len(self.names))
            self.names += [(chain, float(threshold)) for threshold in grid]
            cost, correct = run_chain(outcomes, chain, grid)
            costs.append(cost @ weights)
            accuracies.append(correct @ weights)
        # One row for each cascade; a column for all images, then for both halves of each split.
        self._costs, self._accuracies = np.concatenate(costs), np.concatenate(accuracies)

    @property
    def cheapest(self) -> float:
        """Mean cost of the cheapest cascade over all images."""
        return float(self._costs[:, 0].min())

    def choose(self, target: float) -> Selection:
        """Choose the cascade for a target mean cost, and judge it on images that did not choose.

        Raises:
            ValueError: If every cascade costs more.
        """
        if target * (1 + _ROUNDING) < self.cheapest:
            raise ValueError(
                f"the target cost {target:g} is below that of the cheapest resolution alone, "
                f"{self.cheapest:.4g}; give a larger one"
            )
        best = self._best(0, target)
        points = []
        for first in range(1, self._costs.shape[1], 2):
            pairs = ((first, first + 1), (first + 1, first))
            rows = [(self._best(chooser, target), judge) for chooser, judge in pairs]
            points.append(np.mean([self._point(row, judge) for row, judge in rows], axis=0))
        chain, threshold = self.names[best]
        return Selection(
            thresholds={r: threshold if r != chain[-1] else 0.0 for r in chain},
            target=target,
            own=Point(*self._point(best, 0)),
            validated=Point(*np.mean(points, axis=0).tolist()),
            spread=Point(*np.std(points, axis=0).tolist()),
        )

    def _best(self, column: int, target: float) -> int:
        costs, accuracies = self._costs[:, column], self._accuracies[:, column]
        # Half of the images may make even the cheapest cost more than all of them together.
        fitting = costs <= max(target, costs.min()) * (1 + _ROUNDING)
        ends = [*self._starts[1:], len(costs)]
        # Costs rise with the threshold, so the last row that fits has the largest.
        last = [
            int(start + np.flatnonzero(fitting[start:end])[-1])
            for start, end in zip(self._starts, ends, strict=True)
            if fitting[start:end].any()
        ]
        return max(last, key=lambda row: (accuracies[row], -costs[row]))

    def _point(self, row: int, column: int) -> tuple[float, float]:
        return float(self._costs[row, column]), float(self._accuracies[row, column])


def _halves(images: int, seed: int) -> Floats:
    """Return weights that take means: over all images, and over both halves of each split."""
    if images < FEWEST:
        raise ValueError(
            f"thresholds cannot be chosen and judged on {images} image(s); evaluate on at least "
            f"{FEWEST}, better on hundreds"
        )
    rng = np.random.default_rng(seed)
    first = [rng.permutation(images) < images // 2 for _ in range(REPEATS)]
    columns = [np.ones(images, np.bool_), *(half for one in first for half in (one, ~one))]
    weights = np.stack(columns, axis=1).astype(np.float64)
    means: Floats = weights / weights.sum(axis=0)
    return means


def fixed_points(outcomes: Outcomes) -> dict[int, Point]:
    """Return cost and accuracy of each resolution alone."""
    accuracies = outcomes.correct.mean(axis=1).tolist()
    return {
        resolution: Point(cost, accuracy)
        for resolution, cost, accuracy in zip(
            outcomes.resolutions, outcomes.costs, accuracies, strict=True
        )
    }


def fixed_at(outcomes: Outcomes, cost: float) -> float:
    """Return the accuracy of fixed resolutions at a mean cost.

    Between two of them it is that of the best mixture, which takes either at random: a resolution
    that others beat is not used. Below the cheapest it is the cheapest's.
    """
    points = [(p.cost, p.accuracy) for p in fixed_points(outcomes).values()]
    reached = [accuracy for own, accuracy in points if own <= cost]
    mixtures = [
        low + (cost - cheap) / (dear - cheap) * (high - low)
        for cheap, low in points
        for dear, high in points
        if cheap <= cost < dear
    ]
    cheapest = min(points)[1]
    return float(max([*reached, *mixtures], default=cheapest))


def curve(candidates: Candidates, outcomes: Outcomes, *, points: int = 15) -> list[Selection]:
    """Choose cascades for targets from the cheapest resolution to the dearest."""
    targets = np.linspace(min(outcomes.costs), max(outcomes.costs), points).tolist()
    return [candidates.choose(max(target, candidates.cheapest)) for target in targets]
