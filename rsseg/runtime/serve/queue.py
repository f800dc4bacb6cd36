"""A bounded queue of jobs and the threads that work on them, in the order of arrival.

The caller says what a job is, and what is done with it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


class FullError(Exception):
    """There is no room for another job."""


class Workers(Generic[Job, Result]):
    """Threads that work on jobs; each job has an end, be it a result or an error.

    Args:
        work: What is done with a job.
        threads: How many jobs are worked on at once.
        capacity: How many jobs may wait.

    Raises:
        ValueError: If one of the numbers is below 1.
    """

    def __init__(self, work: Callable[[Job], Result], *, threads: int, capacity: int) -> None:
        for name, value in (("workers", threads), ("the queue", capacity)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self._work = work
        self.capacity = capacity
        self._jobs: deque[tuple[Job, Future[Result]]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._run, name=f"worker {number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def jobs(self) -> list[Job]:
        """The jobs that wait, in their order, those of clients that have gone left out."""
        with self._changed:
            return [job for job, future in self._jobs if not future.cancelled()]

    @property
    def waiting(self) -> int:
        """How many jobs wait, see `jobs`."""
        return len(self.jobs)

    @property
    def alive(self) -> bool:
        """Whether jobs are taken, and each thread works or waits for one."""
        return not self._closed and all(thread.is_alive() for thread in self._threads)

    def submit(self, job: Job) -> Future[Result]:
        """Add a job to the end of the queue; a future that is cancelled before its turn is free.

        Raises:
            FullError: If there is no room, or the workers are closed.
        """
        future: Future[Result] = Future()
        with self._changed:
            self._forget_cancelled()
            if self._closed or len(self._jobs) >= self.capacity:
                raise FullError
            self._jobs.append((job, future))
            self._changed.notify()
        return future

    def take(self, joins: Callable[[Job], bool], most: int) -> list[tuple[Job, Future[Result]]]:
        """Take jobs that wait, for whoever works on one like them; he has to end their futures.

        Args:
            joins: Whether a job is to be taken.
            most: How many, those that came first.
        """
        taken, left = list[tuple[Job, Future[Result]]](), deque[tuple[Job, Future[Result]]]()
        with self._changed:
            for job, future in self._jobs:
                if len(taken) >= most or not joins(job):
                    left.append((job, future))
                elif future.set_running_or_notify_cancel():
                    taken.append((job, future))
            self._jobs = left
        return taken

    def close(self, seconds: float | None = None) -> None:
        """Refuse further jobs, finish those that wait, and end the threads.

        Args:
            seconds: Wait no longer than so for each thread; default: until they have ended.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(seconds)

    def _forget_cancelled(self) -> None:
        """Drop the jobs of clients that have gone: they would take the room of others."""
        if any(future.cancelled() for _, future in self._jobs):
            kept = [entry for entry in self._jobs if not entry[1].cancelled()]
            self._jobs.clear()
            self._jobs.extend(kept)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._jobs and not self._closed:
                    self._changed.wait()
                if not self._jobs:
                    return
                job, future = self._jobs.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(self._work(job))
            except BaseException as error:  # Who waits has to learn of everything.
                future.set_exception(error)
            del job, future  # An image is not kept until the next one comes.
