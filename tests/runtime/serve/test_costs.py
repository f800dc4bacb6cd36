"""Facts about rsseg/runtime/serve/costs.py: a large image is charged to itself alone."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from io import BytesIO

import pytest
from PIL import Image as Pictures

from rsseg.images.photo import Photo
from rsseg.images.preprocessing import Image
from rsseg.runtime.budget.budget import Budget
from rsseg.runtime.predictor import Predictor
from rsseg.runtime.serve.admission import Decision, Policy
from rsseg.runtime.serve.body import RefusedError
from rsseg.runtime.serve.costs import Costs, Kind
from rsseg.runtime.serve.request import RequestOptions
from rsseg.runtime.serve.response import AnswerInfo
from rsseg.runtime.serve.service import Service
from tests.helpers.small_exported import description
from tests.helpers.small_service import IDLE, FakeExecutor, drawn, encoded, fake_service

JSON = RequestOptions("json")
SMALL, HUGE = Kind("PNG", 0.3, "json"), Kind("PNG", 38.0, "json")
PHOTO = Kind("JPEG", 12.0, "json")


def costs() -> Costs:
    decode = dict.fromkeys(IDLE, 2.0)
    return Costs(Budget(IDLE, decode=decode, fixed=1.0), "json")


def test_large_images_move_nothing_that_others_are_expected_to_take() -> None:
    held = costs()
    before = held.expected()
    for _ in range(100):
        held.observe(HUGE, 64, decode_ms=4000.0, other_ms=900.0)
        held.observe(PHOTO, 32, decode_ms=250.0, other_ms=60.0)
    assert held.expected() == before == {64: 43.0, 48: 23.0, 32: 13.0}
    assert held.own(SMALL) == 0


def test_slow_decoding_of_a_small_image_moves_nothing_either() -> None:
    held = costs()
    before = held.expected()
    for _ in range(100):
        held.observe(SMALL, 64, decode_ms=5000.0, other_ms=1.0)
    assert held.expected() == before
    assert held.own(SMALL) == 0


def test_large_image_is_expected_to_take_what_others_of_its_format_took_by_size() -> None:
    held = costs()
    for _ in range(20):
        held.observe(HUGE, 64, decode_ms=760.0, other_ms=0.0)
    usual = 0.3072  # megapixels of 640x480
    rate = (760.0 - 3.0) / (38.0 - usual)
    assert held.own(Kind("PNG", 20.0, "json")) == pytest.approx(rate * (20.0 - usual), rel=0.3)
    assert held.own(PHOTO) == pytest.approx(10.0 * (12.0 - usual))  # not measured yet
    for _ in range(700):
        held.observe(HUGE, 64, decode_ms=760.0, other_ms=0.0)
    assert held.own(Kind("PNG", 20.0, "json")) == pytest.approx(rate * (20.0 - usual), rel=1e-6)


def test_what_ordinary_answers_take_besides_is_expected_of_all() -> None:
    held = costs()
    for _ in range(20):
        held.observe(SMALL, 64, decode_ms=2.0, other_ms=6.0)
    assert held.expected()[64] == pytest.approx(43.0 + 5.0)


def test_costly_format_of_an_answer_is_charged_to_those_who_ask_for_it() -> None:
    held = costs()
    before = held.expected()
    overlay = Kind("PNG", 0.3, "overlay")
    for _ in range(20):
        held.observe(overlay, 64, decode_ms=2.0, other_ms=81.0)
    assert held.expected() == before
    assert held.own(overlay) == pytest.approx(80.0)
    assert held.own(SMALL) == 0


def test_own_cost_lowers_the_resolution_of_its_request_and_the_reason_says_so() -> None:
    policy = Policy(tuple(IDLE), budget_ms=200.0)
    assert policy.choose(0, 0, 0, IDLE, own_ms=100) == Decision(64, "largest")
    assert policy.choose(0, 0, 0, IDLE, own_ms=170) == Decision(48, "image")
    assert policy.choose(0, 0, 0, IDLE, own_ms=5000) == Decision(32, "image")
    assert policy.choose(0, 0, 0, IDLE, own_ms=5000, budget_ms=25) == Decision(32, "image")
    assert policy.choose(0, 0, 0, IDLE, budget_ms=15, own_ms=5000) == Decision(32, "budget")
    assert policy.choose(0, 0, 175, IDLE, own_ms=0) == Decision(48, "load")
    assert policy.choose(0, 0, 85, IDLE, own_ms=100) == Decision(32, "load")
    assert policy.choose(0, 0, 0, IDLE) == Decision(64, "largest")
    assert policy.ceiling == 64


def test_own_costs_of_those_who_wait_count_for_who_arrives_and_not_for_the_ceiling() -> None:
    policy = Policy(tuple(IDLE), budget_ms=200.0)
    assert policy.arrive(0, 2, IDLE) is None
    assert policy.arrive(0, 2, IDLE, ahead_ms=400.0) == pytest.approx(0.42)
    assert policy.arrive(0, 0, IDLE, own_ms=9000.0) is None  # Nobody waits for it.
    assert policy.arrive(0, 1, IDLE, own_ms=9000.0) == pytest.approx(0.01)
    assert policy.choose(0, 2, 0, IDLE, own_ms=9000.0).resolution == 32
    assert policy.ceiling == 64


@dataclass
class Clock:
    """A time that passes as images are decoded and networks computed, on any machine the same."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now

    def service(self, monkeypatch: pytest.MonkeyPatch) -> Service:
        def decode(photo: Photo, _: int) -> Image:
            self.now += 0.02 * photo.pixels / 10**6
            return drawn()

        def compute(resolution: int) -> None:
            self.now += IDLE[resolution] / 1000

        monkeypatch.setattr(time, "perf_counter", self)
        monkeypatch.setattr(Photo, "_pixels", decode)
        predictor = Predictor(
            FakeExecutor(compute),
            description(resolutions=tuple(IDLE)),
            make_budget=lambda _: Budget(IDLE),
        )
        return Service(predictor, budget_ms=200.0, clock=self)


def large(form: str, width: int, height: int) -> bytes:
    stream = BytesIO()
    Pictures.new("L", (width, height)).save(stream, form)
    return stream.getvalue()


def ask(service: Service, content: bytes) -> AnswerInfo:
    return service.submit(content, JSON).result(60).info


@pytest.mark.parametrize(("form", "width", "height"), [("PNG", 7600, 5000), ("JPEG", 4000, 3000)])
def test_large_images_leave_the_resolution_of_all_others_as_it_is(
    monkeypatch: pytest.MonkeyPatch, form: str, width: int, height: int
) -> None:
    service = Clock().service(monkeypatch)
    content, small = large(form, width, height), encoded()
    for _ in range(25):
        assert (ask(service, small).resolution, ask(service, small).chosen_by) == (64, "largest")
        told = ask(service, content)
    assert (told.resolution, told.chosen_by) == (32, "image")
    assert {ask(service, small).resolution for _ in range(100)} == {64}
    service.close()


def test_large_image_that_would_hold_up_others_is_refused_and_told_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    go, begun = threading.Event(), threading.Event()

    def wait(_: int) -> None:
        begun.set()
        assert go.wait(60)

    service = fake_service(wait)
    first = service.submit(encoded(), JSON)
    assert begun.wait(60)
    second = service.submit(encoded(), JSON)
    with pytest.raises(RefusedError, match=r"as decoding it takes about 94\d ms; send it again"):
        service.submit(large("PNG", 7600, 5000), JSON)
    third = service.submit(encoded(), JSON)
    go.set()
    assert all(job.result(60).content for job in (first, second, third))
    service.close()
