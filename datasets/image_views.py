"""Labelled images as views: cropped at random for training, fitted whole for a test.

An image is decoded once, and every view is resized from the crop itself, see
`rsseg.classifiers.random_crops`. A file that cannot be read is replaced in training, left out of a
test, and reported with the sample.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from datasets.faults import Fault, read_or_fault, read_or_next
from datasets.imagenet.images import LabelledImages
from datasets.loader import Item
from datasets.samples import Draw
from rsseg.classifiers.config import CropConfig
from rsseg.classifiers.random_crops import RandomCrops
from rsseg.images.crops import Crop
from rsseg.images.preprocessing import Image, Preprocessing


class TrainingImages(Dataset[Item]):
    """Randomly cropped images as S views, and their class.

    Args:
        images: The images.
        resolutions: Sides of the views in pixels, from large to small.
        augmentation: The random crop and flip.
        max_unreadable: How many images may be unreadable; another one stands in for each.
        resize: Whether to return views; else crops, which a `CropBatch` resizes on the device.
    """

    def __init__(
        self,
        images: LabelledImages,
        resolutions: Sequence[int],
        augmentation: CropConfig,
        *,
        max_unreadable: int = 0,
        resize: bool = True,
    ) -> None:
        self.images = images
        self.crops = RandomCrops(resolutions, augmentation)
        self.resize = resize
        self.max_unreadable = max_unreadable

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, draw: Draw) -> Item:
        """Return views, uint8 (3, r, r) for each resolution r, the class, and the faults met."""
        (image, label), faults = read_or_next(
            self.images.__getitem__,
            self.images.name,
            first=draw.sample,
            count=len(self),
            limit=self.max_unreadable,
        )
        views = views_or_crops(image, self.crops, draw.seed, resize=self.resize)
        return Item(views, torch.tensor(label), faults)


def views_or_crops(
    image: Image, crops: RandomCrops, seed: int, *, resize: bool
) -> list[Tensor] | Crop:
    """Return an image's views as a seed decides, or the crops that are resized to them later."""
    pixels = torch.from_numpy(image).permute(2, 0, 1)
    return crops.views(pixels, seed) if resize else crops.crop(pixels, seed)


class TestViewsOfImages(Dataset[Item | Fault]):
    """Images as the preprocessing fits them, one view for each resolution, and their class.

    Args:
        images: The images.
        resolutions: Resolutions to test at, in any order.
        preprocessing: How an image is fitted to a resolution.
        max_unreadable: How many images may be unreadable; they are left out.
    """

    __test__ = False  # Not a class of tests.

    def __init__(
        self,
        images: LabelledImages,
        resolutions: Sequence[int],
        preprocessing: Preprocessing,
        *,
        max_unreadable: int = 0,
    ) -> None:
        self.images = images
        self.resolutions = tuple(resolutions)
        self.preprocessing = preprocessing
        self.max_unreadable = max_unreadable

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Item | Fault:
        """Return views, uint8 (3, h, w) for each resolution, and the class; or a fault."""
        item = read_or_fault(
            lambda: self.images[index], self.images.name(index), self.max_unreadable
        )
        if isinstance(item, Fault):
            return item
        image, label = item
        views = [self.preprocessing.view(image, side) for side in self.resolutions]
        return Item(views, torch.tensor(label))
