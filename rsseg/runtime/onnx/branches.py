"""Branches of an ONNX graph, of which the shorter side of the images chooses one.

What lies in them is decided in `select` and `int8`.

Source: https://onnx.ai/onnx/operators/onnx__If.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from rsseg.runtime.onnx.executor import INPUT
from rsseg.runtime.onnx.mixing import Mixing
from rsseg.runtime.onnx.nodes import node, renamed, subgraph
from rsseg.runtime.onnx.tables import Constants

ROW: Final = "choice/row"  # of the rule, which is the side up to the largest one
_KIND: Final = "choice/kind"
Built = tuple[list[Any], Constants]
Outputs = Mapping[str, tuple[int, int | None]]  # element type and number of axes, by name


class Branch(NamedTuple):
    """One branch.

    Attributes:
        kind: Of the rule: index of the set that it is for, or S.
        nodes: They write the outputs, under their names in the graph around.
        constants: Of this branch alone, by name.
    """

    kind: int
    nodes: Sequence[Any]
    constants: Constants


def number(kind: int) -> str:
    """Return the name of the constant that is the number of a branch."""
    return f"choice/{kind}"


def row_nodes(rule: Mixing) -> Built:
    """Return nodes that compute the row of the rule for the images' shorter side."""
    nodes = [
        node("Shape", [INPUT], ["choice/sides"], start=2, end=4),
        node("ReduceMin", ["choice/sides"], ["choice/side"], keepdims=0),
        node("Min", ["choice/side", "choice/last"], [ROW]),
    ]
    return nodes, {"choice/last": np.array(len(rule.shares) - 1, np.int64)}


def chosen(branches: Sequence[Branch], outputs: Outputs, rule: Mixing) -> Built:
    """Return nodes that compute the branch which the rule has for the images, and constants.

    Args:
        branches: One for each kind of the rule, two or more; those first whose images have the
            least time for tests.
        outputs: What each of them writes.
        rule: Which of them serves which side.
    """
    nodes, constants = row_nodes(rule)
    constants["choice/kinds"] = rule.kinds
    constants |= {number(each.kind): np.array(each.kind, np.int64) for each in branches}
    nodes.append(node("Gather", ["choice/kinds", ROW], [_KIND]))
    return [*nodes, *_chain(branches, outputs, {name: name for name in outputs})], constants


def _chain(branches: Sequence[Branch], outputs: Outputs, names: Mapping[str, str]) -> list[Any]:
    """Return an `If` between the first branch and the chain of the others.

    Args:
        branches: Two or more.
        outputs: What each of them writes.
        names: Names of the outputs here.
    """
    kind = branches[0].kind
    test = f"choice/is {kind}"
    then, other = _graph(branches[:1], outputs), _graph(branches[1:], outputs)
    return [
        node("Equal", [_KIND, number(kind)], [test]),
        node("If", [test], list(names.values()), then_branch=then, else_branch=other),
    ]


def _graph(branches: Sequence[Branch], outputs: Outputs) -> Any:
    """Return the graph of one branch or of a chain, with names that no other graph has."""
    first = branches[0]
    if len(branches) > 1:
        label = f"from {first.kind}"
        names = {name: f"{name}/{label}" for name in outputs}
        return subgraph(label, _chain(branches, outputs, names), _renamed(outputs, names))
    values = [name for each in first.nodes for name in each.output if name]
    names = {name: f"{name}/{first.kind}" for name in (*values, *first.constants)}
    return subgraph(
        f"{first.kind}",
        [renamed(each, names) for each in first.nodes],
        _renamed(outputs, names),
        {names[name]: value for name, value in first.constants.items()},
    )


def _renamed(outputs: Outputs, names: Mapping[str, str]) -> Outputs:
    return {names[name]: info for name, info in outputs.items()}
