"""The Triton kernel of the MRED loss over label maps; `pixelwise_triton` launches it.

A program computes the losses of one small tile of the label map, and what their gradients pass
back to the cells of every resolution's logits around it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

try:
    import triton
    import triton.language as tl
except ImportError:  # Builds of PyTorch for the CPU come without it.
    triton = None

__all__ = ["tile_losses", "triton"]


def _jit(function: Callable[..., Any]) -> Any:
    return function if triton is None else triton.jit(function)


# A tile is (first and last row, first and last column, rows and columns of its P pixels, height
# and width of the label map); a block is (rows, columns, cells added up at once, K padded, K).


@_jit
def _neighbours(pixel: tl.tensor, size: tl.tensor, labels: tl.tensor) -> tl.tuple:
    """Return the two of `size` cells that pixels of `labels` lie between, and their weights."""
    # Where a pixel's centre lies among the cells' centres, times 2 * labels: a whole number.
    position = tl.maximum((2 * pixel + 1) * size - labels, 0)
    position = tl.minimum(position, 2 * labels * (size - 1))
    low = position // (2 * labels)
    share = (position - low * 2 * labels) / (2.0 * labels)
    return low, tl.minimum(low + 1, size - 1), 1 - share, share


@_jit
def _sample(cells: tl.tensor, tile: tl.tuple, size: tl.tuple, block: tl.constexpr) -> tl.tensor:
    """Resize one resolution's logits to the pixels of a tile, shape (P, K padded)."""
    column = tl.arange(0, block[3])[None, :]
    y = _neighbours(tile[4], size[0], tile[6])
    x = _neighbours(tile[5], size[1], tile[7])
    z = tl.zeros((block[0] * block[1], block[3]), tl.float32)
    for i in tl.static_range(2):
        for j in tl.static_range(2):
            cell = cells + ((y[i] * size[1] + x[j]) * block[4])[:, None]
            values = tl.load(cell + column, mask=column < block[4], other=0)
            z += (y[2 + i] * x[2 + j])[:, None] * values.to(tl.float32)
    return z


@_jit
def _weights(cell: tl.tensor, pixel: tl.tensor, size: tl.tensor, labels: tl.tensor) -> tl.tensor:
    """Return the weights of cells in pixels along one axis, shape (cells, pixels)."""
    low, high, rest, share = _neighbours(pixel[None, :], size, labels)
    cell = cell[:, None]
    return tl.where(cell == low, rest, 0.0) + tl.where(cell == high, share, 0.0)


@_jit
def _scatter(
    cells: tl.tensor, gradient: tl.tensor, tile: tl.tuple, size: tl.tuple, block: tl.constexpr
) -> None:
    """Add what the gradient of a tile's pixels, (P, K padded), passes back to the cells."""
    column = tl.arange(0, block[3])[None, :]
    top = _neighbours(tile[0], size[0], tile[6])[0]
    left = _neighbours(tile[2], size[1], tile[7])[0]
    down = _neighbours(tile[1], size[0], tile[6])[1] - top + 1
    across = _neighbours(tile[3], size[1], tile[7])[1] - left + 1
    for start in range(0, down * across, block[2]):
        index = start + tl.arange(0, block[2])
        y, x = top + index // across, left + index % across
        weights = _weights(y, tile[4], size[0], tile[6]) * _weights(x, tile[5], size[1], tile[7])
        # TF32, the default, would keep three digits only.
        sums = tl.dot(weights, gradient, input_precision="ieee")
        cell = cells + ((y * size[1] + x) * block[4])[:, None]
        mask = (index < down * across)[:, None] & (column < block[4])
        tl.atomic_add(cell + column, sums, mask=mask, sem="relaxed")


@_jit
def _log_softmax(z: tl.tensor, valid: tl.tensor, block: tl.constexpr) -> tl.tuple:
    """Return log-probabilities, and probabilities that are 0 in the padding and at void pixels."""
    known = tl.arange(0, block[3])[None, :] < block[4]
    z -= tl.max(tl.where(known, z, float("-inf")), axis=1)[:, None]
    p = tl.where(known, tl.exp(z), 0.0)
    total = tl.sum(p, axis=1)[:, None]
    return z - tl.log(total), p * (valid / total)


