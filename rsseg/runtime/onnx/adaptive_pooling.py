"""Pooling to a given number of cells (PSPNet, UPerNet), as products that fit maps of any size.

Which rows of a map lie in which cell depends on its size. The exporter of PyTorch writes the rows
of the size that it has traced, which are others, or none, for images of another size. Here each
cell is a row of a matrix with the shares of the map's rows, computed from the size in the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def as_products(network: nn.Module) -> Iterator[None]:
    """Let the adaptive average pooling of a network compute by products, but that to one cell."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.AdaptiveAvgPool2d)]
    layers = [layer for layer in layers if any(count not in (None, 1) for count in _cells(layer))]
    try:
        for layer in layers:
            layer.forward = _forward_of(layer)  # type: ignore[method-assign,assignment]
        yield
    finally:
        for layer in layers:
            del layer.forward


def _cells(layer: nn.AdaptiveAvgPool2d) -> tuple[int | None, int | None]:
    """Return the number of cells in height and width, None for as many as the map has rows."""
    size = layer.output_size
    height, width = size if isinstance(size, tuple | list) else (size, size)
    return height, width


def _forward_of(layer: nn.AdaptiveAvgPool2d) -> Callable[[Tensor], Tensor]:
    height, width = _cells(layer)

    def forward(x: Tensor) -> Tensor:
        if height is not None:
            x = shares(height, x.shape[-2], x) @ x
        return x if width is None else x @ shares(width, x.shape[-1], x).transpose(0, 1)

    return forward


def shares(cells: int, size: int, like: Tensor) -> Tensor:
    """Return the share of each of `size` rows in each cell, shape (cells, size).

    Cells overlap where they do not divide the size, as in PyTorch's pooling.

    Example:
        >>> shares(2, 3, torch.zeros(1))
        tensor([[0.5000, 0.5000, 0.0000],
                [0.0000, 0.5000, 0.5000]])
    """
    cell = torch.arange(cells, device=like.device)[:, None]
    row = torch.arange(size, device=like.device)[None]
    first, end = cell * size // cells, ((cell + 1) * size + cells - 1) // cells
    inside = (row >= first) & (row < end)
    return inside.to(like.dtype) / (end - first).to(like.dtype)
