r"""Label maps by the cells of the logits' grid: only pixels that lie between classes are computed.

Inside a cell of the grid a bilinear value is a convex combination of the logits at the cell's four
corners. A class that is the best at all four is therefore the best in the whole cell. In the other
cells, the disputed ones, a class drops out that lies below a better one at all four corners; the
few that remain are compared at each pixel.

The value of a class at a pixel is, in float32 and with each product and sum rounded by itself,

.. math:: v = (z_{00} x_0 + z_{01} x_1) \, y_0 + (z_{10} x_0 + z_{11} x_1) \, y_1

with the weights of `torch.nn.functional.interpolate(mode="bilinear", align_corners=False)`:
src = max((dst + 0.5) * (in / out) - 0.5, 0), x_1 = src - floor(src), x_0 = 1 - x_1. All pixels are
labelled as if this was computed for every class and the first of the largest was taken. PyTorch's
own kernels fuse products and sums in an order that depends on processor and layout; their class
may differ where two values are equal but for rounding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Indices = NDArray[np.intp]
Classes = NDArray[np.unsignedinteger[Any]]

LARGEST: Final = 1e37  # sums of larger logits may overflow
# A value is off by less than 4 roundings of 2^-24 of the largest logit, and the sum of the four
# weights by less; a class that leads by this much at all corners leads at all pixels.
_ROUNDING = np.float32(2**-20)
_SMALLEST = np.float32(2**-120)  # products below may be flushed to 0
# What it costs to look at a cell's corners and to find its contenders, in pixels of all classes.
_COST_OF_CORNERS, _COST_OF_CONTENDERS = 2, 40
_CELLS_AT_ONCE = 4096  # 1 KB each, with 40 classes
_PIXELS_AT_ONCE = 2**16  # a float32 buffer of 256 KiB stays in the cache


def label_map(logits: Floats, size: Sequence[int]) -> Classes:
    """Resize the logits of one image bilinearly and take the best class of each pixel.

    Args:
        logits: Finite, at most 1e37 in size, shape (K, h, w), none of them 0.
        size: Height and width of the result, positive.

    Returns:
        The first best class of each pixel, of the smallest unsigned type that holds K - 1, shape
        (*size).
    """
    pixels = size[0] * size[1]
    if logits[0].size * _COST_OF_CORNERS > pixels:
        return all_classes(logits, size)
    rows, columns = axes = _axes(logits, size)
    flat, corners, rounding = logits.reshape(len(logits), -1), _corners(*axes), _rounding(logits)
    classes, disputed = _agreement(flat, corners, rounding)
    if len(disputed) * _COST_OF_CONTENDERS > pixels:
        return all_classes(logits, size)
    canvas = classes.reshape(len(rows.start), -1)[None, :, columns.interval]
    canvas = np.repeat(canvas, rows.length.max(), axis=0)  # (offset in the interval, interval, W)
    for cells in _parts(disputed, _CELLS_AT_ONCE):
        _settle(canvas, cells, flat[:, corners[:, cells]], rounding, axes)
    labels: Classes = canvas[rows.offset, rows.interval]
    return labels


def disputed_share(logits: Floats, size: Sequence[int]) -> float:
    """Return the share of cells with pixels to compute, 0..1; the arguments are `label_map`'s."""
    corners = _corners(*_axes(logits, size))
    flat = logits.reshape(len(logits), -1)
    _, disputed = _agreement(flat, corners, _rounding(logits))
    return len(disputed) / len(corners[0])


