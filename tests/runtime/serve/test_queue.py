"""Facts about rsseg/runtime/serve/queue.py: every job that is taken has an end."""

from __future__ import annotations

import threading
from concurrent.futures import Future

import pytest

from rsseg.runtime.serve.queue import FullError, Workers


def test_jobs_are_done_in_their_order_and_errors_reach_who_waits() -> None:
    done: list[int] = []

    def work(job: int) -> int:
        done.append(job)
        return 10 // job

    workers: Workers[int, int] = Workers(work, threads=1, capacity=10)
    futures = [workers.submit(job) for job in (1, 0, 5)]
    assert [futures[0].result(10), futures[2].result(10)] == [10, 2]
    with pytest.raises(ZeroDivisionError):
        futures[1].result(10)
    assert done == [1, 0, 5]
    assert workers.alive  # one job has failed, the thread has not
    workers.close()


def blocked(threads: int = 1, capacity: int = 2) -> tuple[Workers[int, int], threading.Event]:
    """Make workers that wait for an event, busy with as many jobs as there are threads."""
    go, begun = threading.Event(), threading.Semaphore(0)

    def work(job: int) -> int:
        begun.release()
        assert go.wait(20)
        return job

    workers: Workers[int, int] = Workers(work, threads=threads, capacity=capacity)
    for job in range(threads):
        workers.submit(job)
        assert begun.acquire(timeout=300)
    return workers, go


def test_queue_is_bounded_and_all_that_was_taken_is_answered_at_the_end() -> None:
    workers, go = blocked(threads=2)
    taken = [workers.submit(job) for job in (7, 8)]
    assert workers.waiting == 2
    with pytest.raises(FullError):
        workers.submit(9)
    go.set()
    workers.close()
    assert [future.result(0) for future in taken] == [7, 8]
    assert not workers.alive
    with pytest.raises(FullError):
        workers.submit(9)


def test_job_of_a_client_that_has_gone_takes_no_room_and_is_not_done() -> None:
    workers, go = blocked()
    gone = [workers.submit(job) for job in (7, 8)]
    assert all(future.cancel() for future in gone)
    stays: Future[int] = workers.submit(9)
    assert workers.waiting == 1
    last = workers.submit(10)
    assert last.cancel()  # passed over when its turn comes
    go.set()
    workers.close()
    assert stays.result(0) == 9


@pytest.mark.parametrize(
    ("numbers", "told"),
    [({"threads": 0, "capacity": 1}, "workers"), ({"threads": 1, "capacity": 0}, "the queue")],
)
def test_workers_need_a_thread_and_a_place(numbers: dict[str, int], told: str) -> None:
    with pytest.raises(ValueError, match=f"{told} must be at least 1, got 0"):
        Workers(str, **numbers)


def test_jobs_that_wait_are_taken_in_their_order_and_those_that_left_are_not() -> None:
    go, begun = threading.Event(), threading.Event()

    def work(job: int) -> int:
        begun.set()
        assert go.wait(60)
        return job

    workers = Workers(work, threads=1, capacity=9)
    first = workers.submit(0)
    assert begun.wait(60)
    futures = {job: workers.submit(job) for job in (1, 2, 3, 4, 5)}
    futures[2].cancel()
    taken = workers.take(lambda job: job != 1, 2)
    assert [job for job, _ in taken] == [3, 4]
    assert workers.jobs == [1, 5]
    for job, future in taken:
        future.set_result(10 * job)
    go.set()
    assert [first.result(60), futures[1].result(60), futures[5].result(60)] == [
        0,
        1,
        5,
    ]
    assert [futures[3].result(), futures[4].result()] == [30, 40]
    workers.close()
