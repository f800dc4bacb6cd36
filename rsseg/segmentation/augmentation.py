"""Random scale, crop, flip and colours of an image and its label map, then a resize for each view.

All views and the label map come from the same crop and the same flip; the label map is as large as
the largest view. The loaders of `datasets/` and `rsseg.views` both use it. The only file that
imports albumentations.

Source: Wang et al., ECCV 2020, Section 3.3 and Table 6 (why one crop serves all resolutions).
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from rsseg.images.preprocessing import VOID, Image, LabelMap, resize_image, resize_labels
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


class JointViews:
    """From an image and its label map to S views and one label map.

    Args:
        resolutions: Sides of the views in pixels, from large to small.
        config: The random changes.
        colour: RGB, 0..255, fills the padding.
    """

    def __init__(
        self, resolutions: Sequence[int], config: AugmentationConfig, colour: Sequence[int]
    ) -> None:
        self.resolutions = Resolutions(resolutions)
        self.recolour = A.Compose([A.ColorJitter(0.3, 0.3, 0.3, 0.05, p=config.photometric)])
        self.reshape = _reshaping(config, colour)

    def __call__(self, image: Image, labels: LabelMap, seed: int) -> tuple[list[Tensor], Tensor]:
        """Change one image and its label map as a seed decides.

        Args:
            image: RGB, uint8, shape (H, W, 3).
            labels: Class of each pixel, 255 for void, uint8, shape (H, W).
            seed: 0..2**32 - 1.

        Returns:
            Views, uint8, shape (3, r, r) for each resolution r, and the label map, uint8, (R, R).
        """
        for transform in (self.recolour, self.reshape):
            _seed(transform, seed)
        # Colours first: the padding keeps its own.
        recoloured = self.recolour(image=image)["image"]
        changed = self.reshape(image=recoloured, mask=labels)
        crop = torch.from_numpy(np.ascontiguousarray(changed["image"])).permute(2, 0, 1)
        mask = torch.from_numpy(np.ascontiguousarray(changed["mask"]))
        largest = self.resolutions[0]
        views = [resize_image(crop, (side, side)) for side in self.resolutions]
        return views, resize_labels(mask, (largest, largest))
