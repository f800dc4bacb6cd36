"""How long one image takes at each resolution: measuring it, and what follows for a budget.

Measured are whole predictions of a drawn image, and of each the network alone. What is kept in
files, and found there again, is in `latency_file`; memory is in `peak_memory`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import torch

from rsseg.images.preprocessing import PHOTO_SIZE, Image
from rsseg.runtime.budget.budget import Budget
from rsseg.runtime.budget.table import Row, find_rows, this_machine
from rsseg.runtime.executors import Executor
from rsseg.runtime.prediction import Prediction

WARM_UP: Final = 2
_QUICK_RUNS: Final = 7
_QUICK_SECONDS: Final = 0.5  # for each resolution, after the runs that warm up


class Measurable(Protocol):
    """What can be timed: a `Predictor`, which measures itself with this module."""

    executor: Executor
    resolutions: tuple[int, ...]

    def predict(self, image: Image, resolution: int) -> Prediction:
        """Predict an image, RGB, uint8, shape (H, W, 3), at one resolution."""


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
        """Median of what does not belong to the network."""
        return float(np.median(np.subtract(self.whole, self.network)))


def drawn_image(seed: int = 0) -> Image:
    """Draw an image of noise, RGB, uint8, shape (*PHOTO_SIZE, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (*PHOTO_SIZE, 3), dtype=np.uint8)


def measure(
    predictor: Measurable,
    resolutions: Sequence[int],
    *,
    runs: int,
    seconds: float | None = None,
) -> dict[int, Times]:
    """Time predictions of one image.

    The resolutions take turns, so that whatever else the machine does meets all of them.

    Args:
        predictor: The network.
        resolutions: Sides of the views in pixels.
        runs: Predictions that are timed at each resolution.
        seconds: Begin no further round after so many for each resolution; one round is always
            timed. Default: no limit.

    Raises:
        ValueError: If the network cannot take views of one of them.
    """
    image = drawn_image()
    for resolution in resolutions:
        for _ in range(WARM_UP if seconds is None else 1):
            predictor.predict(image, resolution)
    end = None if seconds is None else time.perf_counter() + seconds * len(resolutions)
    rounds = []
    for _ in range(runs):
        rounds.append([predictor.predict(image, resolution) for resolution in resolutions])
        if end is not None and time.perf_counter() > end:
            break
    return {
        resolution: Times(
            tuple(p.milliseconds for p in predictions), tuple(p.network_ms for p in predictions)
        )
        for resolution, predictions in zip(resolutions, zip(*rounds, strict=True), strict=True)
    }


def measured_budget(predictor: Measurable) -> Budget:
    """Return the budget of a brief measurement."""
    times = measure(predictor, predictor.resolutions, runs=_QUICK_RUNS, seconds=_QUICK_SECONDS)
    idle = {resolution: float(np.median(t.network)) for resolution, t in times.items()}
    return Budget(idle, fixed=max(0.0, *(each.fixed for each in times.values())))


def saved_budget(predictor: Measurable, *, path: Path, threads: int | None) -> Budget:
    """Return the budget of a table beside the file, or else of a brief measurement.

    Args:
        predictor: The network, opened from `path`.
        path: A checkpoint or an exported file.
        threads: Threads that it was opened with, None for the default.

    Raises:
        ValueError: If there is a table, but it is damaged.
    """
    machine = this_machine(getattr(predictor.executor, "device", None))
    rows = find_rows(
        path,
        machine=machine,
        executor=predictor.executor.name,
        threads=threads or torch.get_num_threads(),
    )
    by_resolution = {row.resolution: row for row in rows}
    if not set(predictor.resolutions) <= set(by_resolution):
        return measured_budget(predictor)
    used: list[Row] = [by_resolution[resolution] for resolution in predictor.resolutions]
    idle = {row.resolution: row.network_ms for row in used}
    return Budget(idle, fixed=max(max(0.0, row.median_ms - row.network_ms) for row in used))
