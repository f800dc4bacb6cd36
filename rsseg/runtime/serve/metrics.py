"""Numbers for Prometheus: requests, answers, and how long they took."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

# Seconds: from a tiny network on a GPU to a large one on a small machine under load.
_BUCKETS: Final = (0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10)
NO_RESOLUTION: Final = "none"  # of what was refused before one was chosen


class Metrics:
    """The numbers of one service, in a registry of their own.

    Args:
        waiting: Returns how many requests wait.
        ceiling: Returns the highest resolution that a request may have.
    """

    def __init__(self, *, waiting: Callable[[], float], ceiling: Callable[[], float]) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "rsseg_requests",
            "Requests to /predict by HTTP status and resolution",
            ("status", "resolution"),
            registry=registry,
        )
        self._refused = Counter("rsseg_refused", "Refused under overload", registry=registry)
        self._gone = Counter("rsseg_disconnected", "Gone before their answer", registry=registry)
        self._latency = Histogram(
            "rsseg_request_seconds",
            "From the whole image to the answer, waiting included",
            ("resolution",),
            buckets=_BUCKETS,
            registry=registry,
        )
        self._wait = Histogram(
            "rsseg_wait_seconds", "In the queue", buckets=_BUCKETS, registry=registry
        )
        length = Gauge("rsseg_queue_length", "Requests that wait", registry=registry)
        length.set_function(waiting)
        highest = "Highest resolution that a request may have now"
        Gauge("rsseg_resolution_ceiling", highest, registry=registry).set_function(ceiling)

    def answered(self, resolution: int, seconds: float, wait: float) -> None:
        """Count an answer."""
        self._requests.labels("200", str(resolution)).inc()
        self._latency.labels(str(resolution)).observe(seconds)
        self._wait.observe(wait)

    def refused(self, status: int) -> None:
        """Count a request that was not answered."""
        self._requests.labels(str(status), NO_RESOLUTION).inc()
        if status == 429:
            self._refused.inc()

    def gone(self) -> None:
        """Count a client that has gone before its answer."""
        self._gone.inc()

    def text(self) -> bytes:
        """Write all numbers as Prometheus reads them."""
        return generate_latest(self._registry)
