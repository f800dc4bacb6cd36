"""Switchable BatchNorm: one private set of a layer's BatchNorm for each resolution.

Convert an ordinary network, switch it to a resolution, specialize it to an ordinary network
again. Convolutions and all other layers stay shared. Sets for resolutions that were not trained
come from `unseen.py`. Other kinds of normalisation, which `norms` tells apart, can be private too,
and tables of positions.

Source: Wang et al., "Resolution Switchable Networks for Runtime Efficient Image Recognition",
ECCV 2020, https://arxiv.org/abs/2007.09558, Section 3.1 and Eq. 3.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import SupportsIndex, TypeVar

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_leaves

from rsseg.switchable.layers import (
    FollowsLargest,
    Switchable,
    SwitchableBatchNorm2d,
    SwitchableNorm,
)
from rsseg.switchable.norms import (
    BATCH,
    Norm,
    checked_norms,
    few_message,
    none_message,
    norm_kind,
)
from rsseg.switchable.positions import (
    Positions,
    checked_positions,
    make_positions_private,
    restore_positions,
)
from rsseg.switchable.resolutions import Resolutions

__all__ = [
    "SwitchableBatchNorm2d",
    "convert_to_switchable",
    "held_sets",
    "private_layers",
    "private_norms",
    "replace_layers",
    "sharing_copy",
    "specialize",
    "switch",
    "switchable_layers",
    "trained_sets",
]

Network = TypeVar("Network", bound=nn.Module)


def switchable_layers(network: nn.Module) -> Iterator[SwitchableNorm]:
    """Yield every switchable BatchNorm, or other norm, of a network once."""
    return (layer for layer in network.modules() if isinstance(layer, SwitchableNorm))


def private_norms(network: nn.Module) -> tuple[Norm, ...]:
    """Return the kinds of norms that are private in a converted network; none if it is not."""
    kinds = {norm_kind(layer.active_set) for layer in switchable_layers(network)} - {None}
    return checked_norms(kind for kind in kinds if kind) if kinds else ()


def private_layers(network: nn.Module) -> Iterator[Switchable]:
    """Yield once all that is private to a resolution: norms, tables of positions, quantisers."""
    return (layer for layer in network.modules() if isinstance(layer, Switchable))


def held_sets(network: nn.Module) -> tuple[str, ...]:
    """Return the names of all BatchNorm sets of a converted network, those added later last.

    Raises:
        ValueError: If the network has not been converted.
    """
    return tuple(_first_layer(network).sets)


def trained_sets(network: nn.Module) -> tuple[str, ...]:
    """Return the names of the BatchNorm sets that a network was converted with.

    Raises:
        ValueError: If the network has not been converted.
    """
    return _first_layer(network).trained


def _first_layer(network: nn.Module) -> SwitchableNorm:
    for layer in switchable_layers(network):
        return layer
    raise ValueError(
        f"{type(network).__name__} has no switchable BatchNorm; "
        "convert it first with convert_to_switchable(network, resolutions)"
    )


def convert_to_switchable(
    network: Network,
    resolutions: Sequence[SupportsIndex],
    *,
    norms: Sequence[Norm] = BATCH,
    positions: Positions = "shared",
    where: Callable[[str, nn.Module], bool] | None = None,
) -> Network:
    """Convert every BatchNorm of a network to one private set for each resolution (Eq. 3).

    The network is changed in place and returned; its outputs stay the same at every resolution
    until it is trained. An optimiser made before knows nothing of the new sets: make it after.

    Args:
        network: Any network with such layers. A lone one is returned converted.
        resolutions: Sides of the views in pixels, from large to small. One may be listed
            twice; the sets are then named 224, 224_2 and so on.
        norms: The kinds of norms that become private: "batch", as in the paper; "layer" (LayerNorm,
            RMSNorm) and "group" (GroupNorm) have a gamma and a beta for each resolution, their
            statistics are of each image. A network may have several kinds.
        positions: "private" gives each resolution its own tables of absolute positions as well,
            such as the `pos_embed` of a ViT, see `positions`.
        where: Called with the name and the layer of each such norm; false leaves it shared.
            Default: every one is converted.

    Returns:
        The network, switched to the largest resolution.

    Raises:
        ValueError: If the resolutions or kinds are not valid, or the network has no norm of these
            kinds, no table of positions where they are to be private, has been converted before,
            is a scripted one or has lazy layers that have seen no input.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        >>> sorted(convert_to_switchable(network, [64, 32])[1].sets)
        ['32', '64']
    """
    names, kinds = Resolutions(resolutions).names, checked_norms(norms)
    checked_positions(positions)
    _refuse_unconvertible(network)
    memos: dict[str, dict[int, object]] = {name: {} for name in names}
    layers = {
        layer: _switchable(layer, names, memos)
        for name, layer in network.named_modules()
        if norm_kind(layer) in kinds and (where is None or where(name, layer))
    }
    if not layers:
        raise ValueError(none_message(network, kinds))
    if positions == "private":
        make_positions_private(network, names, memos)
    if where is None and (message := few_message(network, kinds)):
        warnings.warn(message, stacklevel=2)
    if network in layers:
        return layers[network]  # type: ignore[return-value]
    private = {
        layer: Switchable(layer, names, memos=memos)
        for layer in network.modules()
        if isinstance(layer, FollowsLargest) and layer.sharing == "private"
    }
    replace_layers(network, layers | private)
    return network


def _switchable(
    layer: nn.Module, names: Sequence[str], memos: Mapping[str, dict[int, object]]
) -> nn.Module:
    if isinstance(layer, _BatchNorm):
        return SwitchableBatchNorm2d(layer, names, memos=memos)
    return SwitchableNorm(layer, names, memos=memos)


def replace_layers(network: nn.Module, replacements: Mapping[nn.Module, nn.Module]) -> None:
    """Replace layers of a network, each in all the places where it stands.

    Args:
        network: Changed in place; it is not itself a key of `replacements`.
        replacements: The new layer of each old one.
    """
    for parent in list(network.modules()):
        for child_name, child in parent._modules.items():
            if child is not None and child in replacements:
                setattr(parent, child_name, replacements[child])


def _refuse_unconvertible(network: nn.Module) -> None:
    kind = type(network).__name__
    for name, layer in network.named_modules():
        if isinstance(layer, SwitchableNorm):
            raise ValueError(
                f"{kind} is converted already: '{name}' holds the sets {', '.join(layer.sets)}; "
                "convert a network once, with all its resolutions"
            )
        if any(is_lazy(tensor) for tensor in layer.parameters(recurse=False)):
            raise ValueError(
                f"'{name}' in {kind} is lazy and has no sizes yet; "
                "pass one input through the network before it is converted"
            )
        # Scripted layers have fixed code that no longer looks up its submodules by name.
        if type(layer).__module__.startswith("torch.jit"):
            raise ValueError(f"'{name}' in {kind} is a scripted layer; convert before scripting")


def switch(network: nn.Module, resolution: int | str) -> None:
    """Activate the BatchNorm sets of one resolution.

    Args:
        network: A converted network.
        resolution: Side in pixels, or the name of a set ("224_2" for the second 224).

    Raises:
        ValueError: If the network is not converted or has no set for the resolution.

    Example:
        >>> network = convert_to_switchable(nn.Sequential(nn.BatchNorm2d(4)), [64, 32])
        >>> switch(network, 32)
        >>> [layer.active for layer in switchable_layers(network)]
        ['32']
    """
    name = str(resolution)
    _check_has_set(network, name)
    for layer in private_layers(network):
        layer.active = name
    _set_at_largest(network, at_largest=name == trained_sets(network)[0])


def _set_at_largest(network: nn.Module, *, at_largest: bool) -> None:
    for layer in network.modules():
        if isinstance(layer, FollowsLargest):
            layer.at_largest = at_largest


def _check_has_set(network: nn.Module, name: str) -> None:
    sets = held_sets(network)
    if name not in sets:
        raise ValueError(
            f"resolution {name} has no BatchNorm set; this network holds {', '.join(sets)}"
        )


def specialize(network: nn.Module, resolution: int | str) -> nn.Module:
    """Return the ordinary network of one resolution, which shares parameters and buffers.

    No norm of rsseg is left in it: its state dict loads into the original class (quantisers stay,
    see `rsseg.quantization.convert.plain_network`). Training either network trains both; use
    `copy.deepcopy` on the result for an independent one.

    Args:
        network: A converted network, or a SwitchableNet (which also makes resolutions that were
            not trained, and gives the network inside).
        resolution: Side in pixels, or the name of a set.

    Returns:
        A network of the original class, in the same mode (training or evaluation).

    Raises:
        ValueError: If the network is not converted or has no set for the resolution.
    """
    method = getattr(network, "specialize", None)
    if callable(method):
        plain: nn.Module = method(resolution)
        return plain
    name = str(resolution)
    _check_has_set(network, name)
    special = sharing_copy(network, name)
    _set_at_largest(special, at_largest=name == trained_sets(network)[0])
    return special


def sharing_copy(network: nn.Module, name: str | None = None) -> nn.Module:
    """Copy a network but none of its tensors, keeping one BatchNorm set (or none to choose)."""
    # What the memo names is taken as it is, everything else is copied. Networks may also keep
    # tensors computed from parameters (attention biases), which Python cannot copy.
    memo: dict[int, object] = {
        id(leaf): leaf
        for module in network.modules()
        for leaf in tree_leaves(vars(module))
        if isinstance(leaf, Tensor)
    }
    if name is not None:
        for layer in list(private_layers(network)):
            memo[id(layer)] = copy.deepcopy(layer.sets[name], memo)
    special = copy.deepcopy(network, memo)
    if name is not None:
        restore_positions(special)
    return special
