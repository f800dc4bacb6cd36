"""Facts about rsseg/runtime/serve/admission.py, found by simulating a service without a clock."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsseg.runtime.serve.admission import Decision, Policy

TIMES = {224: 45.0, 192: 34.0, 160: 25.0, 128: 17.0, 96: 12.0}
BUDGET = 200.0
CAPACITY = 1000 / TIMES[224]  # requests per second at the highest resolution, of one worker
CALM, OVERLOAD = (0.4 * CAPACITY, 6.0), (3 * CAPACITY, 30.0)


class Answered(NamedTuple):
    arrived: float
    milliseconds: float
    resolution: int


@dataclass
class Simulation:
    """A queue and workers whose time passes as told.

    Args:
        workers: How many.
        phases: Requests per second, and for how many seconds.
        clients: How many more send a request as soon as they have the answer, for 20 seconds.
    """

    workers: int = 1
    phases: Sequence[tuple[float, float]] = ()
    clients: int = 0
    answered: list[Answered] = field(default_factory=list)
    refused: list[tuple[float, int]] = field(default_factory=list)
    ceilings: list[tuple[float, int]] = field(default_factory=list)

    def run(self) -> Simulation:
        policy = Policy(tuple(TIMES), budget_ms=BUDGET, workers=self.workers)
        events = [(arrival, False, False) for arrival in self._arrivals()]
        events += [(0.001 * client, False, True) for client in range(self.clients)]
        heapq.heapify(events)
        free, queue, rng = self.workers, list[tuple[float, bool]](), random.Random(1)
        while events:
            now, done, again = heapq.heappop(events)
            if not done and policy.arrive(now, len(queue), TIMES) is not None:
                self.refused.append((now, policy.ceiling))
            elif not done:
                queue.append((now, again))
            elif again and now < 20:
                heapq.heappush(events, (now + 0.0005, False, True))
            free += done
            while free and queue:
                arrived, again = queue.pop(0)
                waited = 1000 * (now - arrived)
                chosen = policy.choose(now, len(queue), waited, TIMES).resolution
                took = rng.uniform(0.85, 1.1) * TIMES[chosen]
                self.answered.append(Answered(arrived, waited + took, chosen))
                self.ceilings.append((now, policy.ceiling))
                heapq.heappush(events, (now + took / 1000, True, again))
                free -= 1
        return self

    def _arrivals(self) -> list[float]:
        rng, arrivals, begin = random.Random(0), list[float](), 0.0
        for rate, seconds in self.phases:
            now = begin + rng.expovariate(rate)
            while now < begin + seconds:
                arrivals.append(now)
                now += rng.expovariate(rate)
            begin += seconds
        return arrivals

    def between(self, begin: float, end: float) -> list[Answered]:
        return [answer for answer in self.answered if begin <= answer.arrived < end]


def p95(answers: Sequence[Answered]) -> float:
    return sorted(answer.milliseconds for answer in answers)[int(0.95 * len(answers))]


def mean(answers: Sequence[Answered]) -> float:
    return sum(answer.resolution for answer in answers) / len(answers)


@pytest.mark.parametrize("workers", [1, 2])
def test_threefold_load_is_answered_inside_the_budget_and_nothing_is_refused(workers: int) -> None:
    load = [(workers * rate, seconds) for rate, seconds in (CALM, OVERLOAD, CALM)]
    simulated = Simulation(workers, load).run()
    assert not simulated.refused
    overloaded = simulated.between(6, 36)
    assert len(overloaded) > 25 * workers * OVERLOAD[0]
    assert p95(overloaded) < BUDGET
    assert {answer.resolution for answer in simulated.between(0, 6)} == {224}
    assert mean(overloaded) < 115
    assert {answer.resolution for answer in simulated.between(39, 42)} == {224}


def test_resolution_does_not_go_back_and_forth_under_a_lasting_load() -> None:
    simulated = Simulation(1, [(2 * CAPACITY, 60)]).run()
    late = [ceiling for now, ceiling in simulated.ceilings if now > 20]
    changes = sum(one != other for one, other in itertools.pairwise(late))
    assert changes <= 16  # in 40 seconds, of 1700 requests
    assert p95(simulated.answered) < BUDGET


def test_only_what_the_lowest_resolution_cannot_serve_is_refused() -> None:
    simulated = Simulation(1, [(8 * CAPACITY, 20)]).run()
    assert {ceiling for _, ceiling in simulated.refused} == {96}
    assert p95(simulated.answered) < BUDGET
    served = len(simulated.answered) / 20
    assert served > 0.9 * 1000 / TIMES[96]


@pytest.mark.parametrize("clients", [1, 2, 3])
def test_clients_that_wait_for_their_answers_keep_the_highest_resolution(clients: int) -> None:
    simulated = Simulation(clients=clients).run()
    assert len(simulated.answered) > 300
    assert mean(simulated.answered) == 224


def test_a_burst_is_served_lower_and_soon_forgotten() -> None:
    simulated = Simulation(1, [(1000, 0.012), (2, 10)]).run()
    assert not simulated.refused
    assert min(answer.resolution for answer in simulated.answered) < 224
    assert p95(simulated.between(0, 0.012)) < BUDGET
    assert len(simulated.between(0, 0.012)) > 6
    assert {answer.resolution for answer in simulated.between(4, 11)} == {224}


def policy() -> Policy:
    return Policy(tuple(TIMES), budget_ms=BUDGET)


def test_resolution_that_is_asked_for_is_given_until_the_queue_is_long() -> None:
    held = policy()
    assert held.choose(0, 0, 0, TIMES, requested=208) == Decision(208, "request")
    assert held.choose(0, 0, 0, TIMES, requested=96) == Decision(96, "request")
    assert held.choose(1, 5, 0, TIMES, requested=208) == Decision(128, "load")
    assert held.choose(1.1, 5, 0, TIMES, requested=112) == Decision(112, "request")


def test_budget_of_a_request_chooses_its_resolution_alone() -> None:
    held = policy()
    assert held.choose(0, 0, 0, TIMES, budget_ms=30) == Decision(160, "budget")
    assert held.choose(0, 0, 0, TIMES, budget_ms=1) == Decision(96, "budget")
    assert held.choose(0, 0, 0, TIMES) == Decision(224, "largest")


def test_what_a_request_has_waited_counts() -> None:
    assert policy().choose(0, 0, 180, TIMES) == Decision(128, "load")


def test_refusal_tells_when_to_come_again() -> None:
    held = Policy([96], budget_ms=200, capacity=4)
    assert held.arrive(0, 0, {96: 1000}) is None  # nobody waits: it is answered, be it late
    assert held.arrive(0, 3, {96: 10}) is None
    assert held.arrive(0, 4, {96: 10}) == pytest.approx(0.04)
    assert held.arrive(0, 2, {96: 100}) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"budget_ms": 0}, "budget_ms must be a positive number"),
        ({"budget_ms": 9, "workers": 0}, "workers must be at least 1, got 0"),
        ({"budget_ms": 9, "capacity": 0}, "the queue must be at least 1, got 0"),
    ],
)
def test_impossible_policy_is_refused(options: dict[str, int], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Policy([96], **options)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(0, 5), st.integers(0, 64), st.floats(0, 1e4), st.none() | st.floats(0.1, 1e4)
        ),
        max_size=60,
    )
)
def test_any_history_leads_to_a_trained_resolution_and_an_idle_time_to_the_highest(
    history: list[tuple[float, int, float, float | None]],
) -> None:
    held, now = policy(), 0.0
    for later, waiting, waited, budget in history:
        now += later
        held.arrive(now, waiting, TIMES)
        chosen = held.choose(now, waiting, waited, TIMES, budget_ms=budget)
        assert chosen.resolution in TIMES
        assert chosen.resolution <= held.ceiling
    assert held.choose(now + 100, 0, 0, TIMES) == Decision(224, "largest")
