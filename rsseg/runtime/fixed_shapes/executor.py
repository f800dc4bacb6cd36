"""An executor of files with one model of fixed shape for each resolution."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from rsseg.runtime.description import Description
from rsseg.runtime.protocol import Logits, Views, check_views, view_size_error

Model = Callable[[Views], Logits]  # of one view, (1, 3, R, R); safe to be called by several threads


class FixedShapesExecutor:
    """One model for each resolution, opened with its first view, which takes one view at a time.

    Models that are not used take no memory.

    Args:
        name: Name of the executor.
        description: Of the network in the file.
        open_model: Opens the model of a resolution that the file holds.
    """

    device = "cpu"

    def __init__(
        self, name: str, description: Description, open_model: Callable[[int], Model]
    ) -> None:
        self.name = name
        self.resolutions = description.usable
        self._open_model = open_model
        self._models: dict[int, Model] = {}
        self._lock = threading.Lock()

    def logits(self, images: Views, resolution: int) -> Logits:
        """Compute the logits of a batch, see `Executor`."""
        self._check(images, resolution)
        try:
            model = self._model(resolution)
            return np.concatenate([model(images[i : i + 1]) for i in range(len(images))])
        except Exception as error:  # Their errors have no common class.
            raise ValueError(view_size_error(resolution, images, error)) from error

    def _check(self, images: Views, resolution: int) -> None:
        check_views(images)
        if resolution not in self.resolutions:
            raise ValueError(
                f"this file holds resolution {', '.join(map(str, self.resolutions))} alone, got "
                f"{resolution}; give the checkpoint, or its ONNX file, for others"
            )
        if images.shape[-2:] != (resolution, resolution):
            raise ValueError(
                f"this file takes views of {resolution}x{resolution} pixels at resolution "
                f"{resolution}, got {images.shape[-1]}x{images.shape[-2]}"
            )

    def _model(self, resolution: int) -> Model:
        with self._lock:
            if resolution not in self._models:
                self._models[resolution] = self._open_model(resolution)
            return self._models[resolution]
