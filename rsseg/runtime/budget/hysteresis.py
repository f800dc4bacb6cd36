"""A quantile that follows measurements: up at once, down when it is sure, not back and forth.

Pure state: no clock, no network. `budget` keeps the load of a machine in one.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

WINDOW: Final = 20  # measurements that count
SHARE: Final = 0.9  # of them lie at or below the value
BAND: Final = 0.1  # A value that is so much too high is left where it is.
PATIENCE: Final = 10  # measurements that have to be below the band, one after the other
MOST_PATIENCE: Final = 640


class Hysteresis:
    r"""The 0.9-quantile of the last 20 measurements, with hysteresis.

    A quantile above the value raises it at once: three of twenty measurements are enough, a single
    outlier is not. It falls to the quantile when that has been below value / 1.1 for a number of
    measurements, which doubles whenever the value had to come back soon, up to 640. Measurements
    that vary by less than the band therefore move it finitely often, and wider ones ever less.

    Args:
        start: The value before anything is measured, at least 0.
    """

    def __init__(self, start: float) -> None:
        self.value = start
        self._window = deque([start] * WINDOW, maxlen=WINDOW)
        self._patience = PATIENCE
        self._below = 0  # measurements in a row that are below the band
        self._since = 0  # measurements since the value fell
        self._left = math.inf  # the value from which it fell

    def measure(self, value: float) -> None:
        """Update the value with a measurement, at least 0."""
        self._window.append(value)
        self._since += 1
        quantile = sorted(self._window)[math.ceil(SHARE * WINDOW) - 1]
        if quantile >= self.value:
            self._below = 0
            self._raise(quantile)
            return
        self._below = self._below + 1 if quantile < self.value / (1 + BAND) else 0
        if self._below >= self._patience:
            self._fall(quantile)

    def _fall(self, quantile: float) -> None:
        self._left, self.value = self.value, quantile
        self._below = self._since = 0

    def _raise(self, quantile: float) -> None:
        self.value = quantile
        if quantile < self._left / (1 + BAND):
            return
        # It is back where it fell from: was that soon, or after a time that shows it was right?
        soon = self._since <= 4 * max(self._patience, WINDOW)
        self._patience = min(2 * self._patience, MOST_PATIENCE) if soon else PATIENCE
        self._left = math.inf
