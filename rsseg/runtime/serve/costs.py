"""What one request is expected to cost now, at each resolution.

The network and what surrounds it are known to `Budget`. Decoding the image and encoding the answer
are measured here: they belong to the service.
"""

from __future__ import annotations

import threading

from rsseg.runtime.budget.budget import Budget
from rsseg.runtime.budget.level import Level

_NO_LIMIT = 1e12  # milliseconds


class Costs:
    """Milliseconds that a worker is expected to need; safe to be used by several threads.

    Args:
        budget: Knows the network and the load of the machine.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._around = Level(0.0)
        self._lock = threading.Lock()

    def observe(self, milliseconds: float) -> None:
        """Take in how long a request took apart from the prediction."""
        with self._lock:
            self._around.measure(max(0.0, milliseconds))

    def expected(self) -> dict[int, float]:
        """Give the milliseconds of each resolution, largest resolution first."""
        with self._lock:
            around = self._around.value
        budget = self._budget
        largest = budget.choose(_NO_LIMIT)
        load, idle = budget.load, budget.idle
        rest = around + largest.milliseconds - load * idle[largest.resolution]
        return {r: max(0.0, rest) + load * idle[r] for r in budget.resolutions}
