"""Predictor: one image in, one answer out, at a resolution chosen for each call.

One object for every task, executor and kind of file, and for whoever asks: `rsseg predict`, the
service, measurements, Python. Several threads may call it at once. Which resolution keeps a budget
is decided in `budget`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pictures

from rsseg.common.cores import default_threads
from rsseg.common.messages import counted
from rsseg.images.photo import Decoded, Photo
from rsseg.images.preprocessing import Image, LabelMap
from rsseg.images.reading import as_rgb
from rsseg.runtime.budget.budget import Budget, Choice, check_budget
from rsseg.runtime.budget.measure import TimeOne, drawn_photo, measured_budget, saved_budget
from rsseg.runtime.budget.table import find_rows, this_machine
from rsseg.runtime.description import Description
from rsseg.runtime.opening import open_executor
from rsseg.runtime.prediction import Prediction
from rsseg.runtime.protocol import Executor, Logits, Views
from rsseg.runtime.stages import Stages
from rsseg.segmentation import cells
from rsseg.segmentation.palette import class_colours, label_png
from rsseg.switchable.resolutions import check_resolution

# What a photo is at least decoded to, over the size that it is resized to: views then differ from
# those of the whole photo by less than one grey level on average, see docs/RUNTIME.md.
_LEAST_REDUCED: Final = 2


Item = TypeVar("Item")
Made = TypeVar("Made")


class Predictor:
    """A trained network, ready to answer for images of any size at any resolution.

    Use `Predictor.open` for a file. A network in memory, one in training too, lends itself:
    `Predictor(TorchExecutor(net), description)`, with the executor of `rsseg.runtime.executors`.

    Args:
        executor: Computes the logits.
        description: What the network is.
        budget_ms: Milliseconds that a prediction may take; default: no limit.
        make_budget: Makes what chooses a resolution; default: a few predictions are timed. It is
            called once, by `measure`.
        full_decode: Decode photos whole, also where their view is much smaller.

    Attributes:
        executor: As given.
        description: As given.
        name: What pictures, tables and messages call the network; may be changed.
        budget_ms: As given.
        resolutions: Trained resolutions that the executor can compute, largest first.

    Raises:
        ValueError: If the budget is not a positive number.
    """

    def __init__(
        self,
        executor: Executor,
        description: Description,
        *,
        budget_ms: float | None = None,
        make_budget: Callable[[Predictor], Budget] | None = None,
        full_decode: bool = False,
    ) -> None:
        self.executor = executor
        self.description = description
        self.head = description.head
        self.task = description.task
        self.name = description.name
        self.classes = description.classes
        self.resolutions = executor.resolutions
        self.preprocessing = description.preprocessing
        self.budget_ms = budget_ms
        self.full_decode = full_decode
        self._make_budget = make_budget or _measured_budget
        self._budget: Budget | None = None
        self._lock = threading.Lock()
        if budget_ms is not None:
            check_budget(budget_ms)
            self.measure()

    @cached_property
    def colours(self) -> NDArray[np.uint8]:
        """Colour of each class of a segmenter in pictures, RGB, shape (K, 3)."""
        return class_colours(len(self.classes), self.description.colours)

    @classmethod
    def open(
        cls,
        path: str | Path,
        executor: str | None = None,
        *,
        threads: int | None = None,
        device: str = "cpu",
        unseen: str | None = None,
        budget_ms: float | None = None,
        allow_builder: bool = False,
        full_decode: bool = False,
    ) -> Predictor:
        """Open a checkpoint or an exported file.

        Args:
            path: A checkpoint (.pt or packed .safetensors) or a file of `rsseg export` (.onnx).
            executor: "torch", "onnxruntime" or "openvino"; default: the one natural for the file.
            threads: Threads that compute one image; default: as many as PyTorch, which
                has one number for the whole process.
            device: "cpu"; PyTorch also takes "auto" and "cuda".
            unseen: Rule for untrained resolutions, "interpolate", "nearest" or "extrapolate";
                default: the network's. An exported file has no other.
            budget_ms: Milliseconds that a prediction may take; default: no limit.
            allow_builder: Whether a checkpoint may name a function of yours that builds its
                network, which is then imported and run.
            full_decode: Decode photos whole, also where their view is much smaller.

        Raises:
            ValueError: If something given is not valid, or the file cannot be used.
            ImportError: If the executor is not installed.
            OSError: If the file does not exist or cannot be read.

        Example:
            >>> Predictor.open("nowhere.pt")
            Traceback (most recent call last):
            FileNotFoundError: there is no file nowhere.pt; give a checkpoint (.pt or packed ...
        """
        path = Path(path)
        opened = open_executor(
            path,
            executor,
            threads=threads,
            device=device,
            unseen=unseen,
            allow_builder=allow_builder,
        )
        make = partial(_budget_of_file, path=path, threads=threads)
        return cls(*opened, budget_ms=budget_ms, make_budget=make, full_decode=full_decode)

    def measure(self) -> Budget:
        """Return what chooses a resolution and knows the load of the machine.

        The first call times a few predictions, or reads the table beside the file.

        Raises:
            ValueError: If the network cannot predict, or its table of latencies is damaged.
        """
        with self._lock:
            if self._budget is None:
                self._budget = self._make_budget(self)
            return self._budget

    def choose(self, budget_ms: float | None = None, *, decoding: bool = False) -> Choice | None:
        """Choose the resolution for a budget, or for that of all predictions; None without one.

        Args:
            budget_ms: Milliseconds; default: those of all predictions.
            decoding: Whether they have to do for decoding a photo as well.

        Raises:
            ValueError: If the budget is not a positive number.
        """
        budget_ms = self.budget_ms if budget_ms is None else budget_ms
        if budget_ms is None:
            return None
        check_budget(budget_ms)  # before anything is measured
        return self.measure().choose(budget_ms, decoding=decoding)

    def decode(self, image: Pictures.Image | Image | Photo, resolution: int) -> Decoded:
        """Decode an image for the view of a resolution; `predict` does so itself.

        Args:
            image: As for `predict`; a photo keeps what has been decoded.
            resolution: Side of the view in pixels.

        Raises:
            TypeError: If the image is of another type.
            ValueError: If the image cannot be read.
        """
        resolution = check_resolution(resolution)
        if isinstance(image, Photo):
            sides = self.preprocessing.resized(resolution, *image.size)
            height, width = (_LEAST_REDUCED * side for side in sides)
            return image.decode(None if self.full_decode else (height, width))
        start = time.perf_counter()
        pixels = as_rgb(image)
        size = pixels.shape[0], pixels.shape[1]
        return Decoded(pixels, size, size, 1000 * (time.perf_counter() - start))

    def predict(
        self,
        image: Pictures.Image | Image | Photo,
        resolution: int | None = None,
        *,
        budget_ms: float | None = None,
        observe_rest: bool = True,
    ) -> Prediction:
        """Predict one image.

        Args:
            image: A picture of Pillow, an array, RGB, uint8, shape (H, W, 3), or a photo, whose
                decoding counts for the budget.
            resolution: Side of the view in pixels; one that was not trained uses the network's
                rule. Default: what keeps the budget, or the largest where there is none.
            budget_ms: Milliseconds that this prediction may take.
            observe_rest: Update the budget with all that this prediction took, not with the time
                of the network alone; a service counts the rest by the size of the image.

        Raises:
            TypeError: If the image is of another type.
            ValueError: If the image cannot be read, or the network cannot take views of this
                size, or gives logits that are not those of the classes or not finite.
        """
        if resolution is not None and budget_ms is not None:
            raise ValueError(f"give resolution {resolution} or budget_ms {budget_ms}, not both")
        # Choosing may have to measure first, which is no part of this prediction.
        photo = isinstance(image, Photo)
        choice = self.choose(budget_ms, decoding=photo) if resolution is None else None
        if resolution is None:
            resolution = choice.resolution if choice else self.resolutions[0]
        resolution = check_resolution(resolution)
        (prediction,) = self._predict([image], resolution, observe_rest=observe_rest)
        return replace(prediction, fits=choice.fits if choice else None)

    def predict_together(
        self, images: Sequence[Photo], resolution: int, *, observe_rest: bool = True
    ) -> list[Prediction]:
        """Predict several images with one pass of the network, which takes less for each.

        The logits may differ from those of `predict` by rounding; the time of the network is
        shared out equally.

        Args:
            images: Photos whose views have one size.
            resolution: As for `predict`.
            observe_rest: As for `predict`.

        Raises:
            ValueError: As `predict`, or if the views have several sizes.
        """
        return self._predict(images, check_resolution(resolution), observe_rest=observe_rest)

    def _predict(
        self,
        images: Sequence[Pictures.Image | Image | Photo],
        resolution: int,
        *,
        observe_rest: bool,
    ) -> list[Prediction]:
        decoded = [self.decode(image, resolution) for image in images]
        predictions = self._run(decoded, resolution)
        if self._budget is not None:
            for image, prediction in zip(images, predictions, strict=True):
                stages = prediction.stages
                decode = stages.decode if isinstance(image, Photo) else None
                rest = stages.view + stages.answer if observe_rest else None
                self._budget.observe(resolution, stages.network, rest, decode=decode)
        return predictions

    def _run(self, decoded: Sequence[Decoded], resolution: int) -> list[Prediction]:
        """Compute the answers for decoded images."""
        views, view_ms = _each(lambda one: self._view(one, resolution), decoded)
        start = time.perf_counter()
        logits = self._logits(_stacked(views), resolution)
        network_ms = 1000 * (time.perf_counter() - start) / len(decoded)
        if len(logits) != len(decoded):
            raise ValueError(
                f"'{self.name}' gives logits of shape {logits.shape}, expected a row for each of "
                f"{counted(len(decoded), 'view')}"
            )
        rows = [(logits[i : i + 1], one.size) for i, one in enumerate(decoded)]
        label_maps, answer_ms = _each(lambda row: self._label_map(*row), rows)
        return [
            Prediction(
                resolution=resolution,
                stages=Stages(
                    decode=one.milliseconds,
                    view=view_ms[i],
                    network=network_ms,
                    answer=answer_ms[i],
                ),
                logits=logits[i],
                classes=self.classes,
                label_map=label_maps[i],
                ran=(resolution,),
            )
            for i, one in enumerate(decoded)
        ]

    def network_times(
        self, image: Pictures.Image | Image | Photo, resolution: int, *, passes: int
    ) -> list[float]:
        """Return the milliseconds of several passes of the network alone, with one view.

        Args:
            image: As for `predict`.
            resolution: Side of the view in pixels.
            passes: How many.

        Raises:
            ValueError: As `predict`.
        """
        view, times = self._view(self.decode(image, resolution), resolution), []
        for _ in range(passes):
            start = time.perf_counter()
            self._logits(view, resolution)
            times.append(1000 * (time.perf_counter() - start))
        return times

    def _view(self, decoded: Decoded, resolution: int) -> Views:
        view = self.preprocessing.pixels(decoded.pixels, resolution, decoded.extent)
        return self.preprocessing.normalise_pixels(view[None])

    def _label_map(self, logits: Logits, size: Sequence[int]) -> LabelMap | None:
        """Check the logits of one image; return the label map, None of a classifier."""
        if self.head.dense:
            return _label_map(logits, size, self.classes, self.name)
        _check_class_logits(logits, self.classes, self.name)
        return None

    def _logits(self, view: Views, resolution: int) -> Logits:
        try:
            return self.executor.logits(view, resolution)
        except ValueError as error:
            raise ValueError(f"'{self.name}': {error}") from error


def _each(step: Callable[[Item], Made], items: Sequence[Item]) -> tuple[list[Made], list[float]]:
    """Return what a step makes of each item, and the milliseconds that each took."""
    made, times = list[Made](), list[float]()
    for item in items:
        start = time.perf_counter()
        made.append(step(item))
        times.append(1000 * (time.perf_counter() - start))
    return made, times


def _stacked(views: Sequence[Views]) -> Views:
    """Return views (1, 3, h, w) as a batch; concatenating one would copy it."""
    return views[0] if len(views) == 1 else np.concatenate(views)


def timer(predictor: Predictor, image: Image | None = None) -> TimeOne:
    """Return a function that predicts an image at a resolution and returns its times.

    Args:
        predictor: The network.
        image: RGB, uint8, shape (H, W, 3); default: a JPEG that is drawn, decoded for each call.
    """
    content = drawn_photo()

    def time_one(resolution: int) -> Stages:
        prediction = predictor.predict(Photo(content) if image is None else image, resolution)
        start = time.perf_counter()
        if prediction.label_map is not None:
            label_png(prediction.label_map, predictor.colours)
        return replace(prediction.stages, encode=1000 * (time.perf_counter() - start))

    return time_one


def _measured_budget(predictor: Predictor) -> Budget:
    return measured_budget(timer(predictor), predictor.resolutions)


def _budget_of_file(predictor: Predictor, *, path: Path, threads: int | None) -> Budget:
    """Return the budget from the table beside the file, or else measure it."""
    rows = find_rows(
        path,
        machine=this_machine(predictor.executor.device),
        executor=predictor.executor.name,
        threads=threads or default_threads(),
    )
    return saved_budget(rows, predictor.resolutions) or _measured_budget(predictor)


# What is special to a head: which logits are valid, and what of the answer follows from them.


def _check_class_logits(logits: Logits, classes: Sequence[str], name: str) -> None:
    """Check the logits of a classifier, from which the probabilities follow."""
    _check_shape(logits, (1, len(classes)), "", name)
    _check_values(np.isfinite(logits), name)


def _label_map(logits: Logits, size: Sequence[int], classes: Sequence[str], name: str) -> LabelMap:
    """Check the logits of a segmenter; return the class of each pixel, uint8, shape `size`."""
    _check_shape(logits, (1, len(classes)), ", h, w", name)
    _check_values(~np.isnan(logits), name)  # Infinite ones compare, and NaN with nothing.
    return _predicted_labels(logits[0], size)


def _predicted_labels(logits: Logits, size: Sequence[int]) -> LabelMap:
    """Do what `predict_labels` does, without PyTorch where the logits are finite."""
    finite = logits.size and logits.min() > -cells.LARGEST and logits.max() < cells.LARGEST
    if not finite or min(size) < 1:
        import torch  # noqa: PLC0415 An exported file needs it for this alone.

        from rsseg.segmentation.label_maps import predict_labels  # noqa: PLC0415

        labels: LabelMap = predict_labels(torch.from_numpy(logits), size, dtype=torch.uint8).numpy()
        return labels
    if logits.shape[1:] == tuple(size):
        return np.asarray(logits.argmax(axis=0), dtype=np.uint8)
    single = np.ascontiguousarray(logits, np.float32)
    return cells.label_map(single, size).astype(np.uint8, copy=False)


def _check_values(valid: NDArray[np.bool_], name: str) -> None:
    if not valid.all():
        raise ValueError(
            f"'{name}' gives logits that are not finite; its training has failed, use another "
            "checkpoint"
        )


def _check_shape(logits: Logits, first: tuple[int, int], rest: str, name: str) -> None:
    """Check that logits have the first axes given, and as many more as `rest` names."""
    if logits.ndim != 2 + rest.count(",") or logits.shape[:2] != first:
        raise ValueError(
            f"'{name}' gives logits of shape {logits.shape}, expected ({first[0]}, "
            f"{first[1]}{rest}) for {first[1]} named classes"
        )
