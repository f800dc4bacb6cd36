"""The kinds of normalisation layers whose affine part can be private to a resolution.

"batch" learns statistics over many images and holds them. "layer" (LayerNorm, RMSNorm) and "group"
(GroupNorm) compute theirs from each image anew, so gamma and beta are all that they hold. Layers
of other libraries are known by their name and by what they hold.

Private sets of "batch" are the paper's, Wang et al., ECCV 2020, https://arxiv.org/abs/2007.09558,
Section 3.1; those of "layer" and "group" are this project's, without a publication to compare with.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Final, Literal, get_args

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from rsseg.common.messages import check_name

Norm = Literal["batch", "layer", "group"]
NORMS: Final[tuple[Norm, ...]] = get_args(Norm)
BATCH: Final[tuple[Norm, ...]] = ("batch",)
_TITLES: Final[dict[Norm, str]] = {"batch": "BatchNorm", "layer": "LayerNorm", "group": "GroupNorm"}
# By the name of the class, for what is not a subclass of torch's layers.
_BY_NAME: Final[dict[Norm, re.Pattern[str]]] = {
    "layer": re.compile(r"(layer|rms|simple)_?norm", re.IGNORECASE),
    "group": re.compile(r"group_?norm", re.IGNORECASE),
}
_ANY_NORM: Final = re.compile(r"norm", re.IGNORECASE)
_FEW: Final = 0.25  # share of the BatchNorms in all norms below which a network has hardly any


def checked_norms(norms: Iterable[str]) -> tuple[Norm, ...]:
    """Return valid kinds, each once, in the order of `NORMS`.

    Raises:
        ValueError: If there is none, or one is unknown.

    Example:
        >>> checked_norms(["layer", "batch"])
        ('batch', 'layer')
    """
    given = (norms,) if isinstance(norms, str) else tuple(norms)
    for norm in given:
        check_name("kind of norm", norm, NORMS)
    if not given:
        raise ValueError(f"norms names no kind of norm; expected some of {', '.join(NORMS)}")
    return tuple(norm for norm in NORMS if norm in given)


def norm_kind(layer: nn.Module) -> Norm | None:
    """Return the kind of a normalisation layer, None for any other layer.

    A "layer" or "group" norm without gamma and beta holds nothing that could be private: None.

    Example:
        >>> norm_kind(nn.GroupNorm(1, 8)), norm_kind(nn.Linear(8, 8))
        ('group', None)
    """
    if isinstance(layer, _BatchNorm):
        return "batch"
    if not _is_affine(layer):
        return None
    if isinstance(layer, nn.GroupNorm):
        return "group"
    if isinstance(layer, nn.LayerNorm | nn.RMSNorm):
        return "layer"
    return _kind_by_name(layer)


def _is_affine(layer: nn.Module) -> bool:
    """Return whether a layer itself has parameters."""
    return any(True for _ in layer.parameters(recurse=False))


def _kind_by_name(layer: nn.Module) -> Norm | None:
    """Return the kind of a layer that no class of torch's tells: of transformers, for example."""
    if not _holds_vectors_alone(layer):
        return None
    # An own class over such a layer has its name: "LlamaRMSNorm" over "RmsNorm".
    names = [kind.__name__ for kind in type(layer).__mro__]
    kinds = (norm for norm, name in _BY_NAME.items() if any(map(name.search, names)))
    return next(kinds, None)


def _holds_vectors_alone(layer: nn.Module) -> bool:
    """Return whether all that a layer holds has one value for each channel, and no statistics."""
    inside = chain.from_iterable(child.parameters() for child in layer.children())
    buffers = (buffer for buffer in layer.buffers() if buffer.is_floating_point())
    vectors = all(max(p.shape, default=1) == p.numel() for p in layer.parameters(recurse=False))
    return vectors and next(inside, None) is None and next(buffers, None) is None


def kinds_in(network: nn.Module) -> Counter[Norm]:
    """Count the normalisation layers of a network that could be private, by kind."""
    kinds = map(norm_kind, network.modules())
    return Counter(kind for kind in kinds if kind is not None)


def fitting_norms(network: nn.Module) -> tuple[Norm, ...]:
    """Return the kinds to make private: BatchNorms unless there are hardly any, else all there are.

    Example:
        >>> fitting_norms(nn.Sequential(nn.Conv2d(3, 8, 1), nn.GroupNorm(2, 8)))
        ('group',)
    """
    kinds = kinds_in(network)
    if kinds["batch"] and not _hardly_any(kinds):
        return BATCH
    return tuple(norm for norm in NORMS if kinds[norm])


def _hardly_any(kinds: Counter[Norm]) -> bool:
    return kinds["batch"] < _FEW * kinds.total()


def none_message(network: nn.Module, norms: Sequence[Norm]) -> str:
    """Return that a network has none of some kinds of norms, and which would fit it."""
    titles = " or ".join(_TITLES[norm] for norm in norms)
    return (
        f"no {titles} to convert found in {type(network).__name__}; only a network with {titles} "
        "layers (not frozen into constants, and not excluded by `where`) can keep a private set "
        f"for each resolution{_remedy(network, norms)}"
    )


def _remedy(network: nn.Module, norms: Sequence[Norm]) -> str:
    kinds = {norm: n for norm, n in kinds_in(network).items() if norm not in norms}
    if kinds:
        counts = " and ".join(f"{n} {_TITLES[norm]}" for norm, n in kinds.items())
        return f"; this one has {counts}: {_advice(tuple(kinds))}"
    others = sorted({type(layer).__name__ for layer in network.modules() if _is_other(layer)})
    if others:
        return f"; {', '.join(others)} cannot be private"
    return "" if kinds_in(network) else "; this one has no norms with gamma and beta at all"


def _is_other(layer: nn.Module) -> bool:
    """Return whether a layer is a norm of a kind that cannot be private."""
    if norm_kind(layer) is not None:
        return False
    named = _ANY_NORM.search(type(layer).__name__) is not None and _is_affine(layer)
    return isinstance(layer, _InstanceNorm) or named


def few_message(network: nn.Module, norms: Sequence[Norm]) -> str:
    """Return that only a small part of a network's norms become private; empty if most do."""
    kinds = kinds_in(network)
    if tuple(norms) != BATCH or not _hardly_any(kinds):
        return ""
    others = " and ".join(f"{kinds[n]} {_TITLES[n]}" for n in NORMS[1:] if kinds[n])
    return (
        f"{type(network).__name__} has hardly any BatchNorm: {kinds['batch']} become private, and "
        f"{others} stay shared by all resolutions; {_advice(tuple(n for n in NORMS if kinds[n]))}"
    )


def _advice(norms: tuple[Norm, ...]) -> str:
    names = ", ".join(norms)
    return f"set norms={norms!r} (in a configuration norms: [{names}]) to make them private"
