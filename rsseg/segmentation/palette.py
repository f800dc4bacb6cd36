"""Colours for label maps: a palette, a label map in colour, a label map laid over its image.

Arrays in, arrays and pictures out: nothing here reads files or draws text.

The palette is built greedily: each colour is the one farthest, in CIE L*a*b*, from all colours
before it. Distances there follow what the eye sees, so neighbours in the list never look alike,
and a palette of few classes is the beginning of a palette of many.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from io import BytesIO
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pictures

from rsseg.common.messages import counted
from rsseg.images.preprocessing import VOID, Image, LabelMap

Classes = int | NDArray[np.uint8]  # their number, or the colour of each, shape (K, 3)
VOID_COLOUR: Final = (38, 38, 38)  # dark grey: darker than every colour of a class
_LIGHTNESS: Final = (38.0, 88.0)  # L*, 0..100: apart from void below and from white paper above
_BAND: Final = 1 << 20  # pixels of an overlay that are mixed at once, at 24 bytes for each value
_FAST: Final = 1  # compression of zlib: a stronger one takes longer than sending what it saves
_CHROMA: Final = (22.0, 72.0)  # no greys, which image and void already use, and no glare


def palette(classes: int) -> NDArray[np.uint8]:
    """Return a colour for every class, the same ones at every call.

    Args:
        classes: Number of classes, 1..255.

    Returns:
        RGB colours, shape (classes, 3).

    Raises:
        ValueError: If `classes` is not in 1..255.
    """
    if not 1 <= classes <= VOID:
        raise ValueError(f"a palette has 1 to {VOID} classes, got {classes}")
    colours = _candidates()
    places = _to_lab(colours)
    nearest = np.full(len(colours), np.inf)
    indices = [int(np.argmin(np.abs(places - (60, 30, -70)).sum(axis=1)))]  # begins with a blue
    while len(indices) < classes:
        distance = np.square(places - places[indices[-1]]).sum(axis=1)
        nearest = np.minimum(nearest, distance)
        indices.append(int(nearest.argmax()))
    return colours[indices]


def class_colours(
    classes: int, given: Sequence[tuple[int, int, int]] | None = None
) -> NDArray[np.uint8]:
    """Return the colour of each class: as given, or of the palette; RGB, shape (classes, 3).

    Raises:
        ValueError: If there are more or fewer colours than classes.
    """
    if given is None:
        return palette(classes)
    if len(given) != classes:
        raise ValueError(
            f"{len(given)} colours for {counted(classes, 'class')}; give each class one"
        )
    return np.array(given, dtype=np.uint8)


def colourise(labels: LabelMap, classes: Classes) -> Image:
    """Paint a label map.

    Args:
        labels: Class of each pixel, 255 for void, shape (H, W).
        classes: Number of classes, or the colour of each, see `class_colours`.

    Returns:
        RGB, uint8, shape (H, W, 3); void is dark grey.

    Raises:
        ValueError: If the map holds a value that is neither a class nor void.
    """
    return _colours_of(labels, classes)[labels]


def label_picture(labels: LabelMap, classes: Classes) -> Pictures.Image:
    """Return a label map as a picture whose values are the classes, shown in colour.

    A greyscale picture of the same values would be black to the eye. Saved as PNG, it is read back
    to the bit by Pillow and by `read_label_values`; OpenCV gives the colours instead.

    Args:
        labels: Class of each pixel, 255 for void, shape (H, W).
        classes: As for `colourise`.

    Returns:
        A picture of mode P with 256 colours, so that a PNG of it has 8 bits for each pixel.
    """
    picture = Pictures.fromarray(labels)
    picture.putpalette(_colours(classes).tobytes())
    return picture


def label_png(labels: LabelMap, classes: Classes) -> bytes:
    """Return a label map, shape (H, W), as a PNG whose values are the classes."""
    stream = BytesIO()
    # Rows are runs of one class: less time and fewer bytes than a search for longer patterns.
    label_picture(labels, classes).save(stream, "PNG", compress_type=zlib.Z_RLE)
    return stream.getvalue()


def png_bytes(picture: Pictures.Image) -> bytes:
    """Write a picture as a PNG that is to be sent."""
    stream = BytesIO()
    picture.save(stream, "PNG", compress_level=_FAST)
    return stream.getvalue()


def _colours_of(labels: LabelMap, classes: Classes) -> NDArray[np.uint8]:
    """Return the colour of every value, shape (256, 3), or raise ValueError for a foreign one."""
    largest = int(labels.max(initial=0, where=labels != VOID))
    count = classes if isinstance(classes, int) else len(classes)
    if largest >= count:
        raise ValueError(
            f"the label map holds the value {largest}, expected 0..{count - 1} or "
            f"{VOID} for void; give the number of classes it was made with"
        )
    return _colours(classes)


def _colours(classes: Classes) -> NDArray[np.uint8]:
    """Return the colour of every value of a label map, shape (256, 3)."""
    table = np.empty((VOID + 1, 3), dtype=np.uint8)
    table[:] = VOID_COLOUR
    colours = palette(classes) if isinstance(classes, int) else classes
    table[: len(colours)] = colours
    return table


def overlay(image: Image, labels: LabelMap, classes: Classes, *, opacity: float = 0.55) -> Image:
    """Lay the colours of a label map over its image; void darkens the image.

    Args:
        image: RGB, uint8, shape (H, W, 3).
        labels: Class of each pixel, 255 for void, shape (H, W).
        classes: Number of classes, or the colour of each, see `class_colours`.
        opacity: Share of the colours in the result, 0 (image alone) to 1 (colours alone).

    Returns:
        RGB, uint8, shape (H, W, 3).

    Raises:
        ValueError: If the sizes differ, `opacity` is not in 0..1, or a label is not a class.
    """
    if image.shape[:2] != labels.shape:
        raise ValueError(
            f"image and labels must have one size, got {image.shape[:2]} and {labels.shape}"
        )
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must be in 0..1, got {opacity}")
    table, mixed = _colours_of(labels, classes), np.empty_like(image)
    rows = max(1, _BAND // max(1, image.shape[1]))
    for top in range(0, len(image), rows):
        band = slice(top, top + rows)
        blend = (1 - opacity) * image[band] + opacity * table[labels[band]]
        mixed[band] = np.rint(blend)
    return mixed


def _candidates() -> NDArray[np.uint8]:
    """Return the candidates for a palette: a grid of RGB without greys and extremes, (N, 3)."""
    # 15 divides 255: the grid reaches both ends.
    steps = np.arange(0, 256, 15, dtype=np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    lightness, *opponents = _to_lab(grid).T
    chroma = np.hypot(*opponents)
    mask = (_LIGHTNESS[0] < lightness) & (lightness < _LIGHTNESS[1])
    mask &= (_CHROMA[0] < chroma) & (chroma < _CHROMA[1])
    return np.asarray(grid[mask], dtype=np.uint8)


def _to_lab(colours: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return RGB colours, shape (N, 3), as L*a*b* (L* in 0..100), same shape."""
    shares = colours[None].astype(np.float32) / 255
    return np.asarray(cv2.cvtColor(shares, cv2.COLOR_RGB2LAB)[0], dtype=np.float32)
