"""Bilinear resizing of maps to a few rows at a time, and its gradient, as matrix products.

The weights are those of `torch.nn.functional.interpolate` without `align_corners` and without
antialiasing.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Columns of one product. A CPU is fastest with products narrow enough to leave out most of the
# zeros among the interpolation weights, other devices with few and large kernels.
_CPU_COLUMNS, _OTHER_COLUMNS = 88, 1 << 24


def slices(length: int, step: int) -> list[slice]:
    """Return slices of `step` that cover 0..length; the last may be shorter."""
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]


class BandResize:
    """Bilinear resize of maps (h, B, K, w) to bands of label rows, as two matrix products."""

    def __init__(self, size: torch.Size, target_size: torch.Size, like: Tensor) -> None:
        self.rows = _weights_of_axis(size[0], target_size[0], like)
        self.columns = _weights_of_axis(size[1], target_size[1], like)
        step = _CPU_COLUMNS if like.device.type == "cpu" else _OTHER_COLUMNS
        self.blocks = [(b, _sources(b, self.columns)) for b in slices(target_size[1], step)]

    def forward(self, maps: Tensor, rows: slice, out: Tensor) -> None:
        """Write the resized rows, values in the order (rows, B, K, W), to `out`."""
        source = _sources(rows, self.rows)
        narrow = (self.rows[rows, source] @ maps[source].flatten(1)).view(-1, maps.shape[3])
        wide = out.view(-1, len(self.columns))
        for block, columns in self.blocks:
            torch.mm(narrow[:, columns], self.columns[block, columns].t(), out=wide[:, block])

    def backward(self, gradient: Tensor, rows: slice, total: Tensor) -> None:
        """Add what the gradient of resized rows passes back to `total`, shape (h, B, K, w)."""
        source = _sources(rows, self.rows)
        wide = gradient.view(-1, len(self.columns))
        narrow = wide.new_zeros(len(wide), total.shape[3])
        for block, columns in self.blocks:
            narrow[:, columns].addmm_(wide[:, block], self.columns[block, columns])
        weights = self.rows[rows, source].t()
        total[source].view(len(weights), -1).addmm_(weights, narrow.view(weights.shape[1], -1))


def _weights_of_axis(size: int, target_size: int, like: Tensor) -> Tensor:
    """Return the matrix (target_size, size) that interpolates one axis just as PyTorch does."""
    unit = torch.eye(size, dtype=like.dtype, device=like.device)
    return F.interpolate(unit[None], size=target_size, mode="linear")[0].t().contiguous()


def _sources(outputs: slice, weights: Tensor) -> slice:
    """Return the inputs that these outputs read, with a margin of one against rounding."""
    target_size, size = weights.shape
    first = int((outputs.start + 0.5) * size / target_size - 0.5)
    last = int((outputs.stop - 0.5) * size / target_size - 0.5)
    return slice(max(0, first - 1), min(size, last + 3))