def all_classes(logits: Floats, size: Sequence[int]) -> Classes:
    """Compute `label_map` from every class at every pixel."""
    rows, columns = _axes(logits, size)
    labels: Classes = np.empty(tuple(size), dtype=np.min_scalar_type(len(logits) - 1))
    for pixels in _parts(np.arange(size[0]), max(1, _PIXELS_AT_ONCE // size[1])):
        low, high = (end[rows.interval[pixels]] for end in (rows.low, rows.high))
        used = logits[:, low[0] : high[-1] + 1]
        classes = _every_class(used, (low - low[0], high - low[0]), columns)
        labels[pixels] = _best(classes, rows.weights[:, pixels, None])
    return labels


@dataclass(frozen=True)
class _Axis:
    """One axis of the result, in intervals between two neighbours of the grid.

    Pixels before the first logit make an interval of their own, so do those behind the last.

    Attributes:
        sources: Logits on the axis.
        low, high: Logits at the two ends, of each interval.
        start, length: First pixel and number of pixels, of each interval.
        interval, offset: Interval and place in it, of each pixel.
        weights: Of the low and of the high logit, of each pixel, shape (2, pixels).
    """

    sources: int
    low: Indices
    high: Indices
    start: Indices
    length: Indices
    interval: Indices
    offset: Indices
    weights: Floats


def _axes(logits: Floats, size: Sequence[int]) -> tuple[_Axis, _Axis]:
    return _axis(logits.shape[1], size[0]), _axis(logits.shape[2], size[1])


def _axis(sources: int, pixels: int) -> _Axis:
    half = np.float32(0.5)
    scale = np.float32(sources) / np.float32(pixels)
    position = (np.arange(pixels, dtype=np.float32) + half) * scale - half
    floor = np.floor(position).astype(np.intp)
    start = np.flatnonzero(np.diff(floor, prepend=-2))
    length = np.diff(start, append=pixels)
    interval = np.repeat(np.arange(len(start)), length)
    high_weight = np.maximum(position, 0) - np.maximum(floor, 0)
    return _Axis(
        sources=sources,
        low=np.clip(floor[start], 0, sources - 1),
        high=np.clip(floor[start] + 1, 0, sources - 1),
        start=start,
        length=length,
        interval=interval,
        offset=np.arange(pixels) - start[interval],
        weights=np.stack([1 - high_weight, high_weight]).astype(np.float32),
    )


def _rounding(logits: Floats) -> np.float32:
    """Return a bound on how far rounding moves the difference of two values."""
    return np.float32(_ROUNDING * max(logits.max(), -logits.min()) + _SMALLEST)


def _corners(rows: _Axis, columns: _Axis) -> Indices:
    """Return where the corners of each cell lie in the flat grid, shape (4, cells)."""
    ends = [(y, x) for y in (rows.low, rows.high) for x in (columns.low, columns.high)]
    return np.stack([np.add.outer(y * columns.sources, x).ravel() for y, x in ends])


def _agreement(flat: Floats, corners: Indices, rounding: np.float32) -> tuple[Classes, Indices]:
    """Return the best class of the first corner of each cell, and the cells that dispute it."""
    dtype = np.min_scalar_type(len(flat) - 1)
    leaders = flat >= flat.max(axis=0) - rounding
    lead = leaders.sum(axis=0, dtype=dtype) == 1
    # The number of the only leader, as a sum: argmax over the first axis is slow.
    numbers = np.arange(len(flat), dtype=dtype)[:, None]
    best = (leaders * numbers).sum(axis=0, dtype=dtype)
    classes = best[corners[0]]
    agreed = lead[corners[0]]
    for corner in corners[1:]:
        agreed &= (best[corner] == classes) & lead[corner]
    return classes, np.flatnonzero(~agreed)


def _contenders(values: Floats, rounding: np.float32) -> NDArray[np.bool_]:
    """Find the classes that may be the best somewhere in a cell.

    Each operation of the formula keeps the order of two numbers, or makes them equal: a class that
    reaches another at all corners reaches it at all pixels. A draw goes to the first class, so
    one before it has to be led by more than rounding can take away. The best classes of two
    opposite corners are held against all others; those of the other two would beat few more.

    Args:
        values: Logits at the corners, shape (K, 4, cells).
        rounding: Bound on the rounding of a difference of two values.

    Returns:
        True for the contenders, shape (K, cells).
    """
    order, cells = np.arange(len(values))[:, None], np.arange(values.shape[2])
    beaten = np.zeros((len(values), len(cells)), dtype=bool)
    for corner in (0, 3):
        best = values[:, corner].argmax(axis=0)
        leader = values[best, :, cells].T  # (4, cells)
        gap = values[:, 0] - leader[0]
        for i in (1, 2, 3):
            np.maximum(gap, values[:, i] - leader[i], out=gap)
        beaten |= (gap <= -rounding) | ((gap <= 0) & (order > best))
    return ~beaten


def _settle(
    canvas: Classes,
    cells: Indices,
    values: Floats,
    rounding: np.float32,
    axes: tuple[_Axis, _Axis],
) -> None:
    """Compute the pixels of disputed cells, those with equally many contenders together.

    Args:
        canvas: What is painted, shape (offset, interval of rows, W).
        cells: Which cells.
        values: Logits at their corners, shape (K, 4, cells).
        rounding: As `_contenders`.
        axes: Rows and columns.
    """
    rows, columns = axes
    weights = np.zeros((2, *canvas.shape[:2]), dtype=np.float32)
    weights[:, rows.offset, rows.interval] = rows.weights
    paper = canvas.reshape(len(canvas), -1)
    at_once = max(1, _PIXELS_AT_ONCE // int(rows.length.max() * columns.length.max()))
    contenders = _contenders(values, rounding)
    count = contenders.sum(axis=0)
    for number in np.unique(count):
        for part in _parts(np.flatnonzero(count == number), at_once):
            classes = np.nonzero(contenders[:, part].T)[1].reshape(-1, number).T
            cell, interval, column = _pixel_columns(cells[part], columns)
            left, right = columns.weights[:, column]
            logits = values[classes, :, part].transpose(0, 2, 1)[..., cell]  # (classes, 4, columns)
            top, bottom = (logits[:, i] * left + logits[:, i + 1] * right for i in (0, 2))
            named = classes[:, cell].astype(canvas.dtype)
            painted = _best(zip(named, top, bottom, strict=True), weights[:, :, interval])
            paper[:, interval * canvas.shape[2] + column] = painted


def _pixel_columns(cells: Indices, columns: _Axis) -> tuple[Indices, Indices, Indices]:
    """List the columns of pixels in cells: number of the cell, interval of rows, and column."""
    interval, place = np.divmod(cells, len(columns.start))
    length = columns.length[place]
    cell = np.repeat(np.arange(len(cells)), length)
    column = np.arange(len(cell)) + (columns.start[place] - np.cumsum(length) + length)[cell]
    return cell, interval[cell], column


def _every_class(
    logits: Floats, ends: tuple[Indices, Indices], columns: _Axis
) -> Iterator[tuple[Classes, Floats, Floats]]:
    """Yield each class with its values at the two ends of each pixel's row."""
    left, right = columns.low[columns.interval], columns.high[columns.interval]
    for number, grid in enumerate(logits):
        lines = grid.take(left, axis=1) * columns.weights[0]
        lines += grid.take(right, axis=1) * columns.weights[1]
        top, bottom = (lines.take(end, axis=0) for end in ends)
        yield np.array(number, dtype=np.min_scalar_type(len(logits) - 1)), top, bottom


def _best(contenders: Iterable[tuple[Classes, Floats, Floats]], weights: Floats) -> Classes:
    """Return the first best class at each pixel.

    Args:
        contenders: Classes in ascending order, with the values at the two ends of each column of
            pixels; shapes (columns) or (rows, columns).
        weights: Of the two ends, shape (2, rows, columns) or (2, rows, 1).
    """
    contenders = iter(contenders)
    labels, top, bottom = next(contenders)
    best = top * weights[0] + bottom * weights[1]
    labels = np.broadcast_to(labels, best.shape)
    for name, top, bottom in contenders:
        value = top * weights[0] + bottom * weights[1]
        labels = np.where(value > best, name, labels)
        np.maximum(best, value, out=best)
    return labels


def _parts(indices: Indices, size: int) -> Iterator[Indices]:
    for start in range(0, len(indices), size):
        yield indices[start : start + size]
