"""Images in memory as the networks read them: upright 8-bit RGB, as `images` reads files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image as Pictures
from PIL import ImageOps

from rsseg.images.preprocessing import Image

# The very functions that read a file, so that a picture looks the same on every way to a network.
from rsseg.images.reading import _PROGRAMS, _is_too_large, _scaled, _to_rgb

_NAME = Path("the image")


def as_rgb(image: object) -> Image:
    """Turn an image into 8-bit RGB, upright, at its own size.

    Args:
        image: A picture of Pillow in any mode that `rsseg predict` reads, or an array, RGB, uint8,
            shape (H, W, 3), which is returned as it is.

    Raises:
        TypeError: If it is neither.
        ValueError: If the array is of another kind, or the picture cannot be read.
    """
    if isinstance(image, np.ndarray):
        return _checked(image)
    if not isinstance(image, Pictures.Image):
        raise TypeError(
            f"expected a picture of Pillow or an RGB array, uint8, shape (H, W, 3), got "
            f"{type(image).__name__}; open files with PIL.Image.open"
        )
    if image.format in _PROGRAMS:
        raise ValueError(f"{image.format} is a program, which is not run; convert it first")
    if _is_too_large(image.width * image.height) or not image.width * image.height:
        raise ValueError(
            f"an image of {image.width}x{image.height} pixels; expected 1 to "
            f"{Pictures.MAX_IMAGE_PIXELS} pixels"
        )
    return _read(image)


def _checked(image: np.ndarray) -> Image:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(
            f"expected an RGB array, uint8, shape (H, W, 3), got {image.dtype}, shape "
            f"{image.shape}; give other kinds as a picture of Pillow"
        )
    return image


def _read(image: Pictures.Image) -> Image:
    try:
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith(("I", "F")):
            upright = _scaled(upright, _NAME)
        return _to_rgb(upright)
    except Exception as error:  # Broken pictures are read late, and raise errors of any kind.
        reason = str(error) or type(error).__name__
        raise ValueError(f"unreadable image ({reason}); replace it") from error
