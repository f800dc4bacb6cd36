"""Tables of private tensors in an ONNX model: a row for each set, and nodes from a row to tensors.

All BatchNorms share one table, so that one product mixes the sets of all layers; so do all norms
without statistics. Which row, or which mixture of rows, is decided in `select`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsseg.runtime.onnx.nodes import node

Floats = NDArray[np.float32]
Constants = dict[str, NDArray[Any]]
_MAP_AXES: Final = 4  # axes of what most BatchNorms read: (B, C, H, W)
_ALL: Final = "sets"
_AFFINE: Final = "sets of norms"


class Table(NamedTuple):
    """Values of all sets, and the nodes from one row to what the layers read.

    Attributes:
        name: Of the table; nodes read a row under the name `row_of(name)`.
        values: Shape (S, n).
        nodes: From the row to what the layers read.
        constants: That the nodes read, by name.
        shapes: Names that the layers read, with the shape of each.
        mixed: Whether rows are mixed between two resolutions, or the nearer one's is taken.
    """

    name: str
    values: Floats
    nodes: list[Any]
    constants: Constants
    shapes: dict[str, tuple[int, ...]]
    mixed: bool


def row_of(table: str) -> str:
    """Return the name of the row that is used of a table."""
    return f"row of {table}"


@dataclass(frozen=True)
class PrivateBatchNorm:
    """A BatchNorm with private sets, which becomes a product and a sum.

    Args:
        sets: Gamma, beta, mean and variance + eps, shape (S, C) each.
        axes: Number of axes of what it reads.
        number: Its place among those of the model.
    """

    sets: tuple[Floats, Floats, Floats, Floats]
    axes: int
    number: int

    @property
    def scale(self) -> str:
        """Name of what is multiplied with."""
        return f"scale/{self.number}"

    @property
    def shift(self) -> str:
        """Name of what is added."""
        return f"shift/{self.number}"

    @property
    def channels(self) -> int:
        """Number of channels C."""
        return int(self.sets[0].shape[1])

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of scale and shift that broadcasts over the input: (C, 1, 1) for maps."""
        return (self.channels, *[1] * (self.axes - 2))

    def nodes(self, read: str, written: str) -> list[Any]:
        """Return the product and the sum that replace the BatchNorm between two values."""
        product = f"{written}/product"
        return [
            node("Mul", [read, self.scale], [product]),
            node("Add", [product, self.shift], [written]),
        ]


def batchnorm_table(layers: list[PrivateBatchNorm]) -> Table:
    """Return the table of all layers: gammas, betas, means, variances, a row for each set."""
    values = np.concatenate([layer.sets[part] for part in range(4) for layer in layers], axis=1)
    gamma, beta, mean, variance = (f"{_ALL}/{name}" for name in ("gamma", "beta", "mean", "var"))
    constants: Constants = {
        f"{_ALL}/quarters": np.full(4, values.shape[1] // 4, np.int64),
        f"{_ALL}/channels": np.array([layer.channels for layer in layers], np.int64),
        f"{_ALL}/maps": np.array([-1, 1, 1], np.int64),
    }
    nodes = [
        node("Split", [row_of(_ALL), f"{_ALL}/quarters"], [gamma, beta, mean, variance], axis=0),
        node("Sqrt", [variance], [f"{_ALL}/deviation"]),
        node("Div", [gamma, f"{_ALL}/deviation"], [f"{_ALL}/scale"]),
        node("Mul", [mean, f"{_ALL}/scale"], [f"{_ALL}/moved"]),
        node("Sub", [beta, f"{_ALL}/moved"], [f"{_ALL}/shift"]),
    ]
    shapes: dict[str, tuple[int, ...]] = {}
    for part in ("scale", "shift"):
        names = {getattr(layer, part): layer for layer in layers}
        shapes |= {name: layer.shape for name, layer in names.items()}
        pieces = [_piece(name, layer) for name, layer in names.items()]
        nodes += [
            node("Reshape", [f"{_ALL}/{part}", f"{_ALL}/maps"], [f"{_ALL}/{part}s"]),
            node("Split", [f"{_ALL}/{part}s", f"{_ALL}/channels"], pieces, axis=0),
        ]
        for (name, layer), piece in zip(names.items(), pieces, strict=True):
            if piece != name:
                constants[f"{name}/shape"] = np.array(layer.shape, np.int64)
                nodes.append(node("Reshape", [piece, f"{name}/shape"], [name]))
    return Table(_ALL, values, nodes, constants, shapes, mixed=True)


def _piece(name: str, layer: PrivateBatchNorm) -> str:
    """Return the name of a layer's part of all scales or shifts, in the shape for maps."""
    return name if layer.axes == _MAP_AXES else f"{name}/map"


def affine_table(tensors: Mapping[str, Floats]) -> Table:
    """Return the table of the gammas and betas of LayerNorms and the like, shape (S, ...) each."""
    values = np.concatenate([v.reshape(len(v), -1) for v in tensors.values()], axis=1)
    shapes = {name: each.shape[1:] for name, each in tensors.items()}
    sizes = f"{_AFFINE}/sizes"
    constants: Constants = {sizes: np.array([math.prod(s) for s in shapes.values()], np.int64)}
    pieces = {name: name if len(shapes[name]) == 1 else f"{name}/flat" for name in shapes}
    nodes = [node("Split", [row_of(_AFFINE), sizes], list(pieces.values()), axis=0)]
    for name, piece in pieces.items():
        if piece != name:
            constants[f"{name}/shape"] = np.array(shapes[name], np.int64)
            nodes.append(node("Reshape", [piece, f"{name}/shape"], [name]))
    return Table(_AFFINE, values, nodes, constants, shapes, mixed=True)


def tensor_table(name: str, values: Floats) -> Table:
    """Return the table of another private tensor, shape (S, ...), such as a quantiser's levels."""
    table, shape = f"{_ALL} of {name}", values.shape[1:]
    nodes = [node("Reshape", [row_of(table), f"{table}/shape"], [name])]
    constants: Constants = {f"{table}/shape": np.array(shape, np.int64)}
    flat = values.reshape(len(values), -1)
    return Table(table, flat, nodes, constants, {name: shape}, mixed=False)
