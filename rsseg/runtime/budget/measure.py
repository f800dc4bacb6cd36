"""How long one image takes at each resolution: measuring it, and what follows for a budget.

What is timed comes in as a function of the resolution: nothing here knows a network. What is kept
in files, and found there again, is in `table`; memory is in `benchmark.processes`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from rsseg.images.preprocessing import PHOTO_SIZE, Image
from rsseg.runtime.budget.budget import Budget
from rsseg.runtime.budget.table import Row

# From a resolution to the milliseconds of one prediction, and of the network alone.
TimeOne = Callable[[int], tuple[float, float]]

WARM_UP: Final = 2
_QUICK_RUNS: Final = 7
_QUICK_SECONDS: Final = 0.5  # for each resolution, after the runs that warm up


@dataclass(frozen=True)
class Times:
    """Milliseconds of several predictions at one resolution, in their order.

    Args:
        whole: From the image in memory to the answer.
        network: Of these, the network alone.
    """

    whole: tuple[float, ...]
    network: tuple[float, ...]

    @property
    def fixed(self) -> float:
        """Median of what does not belong to the network, milliseconds."""
        return float(np.median(np.subtract(self.whole, self.network)))


def drawn_image(seed: int = 0) -> Image:
    """Return an image of noise, RGB, uint8, shape (*PHOTO_SIZE, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (*PHOTO_SIZE, 3), dtype=np.uint8)


def measure(
    time_one: TimeOne,
    resolutions: Sequence[int],
    *,
    runs: int,
    seconds: float | None = None,
) -> dict[int, Times]:
    """Time predictions of one image.

    The resolutions take turns, so that whatever else the machine does meets all of them.

    Args:
        time_one: Predicts once, always the same image; its first calls warm up.
        resolutions: Sides of the views in pixels.
        runs: Predictions that are timed at each resolution.
        seconds: Begin no further round after so many for each resolution; one round is always
            timed. Default: no limit.

    Returns:
        Times by resolution, in the given order.

    Raises:
        ValueError: If the network cannot take views of one of them.
    """
    for resolution in resolutions:
        for _ in range(WARM_UP if seconds is None else 1):
            time_one(resolution)
    end = None if seconds is None else time.perf_counter() + seconds * len(resolutions)
    rounds = []
    for _ in range(runs):
        rounds.append([time_one(resolution) for resolution in resolutions])
        if end is not None and time.perf_counter() > end:
            break
    return {
        resolution: Times(*zip(*times, strict=True))
        for resolution, times in zip(resolutions, zip(*rounds, strict=True), strict=True)
    }


def measured_budget(time_one: TimeOne, resolutions: Sequence[int]) -> Budget:
    """Return a budget from a short measurement, see `measure`."""
    measured = measure(time_one, resolutions, runs=_QUICK_RUNS, seconds=_QUICK_SECONDS)
    idle = {resolution: float(np.median(times.network)) for resolution, times in measured.items()}
    return Budget(idle, fixed=max(0.0, *(times.fixed for times in measured.values())))


def saved_budget(rows: Sequence[Row], resolutions: Sequence[int]) -> Budget | None:
    """Return a budget from the rows of a table, see `table.find_rows`.

    Args:
        rows: What was measured on this machine.
        resolutions: Those that are to be chosen from, in pixels.

    Returns:
        The budget, None if one of the resolutions was not measured.
    """
    measured = {row.resolution: row for row in rows}
    if not set(resolutions) <= set(measured):
        return None
    used = [measured[resolution] for resolution in resolutions]
    idle = {row.resolution: row.network_ms for row in used}
    return Budget(idle, fixed=max(max(0.0, row.median_ms - row.network_ms) for row in used))
