"""Which tensor of a file belongs to which tensor of a network.

Names are compared without the prefixes that wrappers add ("module.", "_orig_mod.", ...), and
without the names of BatchNorm sets: `bn1.sets.224.weight` is a `bn1.weight`. Of all prefixes, that
pair is taken under which most tensors agree in name and shape; of several, see `_preference`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from torch import Tensor

from rsseg.switchable.positions import CHILD as POSITIONS

# The names of what wraps a network: an average of weights, as in `state_files.AVERAGES`, comes
# first; then torch's wrappers, those of training libraries, of scripts, our own.
_AVERAGE: Final = "ema"
_WRAPPERS: Final = (
    *(_AVERAGE, "module", "_orig_mod", "model", "net", "network", "backbone", "encoder"),
    "student",
)
_SET: Final = re.compile(rf"(^|\.)(?:{POSITIONS}\.)?sets\.(\d+(?:_\d+)?)\.")
_PROFILER: Final = ("total_ops", "total_params")  # which thop leaves in a state dict
COUNTER: Final = "num_batches_tracked"  # absent from files older than this counter

# The tensors of one name: by the name of the BatchNorm set, "" where there are none.
Sets = dict[str, Tensor]


def by_plain_name(state: Mapping[str, Tensor]) -> dict[str, Sets]:
    """Return the tensors of each name that a network without BatchNorm sets would have.

    Example:
        >>> [*by_plain_name({"bn.sets.64.bias": Tensor(), "bn.sets.32.bias": Tensor()})["bn.bias"]]
        ['64', '32']
    """
    plain: dict[str, Sets] = {}
    for key, value in state.items():
        name, set_name = plain_name(key)
        plain.setdefault(name, {})[set_name] = value
    return plain


def plain_name(key: str) -> tuple[str, str]:
    """Return the name of a tensor without its BatchNorm set, and the name of the set, or ""."""
    match = _SET.search(key)
    return (_SET.sub(r"\1", key, count=1), match[2]) if match else (key, "")


@dataclass(frozen=True)
class Match:
    """The tensors of a network and of a file that belong together.

    Args:
        pairs: From names of the network to names of the file, both without sets.
        missing: Names of the network that the file lacks.
        inside: Names of the file that the network lacks, but within parts that both have.
        outside: Names of the file of parts that the network does not have.
        prefix: The prefix of the file under which the pairs lie.
        others: Further prefixes under which as many tensors agree.
    """

    pairs: dict[str, str]
    missing: list[str]
    inside: list[str]
    outside: list[str]
    prefix: str = ""
    others: tuple[str, ...] = ()


def match_names(own: Mapping[str, Sets], file: Mapping[str, Sets]) -> Match:
    """Find the tensors of a file that belong to those of a network.

    Args:
        own: Of the network, see `by_plain_name`.
        file: Of the file.
    """
    counts = {(p, q): _agreeing(own, file, p, q) for p in _prefixes(file) for q in _prefixes(own)}
    prefix, own_prefix = max(counts, key=lambda pair: (counts[pair], *_preference(*pair)))
    others = tuple(
        p
        for (p, q), count in counts.items()
        if q == own_prefix and p != prefix and count == counts[prefix, own_prefix] > 0
    )
    names = {
        _canonical(n.removeprefix(prefix)): n for n in reversed(list(file)) if n.startswith(prefix)
    }
    inner = {n: _canonical(n.removeprefix(own_prefix)) for n in own if n.startswith(own_prefix)}
    pairs = {name: names[key] for name, key in inner.items() if key in names}
    parts = {_root(n.removeprefix(own_prefix)) for n in inner}
    rest = [name for name in file if name not in set(pairs.values())]
    inside = [
        name
        for name in rest
        if name.startswith(prefix)
        and _root(name.removeprefix(prefix)) in parts
        and not name.endswith(_PROFILER)
    ]
    return Match(
        pairs=pairs,
        missing=[name for name in own if name not in pairs and not name.endswith(COUNTER)],
        inside=inside,
        outside=[name for name in rest if name not in set(inside)],
        prefix=prefix,
        others=others,
    )


def _prefixes(names: Iterable[str]) -> list[str]:
    """Return the prefixes of wrappers that names begin with, and the empty one."""
    prefixes = {""}
    for name in names:
        prefix = ""
        for part in name.split(".")[:-1]:
            if part not in _WRAPPERS:
                break
            prefix += f"{part}."
            prefixes.add(prefix)
    return sorted(prefixes)


def _preference(prefix: str, other: str) -> tuple[bool, int, list[int]]:
    """Return what decides between prefixes under which as many tensors agree; the largest wins.

    An average comes first, then the fewest wrappers, then the order of their names.
    """
    parts, every = prefix.split(".")[:-1], (prefix + other).split(".")[:-1]
    return _AVERAGE in parts, -len(every), [-_WRAPPERS.index(part) for part in every]


def _agreeing(own: Mapping[str, Sets], file: Mapping[str, Sets], prefix: str, other: str) -> int:
    """Count the tensors that agree in name and shape, without two prefixes."""
    shapes = {
        _canonical(name.removeprefix(prefix)): _shape(sets)
        for name, sets in file.items()
        if name.startswith(prefix)
    }
    return sum(
        shapes.get(_canonical(name.removeprefix(other))) == _shape(sets)
        for name, sets in own.items()
        if name.startswith(other)
    )


def _shape(sets: Sets) -> tuple[int, ...]:
    return tuple(next(iter(sets.values())).shape)


def _root(name: str) -> str:
    """Return the part of a network that a tensor lies in; timm also says stages_0 for stages.0."""
    return re.sub(r"_\d+$", "", name.partition(".")[0]).strip("_")


def _canonical(name: str) -> str:
    """Return the name of a tensor without what versions of libraries change in it."""
    # torchvision's first DenseNets say norm.1 for norm1; timm says stages_0 for stages.0.
    name = re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.", r"\1", name)
    return name.strip("_").replace("_", ".")
