"""The test images of a run, whatever the task: loaders, names, faults, images to calibrate on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence, Sized
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Subset

from datasets.faults import Faults
from datasets.loader import TestLoader, hash_of
from rsseg.common.distributed import share_of_items, world_size
from rsseg.images.preprocessing import Preprocessing


class TestData(ABC):
    """Test images at any resolutions; the shared part of `rsseg.training.task.EvalData`.

    Args:
        every: Names of all test images.
        labels: Their classes, if each has one.
        preprocessing: How images become views.
        batch_size: Images in a batch.
        workers: Processes that load images.
        max_unreadable: How many images may be unreadable; they are left out.
    """

    def __init__(
        self,
        every: Sequence[str],
        preprocessing: Preprocessing,
        *,
        batch_size: int,
        workers: int,
        labels: NDArray[np.int64] | None = None,
        max_unreadable: int = 0,
    ) -> None:
        self.preprocessing = preprocessing
        self._every = every
        self._hash = hash_of(every, labels)
        self._options = {"batch_size": batch_size, "workers": workers}
        self._faults = Faults(max_unreadable)
        self._loaders: dict[tuple[int, ...], TestLoader] = {}

    @abstractmethod
    def views(self, resolutions: Sequence[int]) -> Dataset[Any]:
        """Return the test images as views at the given resolutions."""

    @abstractmethod
    def training_views(self, resolution: int) -> Dataset[Any]:
        """Return the training images as views of test."""

    @property
    @abstractmethod
    def summary(self) -> str:
        """One line about the images, for whoever evaluates them."""

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Number of test samples, and a hash of their names and labels."""
        return {"test_samples": len(self._every), "names": self._hash}

    @property
    def names(self) -> Sequence[str]:
        """Names of the images that could be read, in the order in which they are evaluated."""
        return [name for name in self._every if name not in self.faults]

    @property
    def faults(self) -> dict[str, str]:
        """The images that could not be read the last time, and why."""
        return self._faults.reasons

    def batches(self, resolutions: Sequence[int]) -> TestLoader:
        """Return views at the given resolutions; the worker processes stay for the next time.

        Each of several processes gets its share of the images.
        """
        key = tuple(resolutions)
        if key not in self._loaders:
            self._loaders[key] = self._loader(_share_of(self.views(key)), self._faults)
        return self._loaders[key]

    def calibration(self, resolution: int, images: int) -> Iterator[Tensor]:
        """Yield training images as uint8 views of test, in batches of shape (B, 3, h, w).

        The images are spread over all and in a random order: files lie class by class, and a batch
        of one class has other statistics. An incomplete last batch is left out, unless it is the
        only one. All processes get the same batches.
        """
        views: Any = self.training_views(resolution)
        indices = np.linspace(0, len(views) - 1, min(images, len(views))).astype(int)
        order = np.random.default_rng(0).permutation(indices)
        loader = self._loader(Subset(views, order.tolist()), Faults(self._faults.limit))
        size = 0
        for (batch, *_), _ in loader:
            size = max(size, len(batch))
            if len(batch) == size:
                yield batch

    def _loader(self, views: Dataset[Any], faults: Faults) -> TestLoader:
        return TestLoader(views, self.preprocessing, faults=faults, **self._options)


def _share_of(views: Dataset[Any]) -> Dataset[Any]:
    """Return the samples that this process evaluates."""
    if world_size() == 1:
        return views
    assert isinstance(views, Sized)
    return Subset(views, share_of_items(len(views)))
