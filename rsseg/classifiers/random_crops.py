"""One random crop and flip of an image for a classifier, then one resize for each view.

The loaders of `datasets/` and `rsseg.views` both use it.

Source: Wang et al., ECCV 2020, Section 3.3 and Table 6 (one crop for all resolutions or one each).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.transforms import v2

from rsseg.classifiers.config import CropConfig
from rsseg.images.crops import Crop
from rsseg.switchable.resolutions import Resolutions


class RandomCrops:
    """From an image to S views.

    Args:
        resolutions: Sides of the views in pixels, from large to small.
        config: The random crop and flip.
    """

    def __init__(self, resolutions: Sequence[int], config: CropConfig) -> None:
        self.resolutions = Resolutions(resolutions)
        self.config = config
        self._crop = v2.RandomResizedCrop(1, scale=config.area, ratio=config.aspect)

    def crop(self, image: Tensor, seed: int) -> Crop:
        """Draw the crops and the mirroring of one image (uint8, (3, H, W)) from a seed."""
        settings, count = self.config, len(self.resolutions)
        # torchvision draws from torch's own generator: ours is put back afterwards.
        with torch.random.fork_rng(devices=[]):
            # Not torch.manual_seed, which goes on to seed every device.
            torch.default_generator.manual_seed(seed)
            mirrored = tuple((torch.rand(count) < settings.flip).tolist())
            pieces = count if settings.crops == "per_resolution" else 1
            boxes = [self._crop.make_params([image]) for _ in range(pieces)]
        if settings.flips == "single":
            mirrored = mirrored[:1] * count
        return Crop(tuple(_piece(image, box) for box in boxes), mirrored)

    def views(self, image: Tensor, seed: int) -> list[Tensor]:
        """Crop, resize and mirror one image (uint8, (3, H, W)) as a seed decides."""
        return self.crop(image, seed).views(self.resolutions)


def _piece(image: Tensor, box: dict[str, int]) -> Tensor:
    top, left = box["top"], box["left"]
    return image[:, top : top + box["height"], left : left + box["width"]]
