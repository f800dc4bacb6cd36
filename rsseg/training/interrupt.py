"""Stopping a run between two steps, where everything can be saved."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType

# Ctrl-C, what ends a process, and the warning that clusters send some time before.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Interrupted(Exception):  # noqa: N818 - not an error
    """A run has stopped on request; it is saved, and the message says how to continue it."""


class StopRequest:
    """Inside a `with` block, the first Ctrl-C, SIGTERM or SIGUSR1 becomes a request to stop.

    The same signal once more stops at once. Outside the main thread signals cannot be caught;
    there the block changes nothing.

    Attributes:
        requested: Whether a stop has been requested.
    """

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, object] = {}
        self._signals: set[int] = set()

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number in self._signals:
            raise KeyboardInterrupt
        self._signals.add(number)
        self.requested = True
        # Not print: a signal may come in the middle of another write.
        os.write(2, b"\nstopping after this step or evaluation; once more stops at once\n")
