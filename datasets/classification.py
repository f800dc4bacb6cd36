"""The batches of a classification run, as its configuration describes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from datasets.image_run import ImageRun
from datasets.image_views import TestViewsOfImages, TrainingImages
from datasets.imagenet.images import LabelledImages, summary_of
from datasets.imagenet.reader import open_images
from datasets.imagenet.streams import Stream, open_stream
from datasets.loader import TrainLoader, hash_of
from datasets.samples import Split
from datasets.stream_loader import StreamLoader
from datasets.test_data import TestData
from datasets.test_stream import TestStream
from rsseg.classifiers.random_crops import RandomCrops
from rsseg.common.distributed import share_of_batch, world_size

STREAMS: Final = ("wds", "tfds")  # readers whose training images have no index


def training_batches(config: ImageRun) -> TrainLoader | StreamLoader:
    """Return the augmented training batches of a run."""
    max_unreadable, resize = config.data.max_unreadable, config.data.resize_on == "loader"
    if config.data.reader in STREAMS:
        return StreamLoader(
            _open_stream(config),
            RandomCrops(config.resolutions, config.augmentation),
            config.batch_size,
            seed=config.seed,
            workers=config.workers,
            max_unreadable=max_unreadable,
            resize=resize,
        )
    images = _open(config, "train")
    views = TrainingImages(
        images,
        config.resolutions,
        config.augmentation,
        max_unreadable=max_unreadable,
        resize=resize,
    )
    return TrainLoader(
        views,
        config.batch_size,
        seed=config.seed,
        workers=config.workers,
        names=hash_of(_names(images), images.labels),
        max_unreadable=max_unreadable,
        summary=summary_of(images),
    )


def _open_stream(config: ImageRun) -> Stream:
    if config.data.reader == "tfds" and world_size() > 1 and not config.workers:
        raise ValueError(
            "data.root tfds/ with several training processes divides the images among worker "
            "processes; set workers to at least 1"
        )
    return open_stream(
        config.data,
        config.model.classes,
        seed=config.seed,
        parts=world_size() * max(1, config.workers),
        batch_size=share_of_batch(config.batch_size),
    )


def test_images(config: ImageRun) -> TestImages | TestStream:
    """Return the test images of a run."""
    return TestStream(config) if config.data.reader == "tfds" else TestImages(config)


test_images.__test__ = False  # type: ignore[attr-defined]  # Not a test.


def _open(config: ImageRun, split: Split) -> LabelledImages:
    labels = config.reads_labels
    return open_images(config.data, split, config.model.classes, train_labels=labels)


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
        self.images = _open(config, "test")
        self.classes = self.images.classes
        super().__init__(
            _names(self.images),
            config.preprocessing,
            labels=self.images.labels,
            batch_size=config.batch_size,
            workers=config.workers,
            max_unreadable=config.data.max_unreadable,
        )

    @property
    def summary(self) -> str:
        """One line: how the images are kept, counts and shares of the classes."""
        return summary_of(self.images)

    def views(self, resolutions: Sequence[int]) -> TestViewsOfImages:
        """Return the test images as views at the given resolutions."""
        return self._views(self.images, resolutions)

    def training_views(self, resolution: int) -> TestViewsOfImages:
        """Return the training images as views of test."""
        return self._views(_open(self.config, "train"), (resolution,))

    def _views(self, images: LabelledImages, resolutions: Sequence[int]) -> TestViewsOfImages:
        return TestViewsOfImages(
            images,
            resolutions,
            self.preprocessing,
            max_unreadable=self.config.data.max_unreadable,
        )
