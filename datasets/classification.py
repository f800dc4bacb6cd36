"""The batches of a classification run, as its configuration describes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from torch import Tensor
from torch.utils.data import Subset

from datasets.faults import Faults
from datasets.image_views import TestViewsOfImages, TrainingImages
from datasets.imagenet import LabelledImages, open_images
from datasets.loader import TestLoader, TrainLoader, fingerprint
from rsseg.classifiers import ClassifierConfig
from rsseg.image_settings import CropConfig, ImageDataConfig
from rsseg.preprocessing import Preprocessing


class ImageRun(Protocol):
    """What is asked of a configuration; `classification` has the whole of it."""

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Sides of the views."""

    @property
    def model(self) -> ClassifierConfig:
        """The network, which knows how many classes there are."""

    @property
    def data(self) -> ImageDataConfig:
        """The images."""

    @property
    def augmentation(self) -> CropConfig:
        """Random crop and flip."""

    @property
    def preprocessing(self) -> Preprocessing:
        """How test images are fitted."""

    @property
    def batch_size(self) -> int:
        """Images in a batch."""

    @property
    def seed(self) -> int:
        """Seed of order and augmentation."""

    @property
    def workers(self) -> int:
        """Processes that load images."""


def training_batches(config: ImageRun) -> TrainLoader:
    """Return the augmented training batches of a run."""
    images = open_images(config.data, "train", config.model.classes)
    unreadable = config.data.max_unreadable
    views = TrainingImages(
        images,
        config.resolutions,
        config.augmentation,
        max_unreadable=unreadable,
        resize=config.data.resize_on == "loader",
    )
    return TrainLoader(
        views,
        config.batch_size,
        seed=config.seed,
        workers=config.workers,
        max_unreadable=unreadable,
    )


class TestImages:
    """The test images of a run; `rsseg.task.Tests`.

    Args:
        config: Settings of the run.

    Attributes:
        classes: Names of the classes.
    """

    __test__ = False  # Not a class of tests.

    def __init__(self, config: ImageRun) -> None:
        self.config = config
        self.images = open_images(config.data, "test", config.model.classes)
        self.classes = self.images.classes
        self._faults = Faults(config.data.max_unreadable)
        self._loaders: dict[tuple[int, ...], TestLoader] = {}

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Number of test samples, and a hash of their names."""
        return fingerprint(_names(self.images))

    @property
    def names(self) -> Sequence[str]:
        """Names of the images that could be read, in the order in which they are evaluated."""
        return [name for name in _names(self.images) if name not in self.faults]

    @property
    def faults(self) -> dict[str, str]:
        """The images that could not be read so far, and why."""
        return self._faults.found

    def batches(self, resolutions: Sequence[int]) -> TestLoader:
        """Give views at the given resolutions; the worker processes are kept for the next time."""
        key = tuple(resolutions)
        if key not in self._loaders:
            views = self._views(self.images, key)
            self._loaders[key] = self._loader(views, self._faults)
        return self._loaders[key]

    def calibration(self, resolution: int, images: int) -> Iterator[Tensor]:
        """Give batches of so many training images as uint8 views of test, (B, 3, h, w)."""
        train = open_images(self.config.data, "train", self.config.model.classes)
        chosen = np.linspace(0, len(train) - 1, min(images, len(train))).astype(int).tolist()
        views = Subset(self._views(train, (resolution,)), chosen)
        loader = self._loader(views, Faults(self.config.data.max_unreadable))
        return (views[0] for views, _ in loader)

    def _views(self, images: LabelledImages, resolutions: Sequence[int]) -> TestViewsOfImages:
        return TestViewsOfImages(
            images,
            resolutions,
            self.config.preprocessing,
            max_unreadable=self.config.data.max_unreadable,
        )

    def _loader(self, views: Any, faults: Faults) -> TestLoader:
        return TestLoader(
            views,
            self.config.preprocessing,
            batch_size=self.config.batch_size,
            workers=self.config.workers,
            faults=faults,
        )


def _names(images: LabelledImages) -> list[str]:
    return [images.name(index) for index in range(len(images))]
