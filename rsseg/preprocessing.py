"""From an image to what a network reads: resizing to a resolution, and normalisation.

The same object serves training, evaluation and prediction, and is part of every checkpoint, so
that weights are always used with the preprocessing they were trained with. Random augmentation
lives with the data sets.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import ConfigDict, field_validator
from pydantic.dataclasses import dataclass
from torch import Tensor

Image = NDArray[np.uint8]  # (H, W, 3), RGB, 0..255
LabelMap = NDArray[np.uint8]  # (H, W), class of each pixel, VOID where there is none
VOID = 255


def resize_image(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize with an antialiased bilinear filter.

    Args:
        image: uint8 or float, shape (C, H, W).
        size: Height and width of the result in pixels.

    Returns:
        The image at the new size, same dtype, shape (C, *size).
    """
    if image.shape[-2:] == size:
        return image
    resized = F.interpolate(image[None], size=size, mode="bilinear", antialias=True)
    return resized[0]


def resize_labels(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a map of classes by nearest neighbour, shape (H, W) to `size`, dtype kept."""
    if labels.shape == size:
        return labels
    return F.interpolate(labels[None, None], size=size, mode="nearest-exact")[0, 0]


@dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class Preprocessing:
    """How an image becomes the view of a resolution, and a view the input of a network.

    Args:
        mean: Mean of the red, green and blue channel, for values in 0..1.
        std: Standard deviation of the channels, for values in 0..1, above 0.
        fit: "square" resizes both sides to the resolution and changes the aspect ratio;
            "aspect" resizes the shorter side to the resolution and keeps the ratio.
    """

    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    fit: Literal["square", "aspect"] = "square"

    @field_validator("std")
    @classmethod
    def _positive(cls, std: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(std) <= 0:
            raise ValueError(f"std must be above 0 in each channel, got {std}")
        return std

    def size(self, resolution: int, height: int, width: int) -> tuple[int, int]:
        """Give height and width of the view of an image of the given height and width."""
        if self.fit == "square":
            return resolution, resolution
        scale = resolution / min(height, width)
        return max(resolution, round(height * scale)), max(resolution, round(width * scale))

    def view(self, image: Image, resolution: int) -> Tensor:
        """Resize an image for one resolution.

        Args:
            image: RGB, uint8, shape (H, W, 3).
            resolution: Side of the view in pixels.

        Returns:
            The view, uint8, shape (3, h, w).
        """
        # Copied: the image may be read-only, and a view of the same size must not alias it.
        tensor = torch.from_numpy(np.array(image, order="C")).permute(2, 0, 1)
        return resize_image(tensor, self.size(resolution, *image.shape[:2]))

    def normalise(self, views: Tensor) -> Tensor:
        """Turn views (uint8, shape (B, 3, h, w) or (3, h, w)) into input (float32, same shape)."""
        mean = torch.tensor(self.mean, device=views.device).view(3, 1, 1)
        std = torch.tensor(self.std, device=views.device).view(3, 1, 1)
        return (views.float() / 255 - mean) / std

    @property
    def mean_colour(self) -> tuple[int, int, int]:
        """The mean as a colour, RGB, 0..255: what padding is filled with."""
        red, green, blue = (round(channel * 255) for channel in self.mean)
        return red, green, blue
