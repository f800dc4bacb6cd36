"""How long one image takes at each resolution: measuring it, and what follows for a budget.

What is timed comes in as a function of the resolution: nothing here knows a network. What is kept
in files, and found there again, is in `table`; memory is in `benchmark.processes`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Final

import cv2
import numpy as np
from PIL import Image as Pictures

from rsseg.images.preprocessing import PHOTO_SIZE, Image
from rsseg.runtime.budget.budget import Budget
from rsseg.runtime.budget.table import Row
from rsseg.runtime.stages import Stages, medians

# From a resolution to the milliseconds of one prediction, by stage.
TimeOne = Callable[[int], Stages]

WARM_UP: Final = 2
_QUICK_RUNS: Final = 7
_QUICK_SECONDS: Final = 0.5  # for each resolution, after the runs that warm up


@dataclass(frozen=True)
class Times:
    """Milliseconds of several predictions at one resolution, in their order.

    Args:
        stages: By stage.
    """

    stages: tuple[Stages, ...]

    @property
    def whole(self) -> tuple[float, ...]:
        """From the image in memory to the answer."""
        return tuple(stages.prediction for stages in self.stages)

    @property
    def network(self) -> tuple[float, ...]:
        """Of these, the network alone."""
        return tuple(stages.network for stages in self.stages)

    @property
    def rest(self) -> float:
        """Median of what does not belong to the network, milliseconds."""
        return float(np.median(np.subtract(self.whole, self.network)))


def drawn_image(seed: int = 0) -> Image:
    """Return an image of noise, RGB, uint8, shape (*PHOTO_SIZE, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (*PHOTO_SIZE, 3), dtype=np.uint8)


def drawn_photo(seed: int = 0) -> bytes:
    """Return a JPEG of noise as coarse as a photo is, and about as many bytes: *PHOTO_SIZE pixels.

    Noise of single pixels would take several times as long to decode.
    """
    rng, (height, width) = np.random.default_rng(seed), PHOTO_SIZE
    pixels = np.full((height, width, 3), 128, np.float32)
    for cell in (1, 4, 16, 64):  # Contrast in proportion to size, as photos have it on average.
        noise = rng.standard_normal((-(-height // cell), -(-width // cell), 3), np.float32)
        smooth = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
        pixels += (2 + 0.6 * cell) * smooth
    stream = BytesIO()
    Pictures.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(stream, "JPEG", quality=90)
    return stream.getvalue()


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
        resolution: Times(tuple(times))
        for resolution, times in zip(resolutions, zip(*rounds, strict=True), strict=True)
    }


def measured_budget(time_one: TimeOne, resolutions: Sequence[int]) -> Budget:
    """Return a budget from a short measurement, see `measure`."""
    measured = measure(time_one, resolutions, runs=_QUICK_RUNS, seconds=_QUICK_SECONDS)
    idle = {resolution: float(np.median(times.network)) for resolution, times in measured.items()}
    rest = {resolution: times.rest for resolution, times in measured.items()}
    decode = {side: medians(times.stages).decode for side, times in measured.items()}
    return _budget(idle, rest, decode)


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
    used = {resolution: measured[resolution] for resolution in resolutions}
    idle = {side: row.network_ms for side, row in used.items()}
    rest = {side: row.median_ms - row.network_ms for side, row in used.items()}
    # Tables of earlier versions know nothing of decoding.
    decode = {side: row.stages.decode for side, row in used.items() if row.stages is not None}
    return _budget(idle, rest, decode if len(decode) == len(used) else None)


def _budget(
    idle: Mapping[int, float], rest: Mapping[int, float], decode: Mapping[int, float] | None
) -> Budget:
    """Return a budget; what all resolutions have in common of the rest is fixed."""
    rest = {resolution: max(0.0, milliseconds) for resolution, milliseconds in rest.items()}
    fixed = min(rest.values())
    above = {resolution: milliseconds - fixed for resolution, milliseconds in rest.items()}
    return Budget(idle, rest=above, decode=decode, fixed=fixed)