@_jit
def _predict(z: tl.tuple, alpha: tl.tensor, valid: tl.tensor, block: tl.constexpr) -> tl.tuple:
    """Return log-probabilities and probabilities: of the ensemble, then of each resolution."""
    log_p: tl.tuple = ()
    p: tl.tuple = ()
    mean = tl.zeros_like(z[0])
    for s in tl.static_range(len(z)):
        single = _log_softmax(z[s], valid, block)
        log_p += (single[0],)
        p += (single[1],)
        if alpha is not None:
            mean += tl.load(alpha + s) * single[0]  # Differs from z by a constant for each pixel.
    ensemble = _log_softmax(mean, valid, block)
    return (ensemble[0],) + log_p, (ensemble[1],) + p  # noqa: RUF005  # Triton knows no star.


@_jit
def _tile(label_map: tl.tuple, block: tl.constexpr) -> tl.tuple:
    """Return this program's image and tile, and label and validity of the pixels, (P, 1)."""
    labels, height, width, ignore_index = label_map
    across, down = tl.cdiv(width, block[1]), tl.cdiv(height, block[0])
    program = tl.program_id(0)
    top, left = program // across % down * block[0], program % across * block[1]
    bottom = tl.minimum(top + block[0], height) - 1
    right = tl.minimum(left + block[1], width) - 1
    pixel = tl.arange(0, block[0] * block[1])
    y, x = top + pixel // block[1], left + pixel % block[1]
    image = (program // (across * down)).to(tl.int64)
    inside = (y <= bottom) & (x <= right)
    label = tl.load(labels + (image * height + y) * width + x, mask=inside, other=0).to(tl.int64)
    valid = (inside & (label != ignore_index)).to(tl.float32)
    return image, (top, bottom, left, right, y, x, height, width), label[:, None], valid[:, None]


@_jit
def tile_losses(  # noqa: PLR0917  # A kernel takes its arguments by position.
    maps: tl.tuple,
    label_map: tl.tuple,
    alpha: tl.tensor,
    factors: tl.tuple,
    scale: tl.tensor,
    sums: tl.tensor,
    terms: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """Write a tile's sums: classification, ensemble, distillation, and slopes of the ensemble's.

    Maps are S times (logits, their gradient or None, h, w), in memory as (B, h, w, K).
    """
    image, tile, label, valid = _tile(label_map, block)
    z: tl.tuple = ()
    for s in tl.static_range(len(maps)):
        cells, _, h, w = maps[s]
        z += (_sample(cells + image * h * w * block[4], tile, (h, w), block),)
    log_p, p = _predict(z, alpha, valid, block)
    truth = tl.where(tl.arange(0, block[3])[None, :] == label, valid, 0.0)
    sums += tl.program_id(0) * (3 + len(maps))
    if alpha is not None:
        tl.store(sums + 1, -tl.sum(log_p[0] * truth))
        for s in tl.static_range(len(maps)):
            tl.store(sums + 3 + s, tl.sum(log_p[s + 1] * (p[0] - truth)))
    likelihood, divergence = tl.zeros_like(truth), tl.zeros_like(truth)
    for s in tl.static_range(1, len(maps) + 1):
        likelihood += log_p[s] * truth
        share, mixture = 1.0, truth
        for i in tl.static_range(len(terms)):
            if terms[i][1] == s:
                part = factors[i] * p[terms[i][0]]
                divergence += part * (log_p[terms[i][0]] - log_p[s])
                share, mixture = share + factors[i], mixture + part
        _, cells, h, w = maps[s - 1]
        if cells is not None:
            gradient = (share * p[s] - mixture) * tl.load(scale)
            _scatter(cells + image * h * w * block[4], gradient, tile, (h, w), block)
    tl.store(sums, -tl.sum(likelihood))
    tl.store(sums + 2, tl.sum(divergence))
