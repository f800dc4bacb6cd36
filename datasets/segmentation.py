"""The batches of a segmentation run, as its configuration describes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from datasets.faults import Faults
from datasets.loader import TestLoader, TrainLoader, fingerprint
from datasets.nyudv2 import open_nyudv2
from datasets.samples import Reader, Sample, Split
from datasets.views import TestViews, TrainingViews
from rsseg.segmentation.config import DataConfig, SegmentationConfig


class Subset(Reader):
    """So many samples of a reader, spread evenly over it."""

    def __init__(self, reader: Reader, count: int) -> None:
        self.reader = reader
        self.indices = np.linspace(0, len(reader) - 1, min(count, len(reader))).astype(int).tolist()
        self.names = tuple(reader.names[index] for index in self.indices)
        self.classes = reader.classes
        self.crop = None  # The reader has cropped already.

    def read(self, index: int) -> Sample:
        """Read a sample."""
        return self.reader[self.indices[index]]

    def where(self, index: int) -> str:
        """Say where a sample lies, for messages."""
        return self.reader.where(self.indices[index])


def open_reader(data: DataConfig, split: Split, classes: int) -> Reader:
    """Open the samples of a split, "train" or "test"."""
    reader = open_nyudv2(
        data.root,
        split,
        crop=data.crop,
        void_value=data.void_value,
        label_offset=data.label_offset,
        classes=classes,
    )
    if split == "train" and data.limit is not None:
        return Subset(reader, data.limit)
    return reader


def training_batches(config: SegmentationConfig) -> TrainLoader:
    """Return the augmented training batches of a run."""
    reader = open_reader(config.data, "train", config.model.classes)
    views = TrainingViews(reader, config.resolutions, config.preprocessing, config.augmentation)
    return TrainLoader(views, config.batch_size, seed=config.seed, workers=config.workers)


class TestSamples:
    """The test samples of a run; `rsseg.segmentation.task.Tests`.

    Args:
        config: Settings of the run.

    Attributes:
        classes: Names of the classes.
    """

    __test__ = False  # Not a class of tests.

    def __init__(self, config: SegmentationConfig) -> None:
        self.config = config
        self.reader = open_reader(config.data, "test", config.model.classes)
        self.classes = self.reader.classes
        self._loaders: dict[tuple[int, ...], TestLoader] = {}
        self._faults = Faults(0)

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Number of test samples, and a hash of their names."""
        return fingerprint(self.reader.names)

    @property
    def names(self) -> Sequence[str]:
        """Names of the samples."""
        return self.reader.names

    @property
    def faults(self) -> dict[str, str]:
        """The files that could not be read; an unreadable sample is an error, so there are none."""
        return self._faults.found

    def batches(self, resolutions: Sequence[int]) -> TestLoader:
        """Give views at the given resolutions; the worker processes are kept for the next time."""
        key = tuple(resolutions)
        if key not in self._loaders:
            self._loaders[key] = self._loader(self.reader, key)
        return self._loaders[key]

    def calibration(self, resolution: int, images: int) -> Iterator[Tensor]:
        """Give batches of so many training images as uint8 views of test, (B, 3, h, w)."""
        train = open_reader(self.config.data, "train", self.config.model.classes)
        loader = self._loader(Subset(train, images), (resolution,))
        return (views[0] for views, _ in loader)

    def _loader(self, reader: Reader, resolutions: Sequence[int]) -> TestLoader:
        config = self.config
        return TestLoader(
            TestViews(reader, resolutions, config.preprocessing),
            config.preprocessing,
            batch_size=config.batch_size,
            workers=config.workers,
            faults=self._faults,
        )
