"""A reader of pictures in memory, for the tests of views and loader."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from datasets.faults import Fault
from datasets.loader import Item
from datasets.samples import Reader, Sample
from rsseg.images.preprocessing import Image, LabelMap
from rsseg.segmentation.config import AugmentationConfig


class SmallReader(Reader):
    """Samples from arrays; they are read-only, as those of a reader may be."""

    def __init__(self, images: Sequence[Image], labels: Sequence[LabelMap]) -> None:
        self.images, self.labels = tuple(images), tuple(labels)
        for array in (*self.images, *self.labels):
            array.flags.writeable = False
        self.names = tuple(f"picture{index}" for index in range(len(images)))
        self.classes = ("wall", "floor")
        self.crop = None
        self.meaning = "classes in memory"

    def read(self, index: int) -> Sample:
        return Sample(self.images[index], self.labels[index], self.names[index])

    def where(self, index: int) -> str:
        return f"{self.names[index]}.png"


def noise(height: int, width: int, seed: int = 0) -> Image:
    """Draw an image without any structure, shape (height, width, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def noisy_reader(count: int, height: int, width: int) -> SmallReader:
    """Make different images, each with label maps in which all 256 values occur."""
    images = [noise(height, width, seed) for seed in range(count)]
    return SmallReader(images, [np.ascontiguousarray(image[..., 0]) for image in images])


def still(crop: int) -> AugmentationConfig:
    """Change nothing: no scale, no flip, the given crop."""
    return AugmentationConfig(scale=(1, 1), shorter_side=1, crop=crop, flip=0)


def parts(item: Item | Fault) -> tuple[list[Tensor], Tensor]:
    """Return the views and the target of a sample that could be read."""
    assert isinstance(item, Item)
    assert isinstance(item.views, list)
    assert not item.faults
    return item.views, item.target
