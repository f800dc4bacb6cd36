r"""Which resolution keeps a budget of milliseconds, on a machine whose load changes.

A prediction takes a part that depends on the resolution (the network) and one that does not
(reading the image, a label map at its own size). The first is known in advance for an idle machine;
measured is by how much all of them are slower now, one factor for all resolutions, so that what is
measured at one of them tells of those that are not in use:

.. math:: \mathrm{expected}_r = \mathrm{fixed} + \mathrm{load} \cdot \mathrm{idle}_r

Pure state: there is no clock here, and nothing is chosen from what a single call has measured.
How a value follows measurements without going back and forth is in `hysteresis`.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass

from rsseg.runtime.budget.hysteresis import Hysteresis
from rsseg.switchable.resolutions import Resolutions


@dataclass(frozen=True)
class Choice:
    """The resolution for a budget.

    Args:
        resolution: Side of the view in pixels.
        milliseconds: What nine of ten predictions are expected to take at most, now.
        fits: Whether that is inside the budget; if not, it is the lowest resolution.
    """

    resolution: int
    milliseconds: float
    fits: bool


class Budget:
    """Chooses the highest resolution that keeps a budget; safe to be used by several threads.

    Every budget is served by the same measurements. Each choice is the same until the load, or
    the fixed part, has moved by more than the band of `hysteresis`.

    Args:
        idle: Milliseconds of the network for each resolution, on the idle machine.
        fixed: Milliseconds of the rest of a prediction.

    Raises:
        ValueError: If there is no resolution, or a time is not a positive number.

    Example:
        >>> budget = Budget({224: 20.0, 96: 5.0})
        >>> budget.choose(30).resolution
        224
        >>> for _ in range(3):
        ...     budget.observe(224, 60.0)  # the machine is three times slower now
        >>> budget.choose(30)
        Choice(resolution=96, milliseconds=15.0, fits=True)
    """

    def __init__(self, idle: Mapping[int, float], *, fixed: float = 0.0) -> None:
        self.resolutions = Resolutions(sorted(idle, reverse=True))
        for milliseconds in idle.values():
            _check(milliseconds, "the time of a resolution")
        if not 0 <= fixed < math.inf:
            raise ValueError(f"the fixed part must be at least 0 ms, got {fixed}")
        self.idle = {resolution: float(idle[resolution]) for resolution in self.resolutions}
        self._load, self._fixed = Hysteresis(1.0), Hysteresis(fixed)
        self._lock = threading.Lock()

    @property
    def load(self) -> float:
        """By how much the network is slower than on the idle machine; 1 is as fast."""
        return self._load.value

    def observe(self, resolution: int, milliseconds: float, fixed: float | None = None) -> None:
        """Update load and fixed part with the times of a prediction.

        Args:
            resolution: Where it was; of one whose time on the idle machine is not known, the fixed
                part alone counts.
            milliseconds: Of the network.
            fixed: Milliseconds of the rest, None if they have not been measured.
        """
        with self._lock:
            if fixed is not None:
                self._fixed.measure(max(fixed, 0.0))
            if resolution in self.idle:
                self._load.measure(max(milliseconds, 0.0) / self.idle[resolution])

    def choose(self, budget_ms: float) -> Choice:
        """Choose the highest resolution that is expected to keep a budget, or else the lowest.

        Raises:
            ValueError: If the budget is not a positive number.
        """
        check_budget(budget_ms)
        with self._lock:
            fixed, load = self._fixed.value, self._load.value
        expected = {r: fixed + load * milliseconds for r, milliseconds in self.idle.items()}
        fitting = [r for r, milliseconds in expected.items() if milliseconds <= budget_ms]
        resolution = fitting[0] if fitting else self.resolutions[-1]
        return Choice(resolution, expected[resolution], bool(fitting))


def check_budget(budget_ms: float) -> None:
    """Raise a ValueError unless a budget is a positive number of milliseconds."""
    _check(budget_ms, "budget_ms")


def _check(milliseconds: float, what: str) -> None:
    number = isinstance(milliseconds, int | float) and not isinstance(milliseconds, bool)
    if not number or not 0 < milliseconds < math.inf:
        raise ValueError(f"{what} must be a positive number of milliseconds, got {milliseconds!r}")
