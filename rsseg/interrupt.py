"""Stopping a run between two steps, where everything can be saved."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType


class Interrupted(Exception):  # noqa: N818 - it is no error
    """A run was asked to stop; it is saved, and the message says how to go on."""


class StopRequest:
    """Inside a `with` block, turns the first Ctrl-C (or SIGTERM) into a request to stop.

    A second one stops at once. Outside the main thread signals cannot be caught, there the
    block changes nothing.

    Attributes:
        asked: Whether a stop has been asked for.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        # Not print: a signal may come in the middle of another write.
        os.write(2, b"\nstopping after this step or evaluation; once more stops at once\n")
