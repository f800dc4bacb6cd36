"""Views: one random scale, crop and flip of a sample, then one resize for each resolution.

All resolutions of a sample, and its label map, come from the same crop and the same flip; the
label map is as large as the largest view. Samples that are tested are not cropped, and keep
their label map at the original size. The only file that uses albumentations.

Source: Wang et al., ECCV 2020, Section 3.3 and Table 6 (why one crop serves all resolutions).
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from datasets.faults import Fault, read_or_fault, read_or_next
from datasets.loader import Item
from datasets.samples import Draw, Reader
from rsseg.images.preprocessing import VOID, Preprocessing, resize_image, resize_labels
from rsseg.segmentation.config import AugmentationConfig
from rsseg.switchable.resolutions import Resolutions

# Set before the import: the library would look for a newer version of itself on the network.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
import albumentations as A


class BoundedScale(A.RandomScale):  # type: ignore[misc]
    """A random scale that leaves the shorter side at least `shorter_side` pixels long."""

    def __init__(self, scale: tuple[float, float], shorter_side: int) -> None:
        super().__init__(
            (scale[0] - 1, scale[1] - 1),
            # Plain "nearest" looks at corners, not centres, and moves labels against the image.
            mask_interpolation=cv2.INTER_NEAREST_EXACT,
            area_for_downscale="image",
            p=1.0,
        )
        self.shorter_side = shorter_side

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        """Raise the drawn scale where the image would become too small."""
        # A hair more than the ratio: sizes are rounded down, 103 * (64 / 103) to 63.
        least = self.shorter_side / min(params["shape"][:2]) * (1 + 1e-9)
        return {"scale": max(params["scale"], least)}


def _seed(transform: A.Compose, seed: int) -> None:
    """Seed for one sample: what is drawn depends on no worker and on no order.

    One generator for all steps: set_random_seed would give each its own copy, and scale, place and
    flip would be one and the same number.
    """
    transform.set_random_state(np.random.default_rng(seed), random.Random(seed))


def _reshaping(config: AugmentationConfig, colour: Sequence[int]) -> A.Compose:
    side = config.crop
    return A.Compose(
        [
            BoundedScale(config.scale, config.shorter_side),
            A.PadIfNeeded(side, side, fill=tuple(colour), fill_mask=VOID, position="random"),
            A.RandomCrop(side, side),
            A.HorizontalFlip(p=config.flip),
        ]
    )


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
        self.resolutions = Resolutions(resolutions)
        self.recolour = A.Compose([A.ColorJitter(0.3, 0.3, 0.3, 0.05, p=augmentation.photometric)])
        self.reshape = _reshaping(augmentation, preprocessing.mean_colour)

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
        for transform in (self.recolour, self.reshape):
            _seed(transform, draw.seed)
        # Colours first: the padding keeps its own.
        image = self.recolour(image=sample.image)["image"]
        changed = self.reshape(image=image, mask=sample.labels)
        image = torch.from_numpy(np.ascontiguousarray(changed["image"])).permute(2, 0, 1)
        labels = torch.from_numpy(np.ascontiguousarray(changed["mask"]))
        largest = self.resolutions[0]
        views = [resize_image(image, (side, side)) for side in self.resolutions]
        return Item(views, resize_labels(labels, (largest, largest)), faults)


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
