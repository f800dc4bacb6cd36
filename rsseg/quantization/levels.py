"""Levels of a learned quantiser: which there are, which each value takes, and the best basis.

Functions over tensors only. A basis v of K numbers has 2^K levels, the sums of its entries with
the factors of a code: -1 or +1 (signed), 0 or 1 (unsigned). What takes part in a least squares fit
of the basis is, for each level, how many values took it and their sum: no table of N times K bits
is ever made, and values are read in pieces that stay in the processor's cache.

Rows are quantised independently, each with a basis of its own: the output channels of a weight, or
the one row of an activation.

Source: Zhang, Yang, Ye, Hua, "LQ-Nets: Learned Quantization for Highly Accurate and Compact Deep
Neural Networks", ECCV 2018, https://arxiv.org/abs/1807.10029, Section 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

# Values that are compared at once; on a CPU so many for each thread, which with their masks stay in
# its core's own cache.
_PIECE: Final = {"cpu": 1 << 17}
_PIECE_OF_A_DEVICE: Final = 1 << 22
_FEW: Final = 1 << 10
RIDGE: Final = 1e-4


class Levels(NamedTuple):
    """The levels of R bases of K numbers, L = 2^K.

    Attributes:
        values: From small to large, shape (R, L).
        codes: Factors of the basis entries in each level, shape (R, L, K).
        thresholds: Midpoints of neighbouring levels, shape (R, L - 1).
    """

    values: Tensor
    codes: Tensor
    thresholds: Tensor


class Buckets(NamedTuple):
    """What the fit of a basis needs to know of the values; those of several tensors add up.

    Attributes:
        counts: How many values took each level, float64, shape (R, L).
        sums: Their sums, float64, shape (R, L).
    """

    counts: Tensor
    sums: Tensor


def code_table(bits: int, *, signed: bool) -> Tensor:
    """Return all codes of K bits, shape (2^K, K).

    Example:
        >>> code_table(2, signed=False).tolist()
        [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
    """
    numbers = torch.arange(2**bits)[:, None]
    digits = (numbers >> torch.arange(bits)) & 1
    return (2 * digits - 1 if signed else digits).float()


def levels_of(basis: Tensor, *, signed: bool) -> Levels:
    """Return the levels of bases of shape (R, K), each row sorted.

    The entries of a basis may have any order and sign.

    Example:
        >>> levels_of(torch.tensor([[1.0, 2.0]]), signed=True).values.tolist()
        [[-3.0, -1.0, 1.0, 3.0]]
    """
    table = code_table(basis.shape[1], signed=signed).to(basis)
    # One entry after the other, so that every machine rounds alike: a packed file holds no levels.
    sums = torch.zeros_like(basis[:, :1]).expand(-1, len(table))
    for k in range(basis.shape[1]):
        sums = sums + basis[:, k, None] * table[:, k]
    values, order = sums.sort(dim=1, stable=True)
    return Levels(values, table[order], (values[:, 1:] + values[:, :-1]) / 2)


def nearest_levels(
    values: Tensor, levels: Levels, *, count: bool = False, out: Tensor | None = None
) -> tuple[Tensor, Buckets | None]:
    """Replace each value by the nearest level; half way between two by the smaller one.

    A value that is not finite becomes NaN, so that it is not hidden.

    Args:
        values: Shape (R, N), rows in the order of the levels'.
        levels: Levels of R bases.
        count: Return the buckets as well.
        out: Where the levels are written, shape (R, N); default is a new tensor.

    Returns:
        The levels, in the dtype and shape of `values`, and the buckets or None.
    """
    nearest = torch.empty_like(values) if out is None else out
    rows, number = levels.values.shape
    dtype = torch.promote_types(values.dtype, torch.float32)
    steps, thresholds = levels.values.to(dtype), levels.thresholds.to(dtype)
    # How many values lie above each threshold, and their sum; below all of them, all values are.
    above = values.new_zeros((2, rows, number), dtype=torch.float64) if count else None
    for piece, place in _pieces(values, nearest):
        piece = piece.to(dtype)  # noqa: PLW2901
        taken = (piece * 0).add_(steps[:, :1])
        mask, product = torch.empty_like(piece), torch.empty_like(piece)
        if above is not None:
            above[0, :, 0] += piece.shape[1]
            above[1, :, 0] += _sum(piece)
        for i in range(number - 1):
            torch.gt(piece, thresholds[:, i, None], out=mask)
            torch.lerp(taken, steps[:, i + 1, None], mask, out=taken)
            if above is not None:
                above[0, :, i + 1] += mask.sum(dim=1)
                above[1, :, i + 1] += _sum(torch.mul(piece, mask, out=product))
        place.copy_(taken)
    return nearest, None if above is None else _between(above)


def _pieces(values: Tensor, nearest: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    if isinstance(values, FakeTensor):  # Shapes alone are followed, and each operation takes time.
        yield values, nearest
        return
    threads = torch.get_num_threads() if values.device.type == "cpu" else 1
    size = threads * _PIECE.get(values.device.type, _PIECE_OF_A_DEVICE)
    columns = max(1, size // max(1, values.shape[0]))
    yield from zip(
        torch.split(values, columns, dim=1), torch.split(nearest, columns, dim=1), strict=True
    )


def _sum(values: Tensor) -> Tensor:
    """Return the sums of rows: of few in their own precision, which is fast, of these in double.

    What lies in a bucket is the difference of two sums, which may be far larger than it.
    """
    whole = values.shape[1] // _FEW * _FEW
    parts = values[:, :whole].reshape(len(values), -1, _FEW).sum(dim=2)
    rest = values[:, whole:].sum(dim=1, dtype=torch.float64)
    return parts.sum(dim=1, dtype=torch.float64) + rest


def _between(above: Tensor) -> Buckets:
    """Return what lies in each bucket, from what lies above each threshold."""
    above[:, :, :-1] -= above[:, :, 1:].clone()
    return Buckets(above[0], above[1])


def fit_basis(buckets: Buckets, codes: Tensor, basis: Tensor, *, ridge: float = RIDGE) -> Tensor:
    r"""Fit bases to what took their levels, by least squares.

    .. math:: \hat v = \Big(\sum_i n_i c_i c_i^T + \epsilon I\Big)^{-1}
              \Big(\sum_i S_i c_i + \epsilon v\Big)

    The small epsilon keeps an entry that no value says anything about where it is.

    Args:
        buckets: Counts n and sums S of each level.
        codes: Codes c of the levels, shape (R, L, K).
        basis: Present bases v, shape (R, K).
        ridge: Epsilon.

    Returns:
        The fitted bases, shape (R, K), dtype of `basis`.
    """
    codes = codes.double()
    unit = torch.eye(codes.shape[2], dtype=torch.float64, device=codes.device)
    gram = torch.einsum("rl,rli,rlj->rij", buckets.counts, codes, codes) + ridge * unit
    right = torch.einsum("rl,rli->ri", buckets.sums, codes) + ridge * basis.double()
    fitted: Tensor = torch.linalg.solve(gram, right)
    return fitted.to(basis.dtype)
