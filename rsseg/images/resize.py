"""Resizing with an antialiased bilinear filter, by numpy alone, to the values of PyTorch.

`torch.nn.functional.interpolate(mode="bilinear", antialias=True)` resizes images of uint8 by fixed
point on x86: first all rows, then all columns, each with weights of 16 bits and a result that is
rounded to 8. The same sums are computed here as products with narrow bands of the weights. They
are whole numbers that floating point holds exactly, so that the order of the sum does not matter
and a view is the same to the bit whether or not the process has loaded PyTorch.

Source: aten/src/ATen/native/cpu/UpSampleKernelAVXAntialias.h of PyTorch, which comes from
Pillow-SIMD.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

_BITS: Final = 22  # of a weight, at most
_LARGEST_WEIGHT: Final = 2**15  # a weight has 16 bits and a sign
_BAND: Final = 16  # results whose weights are one matrix: most of it is not zero
_AT_ONCE: Final = 2**19  # pixel values of one strip, 2 MB as float32, which stays in the cache
_EXACT: Final = 2**24  # Whole numbers below are exact as float32.

Pixels = NDArray[np.uint8]  # (H, W, C)


def resize_pixels(
    image: Pixels, size: tuple[int, int], scales: tuple[float, float] | None = None
) -> Pixels:
    """Resize an image.

    Args:
        image: uint8, shape (H, W, C).
        size: Height and width of the result in pixels.
        scales: Pixels of the image for one of the result, down and across; default: H and W
            over the size.

    Returns:
        The image at the new size, shape (*size, C); a copy.
    """
    height, width = size
    down, across = scales or (image.shape[0] / height, image.shape[1] / width)
    if width != image.shape[1]:
        image = _resized_columns(image, _Filter.of(image.shape[1], width, across))
    if height != image.shape[0]:
        flat = np.ascontiguousarray(image).reshape(len(image), -1)
        rows = _Filter.of(image.shape[0], height, down).apply(flat)
        image = rows.reshape(height, *image.shape[1:])
    return np.array(image, order="C")


def _resized_columns(image: Pixels, columns: _Filter) -> Pixels:
    """Resize the second axis of an image (H, W, C), some rows at a time."""
    height, width, channels = image.shape
    result = np.empty((height, len(columns.starts), channels), np.uint8)
    step = max(1, _AT_ONCE // (width * channels))
    for top in range(0, height, step):
        # Faster than numpy transposes.
        strip = np.asarray(cv2.transpose(image[top : top + step]), dtype=np.uint8)
        resized = columns.apply(strip.reshape(width, -1)).reshape(len(columns.starts), -1, channels)
        result[top : top + step] = cv2.transpose(resized)
    return result


class _Filter(NamedTuple):
    """The weights of an axis.

    Attributes:
        starts: First pixel of each result.
        weights: Weights of the pixels from there on, times 2^bits.
        bits: Binary digits of the weights.
    """

    starts: NDArray[np.intp]
    weights: NDArray[np.int64]
    bits: int

    @classmethod
    def of(cls, length: int, count: int, scale: float) -> _Filter:
        """Return the filter from `length` pixels to `count`, `scale` pixels for one."""
        return cls(*_weights(length, count, scale))

    def apply(self, values: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize the first axis of values, shape (N, M), some of the second at a time."""
        single = 255 * int(self.weights.sum(axis=1).max()) < _EXACT
        result = np.empty((len(self.starts), values.shape[1]), np.uint8)
        step = max(1, _AT_ONCE // len(values))
        for left in range(0, values.shape[1], step):
            strip = values[:, left : left + step].astype(np.float32 if single else np.float64)
            for first in range(0, len(self.starts), _BAND):
                part = slice(first, first + _BAND)
                band, begin = _band(self.starts[part], self.weights[part])
                sums = band.astype(strip.dtype) @ strip[begin : begin + band.shape[1]]
                sums *= 2.0**-self.bits
                sums += 0.5
                result[part, left : left + step] = sums.clip(0, 255, out=sums)  # rounds down
        return result


def _band(starts: NDArray[np.intp], weights: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """Return the weights of some results as a matrix, and the pixel of its first column."""
    begin = int(starts.min())
    columns = (starts - begin)[:, None] + np.arange(weights.shape[1])
    band = np.zeros((len(starts), int(columns.max()) + 1), np.int64)
    np.put_along_axis(band, columns, weights, axis=1)
    return band, begin


def _weights(
    length: int, count: int, scale: float
) -> tuple[NDArray[np.intp], NDArray[np.int64], int]:
    """Return the first pixel of each result, the weights from there on, and their binary digits."""
    support = max(scale, 1.0)
    centres = scale * (np.arange(count) + 0.5)
    starts = np.maximum((centres - support + 0.5).astype(np.intp), 0)
    ends = np.minimum((centres + support + 0.5).astype(np.intp), length)
    taps = np.arange(int((ends - starts).max()))
    places = starts[:, None] + taps
    distance = np.abs((places - centres[:, None] + 0.5) * (1.0 / support))
    weights = np.where(places < ends[:, None], np.maximum(1.0 - distance, 0.0), 0.0)
    weights /= weights.sum(axis=1, keepdims=True)
    largest = float(weights.max())
    bits = next(b for b in range(_BITS + 1) if b == _BITS or _too_large(largest, b + 1))
    starts = np.minimum(starts, length - len(taps))  # Weights beyond the end are zero.
    shifted = places - starts[:, None]
    fixed = np.zeros_like(weights, dtype=np.int64)
    inside = shifted < len(taps)
    rows = np.broadcast_to(np.arange(count)[:, None], places.shape)
    fixed[rows[inside], shifted[inside]] = (0.5 + weights[inside] * (1 << bits)).astype(np.int64)
    return starts, fixed, bits


def _too_large(weight: float, bits: int) -> bool:
    return int(0.5 + weight * (1 << bits)) >= _LARGEST_WEIGHT
