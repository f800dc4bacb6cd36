"""Facts about requests that wait and are computed by one pass of the network."""

from __future__ import annotations

import threading
from concurrent.futures import Future

import numpy as np
import pytest

from rsseg.runtime.budget.budget import Budget
from rsseg.runtime.predictor import Predictor
from rsseg.runtime.protocol import Logits, Views
from rsseg.runtime.serve.body import RefusedError
from rsseg.runtime.serve.request import RequestOptions
from rsseg.runtime.serve.service import TOGETHER, Answer, Service
from tests.helpers.small_exported import description
from tests.helpers.small_service import IDLE, drawn, encoded

SECONDS = 60


class Recorder:
    """Notes the number of views of each pass; the first one waits until `go` is set."""

    name = "fake"
    device = "cpu"
    resolutions = tuple(IDLE)

    def __init__(self) -> None:
        self.passes: list[tuple[int, int]] = []
        self.go, self.begun = threading.Event(), threading.Event()
        self.failing = False

    def logits(self, images: Views, resolution: int) -> Logits:
        self.passes.append((len(images), resolution))
        self.begun.set()
        assert self.go.wait(SECONDS)
        if self.failing and len(images) > 1:
            raise ValueError("no batches")
        return np.array([[1, 3, 2]] * len(images), np.float32)


def started() -> tuple[Recorder, Service, Future[Answer]]:
    """Return a service whose only worker is busy with a request."""
    recorder = Recorder()
    predictor = Predictor(
        recorder, description(resolutions=tuple(IDLE)), make_budget=lambda _: Budget(IDLE)
    )
    recorder.go.set()
    service = Service(predictor, budget_ms=1e6)  # which tries other resolutions first
    recorder.go.clear()
    recorder.begun.clear()
    recorder.passes.clear()
    first = service.submit(encoded(), RequestOptions("json"))
    assert recorder.begun.wait(SECONDS)
    return recorder, service, first


def finish(recorder: Recorder, service: Service, *futures: Future[Answer]) -> list[Answer]:
    recorder.go.set()
    answers = [future.result(SECONDS) for future in futures]
    service.close()
    return answers


def test_requests_that_wait_are_computed_together_and_one_alone_is_not() -> None:
    recorder, service, first = started()
    options = RequestOptions("json", resolution=32)
    waiting = [service.submit(encoded(), options) for _ in range(TOGETHER + 1)]
    answers = finish(recorder, service, first, *waiting)
    assert recorder.passes == [(1, 64), (TOGETHER, 32), (1, 32)]
    assert [answer.info.resolution for answer in answers] == [64] + [32] * (TOGETHER + 1)
    assert {answer.info.chosen_by for answer in answers[1:]} == {"request"}
    assert len({answer.content[:20] for answer in answers[1:]}) == 1


def test_requests_that_ask_for_something_else_are_not_among_them() -> None:
    recorder, service, first = started()
    asked = [RequestOptions("json", resolution=r) for r in (32, 48, 32)]
    asked.append(RequestOptions("json", budget_ms=1e6))
    waiting = [service.submit(encoded(), options) for options in asked]
    large = service.submit(encoded("PNG", drawn(1200, 1100)), asked[0])
    finish(recorder, service, first, *waiting, large)
    assert recorder.passes == [(1, 64), (2, 32), (1, 48), (1, 64), (1, 32)]


def test_damaged_image_is_refused_and_those_computed_with_it_are_answered() -> None:
    recorder, service, first = started()
    options, whole = RequestOptions("json", resolution=32), encoded()
    good = [service.submit(whole, options)]
    bad = service.submit(whole[: len(whole) // 2], options)
    good.append(service.submit(whole, options))
    finish(recorder, service, first, *good)
    with pytest.raises(RefusedError, match="unreadable image"):
        bad.result(SECONDS)


def test_network_that_takes_no_batches_computes_each_by_itself() -> None:
    recorder, service, first = started()
    recorder.failing = True
    waiting = [service.submit(encoded(), RequestOptions("json")) for _ in range(3)]
    assert len(finish(recorder, service, first, *waiting)) == 4
    assert [count for count, _ in recorder.passes] == [1, 3, 1, 1, 1]
