"""Nodes that choose: a chain of `If` with one branch for each set and one that mixes them.

What is chosen between is told in `onnx_selecting`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsseg.runtime.onnx.mixing import Mixing
from rsseg.runtime.onnx.nodes import Types, node, renamed, subgraph
from rsseg.runtime.onnx.tables import Constants, Table, row_of

_FLOAT: Final = 1  # onnx.TensorProto.FLOAT
_WEIGHTED: Final = ("Conv", "ConvTranspose")
_ROW, _KIND, _SHARES = "choice/row", "choice/kind", "choice/shares"
Held = Mapping[str, NDArray[Any]]
Built = tuple[list[Any], Constants]


class Body(NamedTuple):
    """What lies in each branch.

    Attributes:
        nodes: Of the network; some read private tensors.
        tables: Of these tensors.
        read: Names that are read behind the body.
        types: Element type and number of axes of the values, where known.
    """

    nodes: Sequence[Any]
    tables: Sequence[Table]
    read: set[str]
    types: Types

    def infos(self, names: Mapping[str, str]) -> dict[str, tuple[int, int | None]]:
        """Give the types of values under their new names; `names` leads from old to new ones."""
        return {new: self.types.get(old, (_FLOAT, None)) for old, new in names.items()}

    @property
    def making(self) -> list[Any]:
        """Nodes from rows of the tables to private tensors."""
        return [each for table in self.tables for each in table.nodes]

    @property
    def given(self) -> list[str]:
        """What the body gives to the nodes behind it."""
        return [name for each in self.nodes for name in each.output if name in self.read]


def inline(body: Body, rule: Mixing, held: Held) -> Built:
    """Mix the sets for every image, without branches; see `branched`."""
    nodes, constants = _side(rule)
    return [*nodes, *_mixed_rows(body.tables), *body.making, *body.nodes], constants


def branched(body: Body, rule: Mixing, held: Held) -> Built:
    """Put the body into a branch for each set, and one for mixtures.

    Args:
        body: What each branch does.
        rule: Which of them serves which side.
        held: Constants of the graph around.

    Returns:
        The nodes that take the place of the body, and the constants that they need.
    """
    nodes, constants = _side(rule)
    constants["choice/kinds"] = rule.kinds
    nodes.append(node("Gather", ["choice/kinds", _ROW], [_KIND]))
    inner, shapes = _own_weights(body.nodes, held)
    constants |= shapes
    mixed = rule.shares.shape[1]
    branches = []
    # From the smallest resolution on, whose images have the least time for tests; mixtures last.
    for kind in sorted(set(rule.kinds.tolist()), key=lambda kind: (kind == mixed, -kind)):
        constants[_number(kind)] = np.array(kind, np.int64)
        rows = _mixed_rows(body.tables) if kind == mixed else _rows(body.tables, kind)
        branches.append(_Branch(kind, [*rows, *body.making, *inner]))
    chosen = _tested(body, branches, {name: name for name in body.given})
    return [*nodes, *chosen], constants


def _side(rule: Mixing) -> Built:
    """Find which row of the rule is that of the images' shorter side."""
    constants: Constants = {
        "choice/last": np.array(len(rule.shares) - 1, np.int64),
        _SHARES: rule.shares,
    }
    nodes = [
        node("Shape", ["images"], ["choice/sides"], start=2, end=4),
        node("ReduceMin", ["choice/sides"], ["choice/side"], keepdims=0),
        node("Min", ["choice/side", "choice/last"], [_ROW]),
    ]
    return nodes, constants


def _number(kind: int) -> str:
    return f"choice/{kind}"


def _rows(tables: Sequence[Table], kind: int) -> list[Any]:
    return [node("Gather", [t.name, _number(kind)], [row_of(t.name)]) for t in tables]


def _mixed_rows(tables: Sequence[Table]) -> list[Any]:
    """Make rows for a side between two sets: mixed by their shares, or taken from the nearer."""
    nodes = [node("Gather", [_SHARES, _ROW], ["shares"])]
    if not all(table.mixed for table in tables):
        # The first of two equal ones, which is that of the larger resolution.
        nodes.append(node("ArgMax", ["shares"], ["nearer"], axis=0, keepdims=0))
    for table in tables:
        if table.mixed:
            nodes.append(node("MatMul", ["shares", table.name], [row_of(table.name)]))
        else:
            nodes.append(node("Gather", [table.name, "nearer"], [row_of(table.name)]))
    return nodes


def _own_weights(nodes: Sequence[Any], held: Held) -> Built:
    """Let convolutions read their weights through a node that changes nothing.

    ONNX Runtime arranges weights for its fastest kernels only where they lie in the graph of the
    convolution, not around it; this node it evaluates beforehand, and there they lie.
    """
    copies: dict[str, Any] = {}
    shapes: Constants = {}
    changed = []
    for each in nodes:
        weight = each.input[1] if each.op_type in _WEIGHTED else ""
        if weight not in held:
            changed.append(each)
            continue
        shape = "shape/" + "x".join(map(str, held[weight].shape))
        shapes[shape] = np.array(held[weight].shape, np.int64)
        copies[weight] = node("Reshape", [weight, shape], [f"{weight}/own"])
        changed.append(renamed(each, {weight: f"{weight}/own"}))
    return [*copies.values(), *changed], shapes


class _Branch(NamedTuple):
    """One branch, with values under their names in the body."""

    kind: int
    nodes: Sequence[Any]


def _tested(body: Body, branches: Sequence[_Branch], names: Mapping[str, str]) -> list[Any]:
    """Take the first branch if it is the one, else choose from the others.

    Args:
        body: What lies in the branches.
        branches: Two or more.
        names: What to call what the body gives.
    """
    kind = branches[0].kind
    test = f"choice/is {kind}"
    then, other = _graph(body, branches[:1]), _graph(body, branches[1:])
    return [
        node("Equal", [_KIND, _number(kind)], [test]),
        node("If", [test], list(names.values()), then_branch=then, else_branch=other),
    ]


def _graph(body: Body, branches: Sequence[_Branch]) -> Any:
    """Make the graph of one branch or of a choice, with names that no other graph has."""
    first = branches[0]
    if len(branches) > 1:
        label = f"from {first.kind}"
        names = {name: f"{name}/{label}" for name in body.given}
        return subgraph(label, _tested(body, branches, names), body.infos(names))
    made = [name for each in first.nodes for name in each.output if name]
    names = {name: f"{name}/{first.kind}" for name in made}
    given = {name: names[name] for name in body.given}
    return subgraph(f"{first.kind}", [renamed(n, names) for n in first.nodes], body.infos(given))
