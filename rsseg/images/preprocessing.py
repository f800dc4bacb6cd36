"""From an image to what a network reads: resizing to a resolution, and normalisation.

The same object serves training, evaluation and prediction, and is part of every checkpoint, so
that weights are always used with the preprocessing they were trained with. Random augmentation
lives with the data sets.

Tensors come and go, or arrays of the same values: those need no PyTorch, see `resize`.
"""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, field_validator
from pydantic.dataclasses import dataclass

from rsseg.images.torch_types import Tensor, loaded_torch

Image = NDArray[np.uint8]  # (H, W, 3), RGB, 0..255
LabelMap = NDArray[np.uint8]  # (H, W), class of each pixel, VOID where there is none
VOID = 255
PHOTO_SIZE: Final = (480, 640)  # height and width where a cost depends on the photo: NYUDv2's
Ratio = Annotated[float, Field(gt=0, le=1)]


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
    resized = _interpolate(image[None], size=size, mode="bilinear", antialias=True)
    return resized[0]


def resize_extent(image: Tensor, extent: tuple[float, float], size: tuple[int, int]) -> Tensor:
    """Do the same as `resize_image` with the upper left part of an image.

    Args:
        image: uint8 or float, shape (C, H, W).
        extent: Height and width of that part in pixels, with their fractions; above H - 1 and
            W - 1, at least twice the size.
        size: Height and width of the result in pixels.

    Returns:
        The part at the new size, same dtype, shape (C, *size).
    """
    if tuple(image.shape[-2:]) == extent:
        return resize_image(image, size)
    scales = list(_scales(extent, size))
    resized = _interpolate(image[None], scale_factor=scales, mode="bilinear", antialias=True)
    return resized[0]


def _scales(extent: tuple[float, float], size: tuple[int, int]) -> tuple[float, float]:
    """Return the pixels of the result for one of the image, down and across."""
    # PyTorch rounds the size of the result down, H times the scale: a millionth keeps it whole.
    down, across = ((1 + 1e-6) * new / old for new, old in zip(size, extent, strict=True))
    return down, across


def _interpolate(image: Tensor, **options: Any) -> Tensor:
    from torch.nn.functional import interpolate  # noqa: PLC0415 Processes without tensors.

    return interpolate(image, **options)


