r"""Which resolution keeps a budget of milliseconds, on a machine whose load changes.

A prediction takes a part that depends on the resolution (the network, the view, a photo decoded as
large as the view needs) and one that does not (a label map at the photo's own size). The first is
known in advance for an idle machine; measured is by how much its network is slower now, one factor
for all resolutions, so that what is measured at one of them tells of those that are not in use:

.. math:: \mathrm{expected}_r = \mathrm{fixed} + \mathrm{load} \cdot
    (\mathrm{network}_r + \mathrm{rest}_r + \mathrm{decode}_r)

All else that a prediction takes is fixed, such as what a larger photo adds at every resolution.

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
        rest: The same of what else of a prediction depends on the resolution; default: nothing.
        decode: The same of decoding a photo; default: nothing.
        fixed: Milliseconds of what does not depend on it.

    Raises:
        ValueError: If there is no resolution, a time of the network is not a positive number, or
            another one is negative or missing.

    Example:
        >>> budget = Budget({224: 20.0, 96: 5.0})
        >>> budget.choose(30).resolution
        224
        >>> for _ in range(3):
        ...     budget.observe(224, 60.0)  # the machine is three times slower now
        >>> budget.choose(30)
        Choice(resolution=96, milliseconds=15.0, fits=True)
    """

    def __init__(
        self,
        idle: Mapping[int, float],
        *,
        rest: Mapping[int, float] | None = None,
        decode: Mapping[int, float] | None = None,
        fixed: float = 0.0,
    ) -> None:
        self.resolutions = Resolutions(sorted(idle, reverse=True))
        for milliseconds in idle.values():
            _check(milliseconds, "the time of a resolution")
        if not 0 <= fixed < math.inf:
            raise ValueError(f"the fixed part must be at least 0 ms, got {fixed}")
        self.idle = {resolution: float(idle[resolution]) for resolution in self.resolutions}
        self.rest = _same_resolutions(self.idle, rest, "rest")
        self.decode = _same_resolutions(self.idle, decode, "decode")
        self._load, self._fixed = Hysteresis(1.0), Hysteresis(fixed)
        self._lock = threading.Lock()

    @property
    def load(self) -> float:
        """By how much the network is slower than on the idle machine; 1 is as fast."""
        return self._load.value

    def observe(
        self,
        resolution: int,
        milliseconds: float,
        rest: float | None = None,
        *,
        decode: float | None = None,
    ) -> None:
        """Update load and fixed part with the times of a prediction.

        Args:
            resolution: Where it was; of one whose time on the idle machine is not known, the fixed
                part alone counts, with the known parts of the nearest one.
            milliseconds: Of the network.
            rest: Milliseconds of the rest of the prediction, None if they have not been measured.
            decode: Milliseconds of decoding its photo, None if there was none.
        """
        nearest = min(self.resolutions, key=lambda known: abs(known - resolution))
        with self._lock:
            if resolution in self.idle:
                self._load.measure(max(milliseconds, 0.0) / self.idle[resolution])
            if rest is not None:
                known = self.rest[nearest]
                if decode is not None:
                    rest, known = rest + decode, known + self.decode[nearest]
                self._fixed.measure(max(rest - self._load.value * known, 0.0))

    def expected(self, *, decoding: bool = False) -> dict[int, float]:
        """Return what nine of ten predictions are expected to take at most, now.

        Args:
            decoding: Add decoding of a photo.

        Returns:
            Milliseconds by resolution, largest resolution first.
        """
        with self._lock:
            fixed, load = self._fixed.value, self._load.value
        known = {r: idle + self.rest[r] for r, idle in self.idle.items()}
        if decoding:
            known = {r: milliseconds + self.decode[r] for r, milliseconds in known.items()}
        return {r: fixed + load * milliseconds for r, milliseconds in known.items()}

    def choose(self, budget_ms: float, *, decoding: bool = False) -> Choice:
        """Choose the highest resolution that is expected to keep a budget, or else the lowest.

        Args:
            budget_ms: Milliseconds.
            decoding: Whether they have to do for decoding a photo as well.

        Raises:
            ValueError: If the budget is not a positive number.
        """
        check_budget(budget_ms)
        expected = self.expected(decoding=decoding)
        fitting = [r for r, milliseconds in expected.items() if milliseconds <= budget_ms]
        resolution = fitting[0] if fitting else self.resolutions[-1]
        return Choice(resolution, expected[resolution], bool(fitting))


def _same_resolutions(
    idle: Mapping[int, float], times: Mapping[int, float] | None, what: str
) -> dict[int, float]:
    """Return the times of the resolutions of `idle`, 0 where there are none."""
    if times is None:
        return dict.fromkeys(idle, 0.0)
    for resolution in idle:
        if not 0 <= times.get(resolution, -1) < math.inf:
            raise ValueError(
                f"{what} must be at least 0 ms at each resolution, got "
                f"{times.get(resolution)} at {resolution}"
            )
    return {resolution: float(times[resolution]) for resolution in idle}


def check_budget(budget_ms: float) -> None:
    """Raise a ValueError unless a budget is a positive number of milliseconds."""
    _check(budget_ms, "budget_ms")


def _check(milliseconds: float, what: str) -> None:
    number = isinstance(milliseconds, int | float) and not isinstance(milliseconds, bool)
    if not number or not 0 < milliseconds < math.inf:
        raise ValueError(f"{what} must be a positive number of milliseconds, got {milliseconds!r}")
