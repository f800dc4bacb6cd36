"""The samples of a reader as views: augmented for training, unchanged for a test.

The random changes are those of `rsseg.segmentation.augmentation`. Samples that are tested are not
cropped, and keep their label map at the original size.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch.utils.data import Dataset

from datasets.faults import Fault, read_or_fault, read_or_next
from datasets.loader import Item
from datasets.samples import Draw, Reader
from rsseg.images.preprocessing import Preprocessing
from rsseg.segmentation.augmentation import JointViews
from rsseg.segmentation.config import AugmentationConfig


class TrainingViews(Dataset[Item]):
    """Augmented samples as S views and one label map at the size of the largest view.

    Args:
        reader: The samples.
        resolutions: Sides of the views in pixels, from large to small.
        preprocessing: Its mean colour fills the padding.
        augmentation: The random changes.
        max_unreadable: How many samples may be unreadable; another one stands in for each.
    """

    def __init__(
        self,
        reader: Reader,
        resolutions: Sequence[int],
        preprocessing: Preprocessing,
        augmentation: AugmentationConfig,
        *,
        max_unreadable: int = 0,
    ) -> None:
        self.reader = reader
        self.max_unreadable = max_unreadable
        self.views = JointViews(resolutions, augmentation, preprocessing.mean_colour)

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, draw: Draw) -> Item:
        """Return views, uint8 (3, r, r) for each resolution r, labels, uint8 (R, R), and faults."""
        sample, faults = read_or_next(
            self.reader.__getitem__,
            self.reader.names.__getitem__,
            first=draw.sample,
            count=len(self),
            limit=self.max_unreadable,
        )
        views, labels = self.views(sample.image, sample.labels, draw.seed)
        return Item(views, labels, faults)


class TestViews(Dataset[Item | Fault]):
    """Unchanged samples as one view for each resolution, with labels at the original size.

    Args:
        reader: The samples.
        resolutions: Resolutions to test at, in any order.
        preprocessing: How an image is fitted to a resolution.
        max_unreadable: How many samples may be unreadable; they are left out.
    """

    __test__ = False  # Not a class of tests.

    def __init__(
        self,
        reader: Reader,
        resolutions: Sequence[int],
        preprocessing: Preprocessing,
        *,
        max_unreadable: int = 0,
    ) -> None:
        self.reader = reader
        self.resolutions = tuple(resolutions)
        self.preprocessing = preprocessing
        self.max_unreadable = max_unreadable

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, index: int) -> Item | Fault:
        """Return views, uint8 (3, h, w) for each resolution, labels, uint8 (H, W); or a fault."""
        sample = read_or_fault(
            partial(self.reader.__getitem__, index), self.reader.names[index], self.max_unreadable
        )
        if isinstance(sample, Fault):
            return sample
        views = [self.preprocessing.view(sample.image, side) for side in self.resolutions]
        # Copied: the reader's array may be read-only.
        return Item(views, torch.from_numpy(np.array(sample.labels, order="C")))
