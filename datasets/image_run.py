"""The settings that the batches of a classification run need."""

from __future__ import annotations

from typing import Protocol

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
    def reads_labels(self) -> bool:
        """Whether the labels of the training images are read."""

    @property
    def seed(self) -> int:
        """Seed of order and augmentation."""

    @property
    def workers(self) -> int:
        """Processes that load images."""
