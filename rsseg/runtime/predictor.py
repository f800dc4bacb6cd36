"""Predictor: one image in, one answer out, at a resolution chosen for each call.

One object for every task and executor; several threads may call it at once. Its answers are those
of `rsseg predict`. Which resolution keeps a budget is decided in `budget`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image as Pictures

from rsseg.images.pictures import as_rgb
from rsseg.images.preprocessing import Image, LabelMap
from rsseg.runtime.budget.budget import Budget, Choice, check_budget
from rsseg.runtime.budget.measure import measured_budget, saved_budget
from rsseg.runtime.description import Description
from rsseg.runtime.executors import Executor, Logits, Views
from rsseg.runtime.opening import open_executor
from rsseg.runtime.prediction import Prediction
from rsseg.segmentation.evaluate import predict_labels
from rsseg.switchable.resolutions import check_resolution


class Predictor:
    """A trained network, ready to answer for images of any size at any resolution.

    Use `Predictor.open` for a file.

    Args:
        executor: Computes the logits.
        description: What the network is.
        budget_ms: Milliseconds that a prediction may take; default: no limit.
        make_budget: Gives what chooses a resolution; default: a few predictions are timed. It is
            called once, here or where the first budget is asked for.

    Attributes:
        executor: As given.
        description: As given.
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
        self._make_budget = make_budget or measured_budget
        self._budget: Budget | None = None
        self._lock = threading.Lock()
        if budget_ms is not None:
            check_budget(budget_ms)
            self.budget  # noqa: B018 Measured now, not with the first image.

    @classmethod
    def open(
        cls,
        path: str | Path,
        executor: str | None = None,
        *,
        threads: int | None = None,
        device: str = "cpu",
        budget_ms: float | None = None,
    ) -> Predictor:
        """Open a checkpoint or an exported file.

        Args:
            path: A checkpoint (.pt) or a file of `rsseg export` (.onnx).
            executor: "torch", "onnxruntime" or "openvino"; default: the one natural for the file.
            threads: Threads that compute one image; default: as many as PyTorch, which
                has one number for the whole process.
            device: "cpu"; PyTorch also takes "auto" and "cuda".
            budget_ms: Milliseconds that a prediction may take; default: no limit.

        Raises:
            ValueError: If something given is not valid, or the file cannot be used.
            ImportError: If the executor is not installed.
            OSError: If the file cannot be read.
        """
        path = Path(path)
        opened = open_executor(path, executor, threads=threads, device=device)
        make = partial(saved_budget, path=path, threads=threads)
        return cls(*opened, budget_ms=budget_ms, make_budget=make)

    @property
    def budget(self) -> Budget:
        """What chooses a resolution, and knows the load of the machine; measured if need be."""
        with self._lock:
            if self._budget is None:
                self._budget = self._make_budget(self)
            return self._budget

    def choose(self, budget_ms: float | None = None) -> Choice | None:
        """Choose the resolution for a budget, or for that of all predictions; None without one.

        Raises:
            ValueError: If the budget is not a positive number.
        """
        budget_ms = self.budget_ms if budget_ms is None else budget_ms
        if budget_ms is None:
            return None
        check_budget(budget_ms)  # before anything is measured
        return self.budget.choose(budget_ms)

    def predict(
        self,
        image: Pictures.Image | Image,
        resolution: int | None = None,
        *,
        budget_ms: float | None = None,
    ) -> Prediction:
        """Predict one image.

        Args:
            image: A picture of Pillow, or an array, RGB, uint8, shape (H, W, 3).
            resolution: Side of the view in pixels; one that was not trained uses the network's
                rule. Default: what keeps the budget, or the largest where there is none.
            budget_ms: Milliseconds that this prediction may take.

        Raises:
            TypeError: If the image is of another type.
            ValueError: If the image cannot be read, or the network cannot take views of this
                size, or gives logits that are not those of the classes or not finite.
        """
        if resolution is not None and budget_ms is not None:
            raise ValueError(f"give resolution {resolution} or budget_ms {budget_ms}, not both")
        # Choosing may have to measure first, which is no part of this prediction.
        choice = self.choose(budget_ms) if resolution is None else None
        start = time.perf_counter()
        pixels = as_rgb(image)
        if resolution is None:
            resolution = choice.resolution if choice else self.resolutions[0]
        view = self._view(pixels, resolution)
        begun = time.perf_counter()
        logits = self.executor.logits(view, resolution)
        network_ms = 1000 * (time.perf_counter() - begun)
        label_map = self._label_map(logits, pixels.shape[:2])
        milliseconds = 1000 * (time.perf_counter() - start)
        if self._budget is not None:
            self._budget.observe(resolution, network_ms, milliseconds - network_ms)
        return Prediction(
            resolution=resolution,
            milliseconds=milliseconds,
            network_ms=network_ms,
            logits=logits[0],
            classes=self.classes,
            label_map=label_map,
            ran=(resolution,),
            fits=choice.fits if choice else None,
        )

    def _view(self, pixels: Image, resolution: int) -> Views:
        check_resolution(resolution)
        view = self.preprocessing.view(pixels, resolution)[None]
        normalised: Views = self.preprocessing.normalise(view).numpy()
        return normalised

    def _label_map(self, logits: Logits, size: Sequence[int]) -> LabelMap | None:
        """Check the logits of one image; give the label map of a segmenter."""
        axes = 4 if self.head.dense else 2
        if logits.ndim != axes or logits.shape[:2] != (1, len(self.classes)):
            raise ValueError(
                f"'{self.name}' gives logits of shape {logits.shape}, expected (1, "
                f"{len(self.classes)}{', h, w' if axes == 4 else ''}) for {len(self.classes)} "
                "named classes"
            )
        if axes == 4:
            labels = predict_labels(torch.from_numpy(logits[0]), size)
            label_map: LabelMap = labels.to(torch.uint8).numpy()
            return label_map
        if not np.isfinite(logits).all():
            raise ValueError(
                f"'{self.name}' gives logits that are not finite; its training has failed, use "
                "another checkpoint"
            )
        return None