def resize_labels(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a map of classes by nearest neighbour, shape (H, W) to `size`, dtype kept."""
    if labels.shape == size:
        return labels
    return _interpolate(labels[None, None], size=size, mode="nearest-exact")[0, 0]


@dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class Preprocessing:
    """How an image becomes the view of a resolution, and a view the input of a network.

    Args:
        mean: Mean of the red, green and blue channel, for values in 0..1.
        std: Standard deviation of the channels, for values in 0..1, above 0.
        fit: "square" resizes both sides to the resolution and changes the aspect ratio;
            "aspect" resizes the shorter side to the resolution and keeps the ratio; "crop" resizes
            the shorter side to resolution / crop_ratio and cuts the square out of the centre.
        crop_ratio: The square's side as a share of the resized image's shorter side, above 0.
        crop_ratios: The same for single resolutions, where it is another.
    """

    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    fit: Literal["square", "aspect", "crop"] = "square"
    crop_ratio: Ratio = 0.875
    crop_ratios: dict[int, Ratio] = field(default_factory=dict)

    @field_validator("std")
    @classmethod
    def _positive(cls, std: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(std) <= 0:
            raise ValueError(f"std must be above 0 in each channel, got {std}")
        return std

    def size(self, resolution: int, height: float, width: float) -> tuple[int, int]:
        """Return height and width of the view of an image of the given height and width."""
        if self.fit != "aspect":
            return resolution, resolution
        scale = resolution / min(height, width)
        return max(resolution, round(height * scale)), max(resolution, round(width * scale))

    def resized(self, resolution: int, height: float, width: float) -> tuple[int, int]:
        """Return height and width that an image is resized to before "crop" cuts out its centre.

        Sides are rounded down, as torchvision does: 256, 219, 182, 146 and 109 for 224 to 96.
        """
        if self.fit != "crop":
            return self.size(resolution, height, width)
        shorter = int(resolution / self.crop_ratios.get(resolution, self.crop_ratio))
        longer = int(shorter * max(height, width) / min(height, width))
        return (shorter, longer) if height <= width else (longer, shorter)

    def view(
        self, image: Image, resolution: int, extent: tuple[float, float] | None = None
    ) -> Tensor:
        """Resize an image for one resolution.

        Args:
            image: RGB, uint8, shape (H, W, 3).
            resolution: Side of the view in pixels.
            extent: Height and width of what is shown in pixels of `image`, with their fractions,
                where it is a reduced photo, see `rsseg.images.photo`; default: (H, W).

        Returns:
            The view, uint8, shape (3, h, w).
        """
        import torch  # noqa: PLC0415 Processes without tensors.

        extent = extent or (image.shape[0], image.shape[1])
        resized_size, crop = self._plan(resolution, extent)
        # Copied: the image may be read-only, and a view of the same size must not alias it.
        tensor = torch.from_numpy(np.array(image, order="C")).permute(2, 0, 1)
        return resize_extent(tensor, extent, resized_size)[:, *crop].contiguous()

    def pixels(
        self, image: Image, resolution: int, extent: tuple[float, float] | None = None
    ) -> NDArray[np.uint8]:
        """Do the same as `view` with the pixels as an array; without PyTorch if it is not loaded.

        Returns:
            The view, uint8, shape (3, h, w): on x86 the same values, elsewhere PyTorch's may
            differ by one.
        """
        if loaded_torch() is not None:  # Faster, for the same values.
            pixels: NDArray[np.uint8] = self.view(image, resolution, extent).numpy()
            return pixels
        from rsseg.images.resize import resize_pixels  # noqa: PLC0415 It loads OpenCV.

        extent = extent or (image.shape[0], image.shape[1])
        size, crop = self._plan(resolution, extent)
        scales = None
        if image.shape[:2] != extent:
            down, across = _scales(extent, size)
            scales = 1 / down, 1 / across
        resized = resize_pixels(image, size, scales)[crop]
        return np.ascontiguousarray(resized.transpose(2, 0, 1))

    def _plan(
        self, resolution: int, extent: tuple[float, float]
    ) -> tuple[tuple[int, int], tuple[slice, slice]]:
        """Return what an image is resized to, and the rows and columns of the view in that."""
        resolution = int(resolution)  # A small integer of numpy would overflow below.
        resized = self.resized(resolution, *extent)
        height, width = self.size(resolution, *extent)
        top = round((resized[0] - height) / 2)
        left = round((resized[1] - width) / 2)
        return resized, (slice(top, top + height), slice(left, left + width))

    def translated(self, inputs: Tensor, to: Preprocessing) -> Tensor:
        """Turn inputs that this preprocessing has normalised into those of another, same shape."""
        if (self.mean, self.std) == (to.mean, to.std):
            return inputs
        mean, std, other_mean, other_std = (
            _channels(values, inputs.device) for values in (self.mean, self.std, to.mean, to.std)
        )
        return (inputs * std + mean - other_mean) / other_std

    def normalise(self, views: Tensor) -> Tensor:
        """Turn views (uint8, shape (B, 3, h, w) or (3, h, w)) into input (float32, same shape)."""
        mean, std = (_channels(values, views.device) for values in (self.mean, self.std))
        return (views.float() / 255 - mean) / std

    def normalise_pixels(self, views: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Do the same as `normalise` with arrays, to the same values."""
        mean, std = (np.array(v, np.float32)[:, None, None] for v in (self.mean, self.std))
        return (views.astype(np.float32) / np.float32(255) - mean) / std

    @property
    def mean_colour(self) -> tuple[int, int, int]:
        """The mean as a colour, RGB, 0..255: what padding is filled with."""
        red, green, blue = (round(channel * 255) for channel in self.mean)
        return red, green, blue


def _channels(values: tuple[float, float, float], device: Any) -> Tensor:
    """Return one value for each channel on a device, shape (3, 1, 1)."""
    import torch  # noqa: PLC0415 Processes without tensors.

    # Filled there: a copy from the host would wait for the device at every step.
    return torch.stack([torch.full((1, 1), value, device=device) for value in values])
