r"""Which resolution a request gets, and when one is refused: the answer of a service to overload.

A *ceiling* holds for all requests. It falls at once, so far that those who wait are served in half
of the budget, and rises one resolution at a time, after a calm time:

.. math:: \mathrm{waiting} \cdot \mathrm{time}_r / \mathrm{workers} \le 0.5 \cdot \mathrm{budget}

What arrives tells little about whether a higher resolution would do: a client that waits for each
answer sends as fast as it is answered. So the next resolution is tried, soon where even the rate of
arrivals allows it, and else ever more rarely, as long as the attempts fail.

What an image costs at every resolution, because it is large, counts for that image alone: for its
budget, and for how long others wait for it. The ceiling does not fall for it, which would not help.

Pure state: the caller passes the time, nothing waits, and one thread at a time may call it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from rsseg.runtime.budget.budget import check_budget
from rsseg.switchable.resolutions import Resolutions

Reason = Literal["largest", "request", "budget", "image", "load"]
SHARE: Final = 0.5  # of the budget, in which those who wait have to be served
LATE: Final = 0.8  # of the budget; a request whose answer would take longer is refused
BUSY: Final = 0.7  # of what the workers can do; with less arriving a resolution is surely possible
SOON: Final = 0.5  # seconds of calm before a resolution that is surely possible
HOLD: Final = 1.0  # the same before one that is tried; doubles with every attempt that fails
LONGEST_HOLD: Final = 16.0
_MEMORY: Final = 2.0  # seconds of arrivals that tell their rate
_REMEMBERED: Final = 4096  # arrivals at most


@dataclass(frozen=True)
class Decision:
    """The resolution of one request.

    Args:
        resolution: Side of the view in pixels.
        reason: What decided: "largest", nothing spoke against it; "request", it was asked for;
            "budget", a larger one would take too long; "image", it would with what this image
            takes at every resolution; "load", it would with the queue.
    """

    resolution: int
    reason: Reason


class Policy:
    """Lowers the resolution while requests queue up, and raises it again when they do not.

    Args:
        resolutions: Sides of the views in pixels, largest first.
        budget_ms: Milliseconds in which a request is to be answered, waiting included.
        workers: How many requests are computed at once.
        capacity: How many may wait.

    Attributes:
        ceiling: The highest resolution that a request may have now.

    Raises:
        ValueError: If something given is not valid.
    """

    def __init__(
        self, resolutions: Sequence[int], *, budget_ms: float, workers: int = 1, capacity: int = 64
    ) -> None:
        check_budget(budget_ms)
        for name, value in (("workers", workers), ("the queue", capacity)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.resolutions = Resolutions(resolutions)
        self.budget_ms = budget_ms
        self.workers = workers
        self.capacity = capacity
        self.ceiling = self.resolutions[0]
        self._arrivals: deque[float] = deque(maxlen=_REMEMBERED)
        self._calm_since = self._raised = -math.inf
        self._hold = HOLD

    def arrive(
        self,
        now: float,
        waiting: int,
        times: Mapping[int, float],
        *,
        own_ms: float = 0.0,
        ahead_ms: float = 0.0,
    ) -> float | None:
        """Count a request that arrives, and decide whether it may wait.

        Args:
            now: Seconds of any clock that does not go back.
            waiting: How many wait already.
            times: Milliseconds that an ordinary image is expected to take at each resolution.
            own_ms: What this one takes besides, at every resolution.
            ahead_ms: What those who wait take besides, all together.

        Returns:
            None if it may wait; else the seconds after which it should be sent again: there is
            no room, or it would be answered too late even at the lowest resolution.
        """
        self._arrivals.append(now)
        lowest = times[self.resolutions[-1]]
        wait_ms = (waiting * lowest + ahead_ms) / self.workers
        in_time = wait_ms + lowest + own_ms <= LATE * self.budget_ms
        if waiting < self.capacity and (not waiting or in_time):
            return None
        return wait_ms / 1000

    def choose(
        self,
        now: float,
        waiting: int,
        waited_ms: float,
        times: Mapping[int, float],
        *,
        requested: int | None = None,
        budget_ms: float | None = None,
        own_ms: float = 0.0,
    ) -> Decision:
        """Choose the resolution of a request whose turn it is.

        Args:
            now: As above.
            waiting: How many wait behind it.
            waited_ms: Milliseconds that it has waited itself.
            times: As above.
            requested: The resolution that it asks for; it gets that unless the ceiling is lower.
            budget_ms: Its own budget, waiting included; default: that of all.
            own_ms: As above.
        """
        self._follow(now, waiting, times)
        if requested is not None:
            lowered = self.ceiling < min(requested, self.resolutions[0])
            return Decision(self.ceiling, "load") if lowered else Decision(requested, "request")
        budget = self.budget_ms if budget_ms is None else budget_ms
        fitting = self._highest(times, budget - waited_ms - own_ms)
        resolution = min(fitting, self.ceiling)
        return Decision(resolution, self._reason(resolution, times, budget, own_ms))

    def _reason(
        self, resolution: int, times: Mapping[int, float], budget: float, own_ms: float
    ) -> Reason:
        """Return the first of the causes, each added to those before, that gives a resolution."""
        causes: dict[Reason, int] = {
            "largest": self.resolutions[0],
            "budget": self._highest(times, budget),
            "image": self._highest(times, budget - own_ms),
        }
        return next((reason for reason, r in causes.items() if r == resolution), "load")

    def _highest(self, times: Mapping[int, float], room: float) -> int:
        fitting = (r for r in self.resolutions if times[r] <= room)
        return next(fitting, self.resolutions[-1])

    def _follow(self, now: float, waiting: int, times: Mapping[int, float]) -> None:
        """Move the ceiling to where it should be."""
        room = math.inf if not waiting else SHARE * self.budget_ms * self.workers / waiting
        permitted = self._highest(times, room)
        if permitted <= self.ceiling:
            if permitted < self.ceiling:
                self._fall(now, permitted)
            self._calm_since = now
            return
        while self.ceiling < permitted:
            hold = SOON if self._surely(now, times) else self._hold
            if now - self._calm_since < hold:
                return
            self._calm_since = min(now, self._calm_since + hold)
            self.ceiling, self._raised = self._next, now

    def _fall(self, now: float, permitted: int) -> None:
        failed = now - self._raised <= max(2 * self._hold, 2 * HOLD)
        self._hold = min(2 * self._hold, LONGEST_HOLD) if failed else HOLD
        self.ceiling = permitted

    @property
    def _next(self) -> int:
        """The resolution above the ceiling."""
        return self.resolutions[self.resolutions.index(self.ceiling) - 1]

    def _surely(self, now: float, times: Mapping[int, float]) -> bool:
        """Return whether the next resolution can serve all that arrives, and something to spare."""
        while self._arrivals and self._arrivals[0] < now - _MEMORY:
            self._arrivals.popleft()
        rate = len(self._arrivals) / _MEMORY
        return rate * times[self._next] / 1000 <= BUSY * self.workers
