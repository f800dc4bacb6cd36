"""Requests to stop: the first signal asks, the second one stops."""

from __future__ import annotations

import contextlib
import signal
import threading

import pytest

from rsseg.training.interrupt import StopRequest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_first_signal_asks_and_the_second_stops_at_once(number: signal.Signals) -> None:
    with StopRequest() as stop:
        before = [stop.requested]
        signal.raise_signal(number)
        assert [*before, stop.requested] == [False, True]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)


def test_warning_and_then_the_end_ask_twice_and_stop_nothing() -> None:
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGTERM)
        assert stop.requested


def test_signals_mean_afterwards_what_they_meant_before() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with StopRequest():
        assert signal.getsignal(signal.SIGINT) != before[0]
    with contextlib.suppress(ValueError), StopRequest():
        raise ValueError("a fault")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_thread_beside_the_main_one_leaves_signals_alone() -> None:
    seen = []

    def enter() -> None:
        with StopRequest() as stop:
            seen.append((stop.requested, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [(False, signal.getsignal(signal.SIGINT))]
