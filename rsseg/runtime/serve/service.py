"""What a request goes through: the queue, decoding, the choice of a resolution, the network.

No HTTP here: bytes and options in, bytes and how they were computed out.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, Final

from PIL import Image as Pictures

from rsseg.common.allocator import return_memory
from rsseg.images.photo import Photo
from rsseg.runtime.prediction import Prediction
from rsseg.runtime.predictor import Predictor
from rsseg.runtime.serve.admission import Decision, Policy
from rsseg.runtime.serve.body import Limits, RefusedError
from rsseg.runtime.serve.costs import Costs, Kind
from rsseg.runtime.serve.decoding import open_photo
from rsseg.runtime.serve.queue import FullError, Workers
from rsseg.runtime.serve.request import RequestOptions, allowed_resolutions
from rsseg.runtime.serve.response import (
    AnswerInfo,
    class_shares,
    overlay_png,
    top_classes,
)
from rsseg.segmentation.palette import label_png

QUEUE: Final = 64
TOGETHER: Final = 4  # requests that one pass of the network computes, see docs/RUNTIME.md
_MUCH: Final = 100.0  # milliseconds of an image's own that a refusal names
_LEAST_BUDGET: Final = 500.0  # milliseconds, where none is given
_PREDICTIONS: Final = 4  # at the largest resolution: they fit into the budget where none is given


@dataclass(frozen=True)
class Answer:
    """An answer, ready to be sent.

    Args:
        content: Its bytes.
        content_type: What they are.
        info: How it was computed.
    """

    content: bytes
    content_type: str
    info: AnswerInfo


@dataclass(frozen=True)
class _Job:
    photo: Photo
    options: RequestOptions
    arrived: float
    kind: Kind


@dataclass(frozen=True)
class _Turn:
    job: _Job
    decision: Decision
    start: float


def _is_alike(job: _Job, other: _Job) -> bool:
    """Return whether two requests may be computed together."""
    one, two = job.options, other.options
    same = (one.resolution, one.budget_ms) == (two.resolution, two.budget_ms)
    return same and not other.kind.is_large


class Service:
    """A predictor behind a bounded queue.

    Args:
        predictor: The network.
        limits: What an image may be.
        workers: How many requests are computed at once.
        queue: How many may wait.
        budget_ms: Milliseconds in which a request is to be answered, waiting included; default:
            four predictions at the largest resolution, and at least 500.
        accuracies: Name of a metric and shares in 0..1 by resolution, where they are known.
        clock: Seconds.

    Attributes:
        allowed: Resolutions that may be requested.

    Raises:
        ValueError: If something given is not valid, or the network cannot predict.
    """

    def __init__(
        self,
        predictor: Predictor,
        *,
        limits: Limits | None = None,
        workers: int = 1,
        queue: int = QUEUE,
        budget_ms: float | None = None,
        accuracies: tuple[str, Mapping[int, float]] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        Pictures.init()  # Several threads would load the formats at once.
        self.predictor = predictor
        self.limits = limits or Limits()
        self.accuracies = accuracies
        self.costs = Costs(predictor.measure(), predictor.head.formats[0])
        self.budget_ms = self._default_budget() if budget_ms is None else budget_ms
        self.policy = Policy(
            predictor.resolutions, budget_ms=self.budget_ms, workers=workers, capacity=queue
        )
        self.allowed = allowed_resolutions(predictor)
        self._clock = clock
        self._lock = threading.Lock()
        self.workers = Workers(self._work, threads=workers, capacity=queue)

    def _default_budget(self) -> float:
        slowest = max(self.costs.expected().values())
        return float(max(_LEAST_BUDGET, math.ceil(_PREDICTIONS * slowest)))

    def submit(self, content: bytes, options: RequestOptions) -> Future[Answer]:
        """Add a request to the queue.

        Args:
            content: An image.
            options: Of the request.

        Returns:
            A future of the answer; it may end with a RefusedError.

        Raises:
            RefusedError: If the header of the image is not that of one, or the service is
                overloaded.
        """
        now = self._clock()
        photo = open_photo(content, self.limits)
        job = _Job(photo, options, now, Kind.of(photo, options.format))
        own_ms, waiting = self.costs.own(job.kind), self.workers.jobs
        with self._lock:
            again = self.policy.arrive(
                now,
                len(waiting),
                self.costs.expected(),
                own_ms=own_ms,
                ahead_ms=sum(self.costs.own(other.kind) for other in waiting),
            )
        if again is None:
            try:
                return self.workers.submit(job)
            except FullError:
                again = 1.0
        raise RefusedError(
            429,
            f"{len(waiting)} requests wait and this one would be answered too late even at "
            f"resolution {self.policy.resolutions[-1]}{_besides(own_ms)}; send it again later",
            {"Retry-After": str(max(1, math.ceil(again)))},
        )

    def close(self) -> None:
        """Answer what waits, and end."""
        self.workers.close()

    def _work(self, job: _Job) -> Answer:
        try:
            return self._answer(job)
        finally:
            if job.kind.is_large:
                return_memory()

    def _answer(self, job: _Job) -> Answer:
        start = self._clock()
        turn = _Turn(job, self._decide(job, start, 1000 * (start - job.arrived)), start)
        companions = self._companions(turn)
        if companions:
            predicted = self._predict_together(turn, companions)
            if predicted is not None:
                return predicted
        return self._answered(turn, self._predict(job.photo, turn.decision))

    def _companions(self, turn: _Turn) -> list[tuple[_Turn, Future[Answer]]]:
        """Take requests that wait and that the network may compute with this one."""
        job, resolution = turn.job, turn.decision.resolution
        waited_ms = 1000 * (turn.start - job.arrived)
        room = self._budget_of(job) - waited_ms
        fitting = int(room / self.costs.expected()[self._nearest(resolution)])
        share = -(-self.workers.waiting // self.policy.workers)  # Others work as well.
        most = min(TOGETHER - 1, share, fitting - 1)
        if most < 1 or job.kind.is_large:
            return []
        taken = self.workers.take(lambda other: _is_alike(job, other), most)
        return [(self._follow(turn, other), future) for other, future in taken]

    def _follow(self, turn: _Turn, job: _Job) -> _Turn:
        """Return the turn of a request that is computed with another, at its resolution."""
        decision = self._decide(job, turn.start, 1000 * (turn.start - job.arrived))
        if decision.resolution != turn.decision.resolution:
            decision = Decision(turn.decision.resolution, "load")
        return _Turn(job, decision, turn.start)

    def _predict_together(
        self, turn: _Turn, companions: Sequence[tuple[_Turn, Future[Answer]]]
    ) -> Answer | None:
        """Answer several requests with one pass of the network; None if the first has to be alone.

        Where that fails each is computed by itself, so that nobody suffers from another's image.
        """
        turns = [turn, *(other for other, _ in companions)]
        predictions: list[Prediction] | None
        try:
            predictions = self.predictor.predict_together(
                [other.job.photo for other in turns], turn.decision.resolution, observe_rest=False
            )
        except Exception:  # Of one image; by itself it is told what is wrong with it.
            predictions = None
        for index, (other, future) in enumerate(companions, 1):
            try:
                if predictions is None:
                    alone = self._predict(other.job.photo, other.decision)
                    future.set_result(self._answered(other, alone))
                else:
                    future.set_result(self._answered(other, predictions[index]))
            except BaseException as error:  # Who waits has to learn of everything.
                future.set_exception(error)
        return None if predictions is None else self._answered(turn, predictions[0])

    def _answered(self, turn: _Turn, prediction: Prediction) -> Answer:
        """Encode an answer, and learn what it took."""
        job, begin = turn.job, self._clock()
        content, content_type, values = self._encode(prediction, job.photo, job.options)
        end = self._clock()
        stages = replace(prediction.stages, encode=1000 * (end - begin))
        self._learn(job, replace(prediction, stages=stages))
        info = AnswerInfo(
            model=self.predictor.name,
            resolution=prediction.resolution,
            chosen_by=turn.decision.reason,
            stages=stages,
            wait_ms=1000 * (turn.start - job.arrived),
            total_ms=1000 * (end - job.arrived),
            budget_ms=self._budget_of(job),
        )
        if values is not None:
            content = json.dumps(info.values() | values).encode()
        return Answer(content, content_type, info)

    def _budget_of(self, job: _Job) -> float:
        return job.options.budget_ms or self.budget_ms

    def _nearest(self, resolution: int) -> int:
        return min(self.predictor.resolutions, key=lambda known: abs(known - resolution))

    def _learn(self, job: _Job, prediction: Prediction) -> None:
        stages = prediction.stages
        whole = job.photo.decoding_ms - stages.decode  # of an overlay
        self.costs.observe(
            job.kind,
            prediction.resolution,
            decode_ms=job.photo.decoding_ms,
            other_ms=stages.total - stages.decode - stages.network - max(0.0, whole),
        )

    def _decide(self, job: _Job, now: float, wait_ms: float) -> Decision:
        options, times = job.options, self.costs.expected()
        with self._lock:
            return self.policy.choose(
                now,
                self.workers.waiting,
                wait_ms,
                times,
                requested=options.resolution,
                budget_ms=options.budget_ms,
                own_ms=self.costs.own(job.kind),
            )

    def _predict(self, photo: Photo, decision: Decision) -> Prediction:
        # First, as a damaged photo is another fault than one that the network cannot take.
        try:
            self.predictor.decode(photo, decision.resolution)
        except ValueError as error:
            raise RefusedError(400, str(error)) from error
        try:
            return self.predictor.predict(photo, decision.resolution, observe_rest=False)
        except ValueError as error:
            raise RefusedError(422, str(error)) from error

    def _encode(
        self, prediction: Prediction, photo: Photo, options: RequestOptions
    ) -> tuple[bytes, str, dict[str, Any] | None]:
        """Return content and its type; or values, which are sent as JSON with the info."""
        labels, classes = prediction.label_map, self.predictor.classes
        if labels is None:
            values = {"classes": top_classes(prediction, options.top)}
            return b"", "application/json", values
        if options.format == "json":
            height, width = labels.shape
            shares = class_shares(labels, classes)
            return b"", "application/json", {"height": height, "width": width, "classes": shares}
        if options.format == "overlay":
            image = photo.decode().pixels  # The only answer that needs the whole photo.
            return overlay_png(image, labels, self.predictor.colours), "image/png", None
        return label_png(labels, self.predictor.colours), "image/png", None


def _besides(own_ms: float) -> str:
    """Say what an image takes at every resolution, if that is much."""
    return f", as decoding it takes about {own_ms:.0f} ms" if own_ms >= _MUCH else ""
