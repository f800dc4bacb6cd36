"""The batches of a classification run, as its configuration describes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from datasets.image_views import TestViewsOfImages, TrainingImages
from datasets.imagenet.reader import LabelledImages, open_images
from datasets.loader import TrainLoader, hash_of
from datasets.test_data import TestData
from rsseg.classifiers.build import ClassifierConfig
from rsseg.classifiers.config import CropConfig, ImageDataConfig
from rsseg.images.preprocessing import Preprocessing


class ImageRun(Protocol):
    """The settings that the batches need; `classification` defines the whole configuration."""

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
    max_unreadable = config.data.max_unreadable
    views = TrainingImages(
        images,
        config.resolutions,
        config.augmentation,
        max_unreadable=max_unreadable,
        resize=config.data.resize_on == "loader",
    )
    return TrainLoader(
        views,
        config.batch_size,
        seed=config.seed,
        workers=config.workers,
        names=hash_of(_names(images), images.labels),
        max_unreadable=max_unreadable,
    )


def _names(images: LabelledImages) -> list[str]:
    return [images.name(index) for index in range(len(images))]


class TestImages(TestData):
    """The test images of a classification run.

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
        super().__init__(
            _names(self.images),
            config.preprocessing,
            labels=self.images.labels,
            batch_size=config.batch_size,
            workers=config.workers,
            max_unreadable=config.data.max_unreadable,
        )

    def views(self, resolutions: Sequence[int]) -> TestViewsOfImages:
        """Return the test images as views at the given resolutions."""
        return self._views(self.images, resolutions)

    def training_views(self, resolution: int) -> TestViewsOfImages:
        """Return the training images as views of test."""
        train = open_images(self.config.data, "train", self.config.model.classes)
        return self._views(train, (resolution,))

    def _views(self, images: LabelledImages, resolutions: Sequence[int]) -> TestViewsOfImages:
        return TestViewsOfImages(
            images,
            resolutions,
            self.preprocessing,
            max_unreadable=self.config.data.max_unreadable,
        )
