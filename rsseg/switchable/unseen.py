"""BatchNorm sets for resolutions that were not trained.

A new set is interpolated between its neighbours, taken from the nearest, extrapolated, or its
statistics are measured anew on images (recalibration). Shared weights are never changed. Of norms
without statistics (LayerNorm, GroupNorm) gamma and beta are all there is to interpolate. Private
tables of positions are interpolated too.

Source: Wang et al., ECCV 2020, https://arxiv.org/abs/2007.09558, Fig. 4 (right) and Table 8.
The rule outside the trained range and recalibration are choices of this project.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from rsseg.switchable.convert import (
    held_sets,
    private_layers,
    switch,
    switchable_layers,
    trained_sets,
)
from rsseg.switchable.norms import norm_kind
from rsseg.switchable.positions import PositionTables
from rsseg.switchable.resolutions import check_resolution

RULES = ("interpolate", "nearest", "extrapolate")
# An extrapolated variance may fall below 0; BatchNorm needs it above.
SMALLEST_VARIANCE = 1e-5


def neighbours(
    resolution: int, trained: Sequence[int], rule: str = "interpolate"
) -> tuple[int, int, float]:
    r"""Return two trained resolutions a, b and the share t of a in the set of `resolution`.

    .. math:: t = (r - b) / (a - b), \quad set_r = t \, set_a + (1 - t) \, set_b

    Args:
        resolution: Side r in pixels.
        trained: Resolutions that were trained.
        rule: "interpolate" goes linearly between the two neighbours and takes the nearest set
            outside the trained range; "nearest" always takes the nearest (the larger of two
            equally near ones); "extrapolate" also continues linearly outside the range.

    Raises:
        ValueError: If the rule is unknown.

    Example:
        >>> neighbours(208, [224, 192, 160])
        (224, 192, 0.5)
    """
    if rule not in RULES:
        raise ValueError(f"unknown rule '{rule}' for unseen resolutions; expected {list(RULES)}")
    sides = sorted(set(trained), reverse=True)
    nearest = min(sides, key=lambda side: abs(side - resolution))
    outside = not sides[-1] <= resolution <= sides[0]
    if rule == "nearest" or len(sides) == 1 or (outside and rule == "interpolate"):
        return nearest, nearest, 1.0
    upper = max((i for i, side in enumerate(sides[:-1]) if side >= resolution), default=0)
    a, b = sides[upper], sides[upper + 1]
    return a, b, (resolution - b) / (a - b)


def _blend(a: nn.Module, b: nn.Module, share: float) -> nn.Module:
    nearer = copy.deepcopy(a if share >= 0.5 else b)
    # Two bases of a quantiser cannot be mixed: each may have its entries in another order.
    mixed = norm_kind(nearer) is not None or isinstance(nearer, PositionTables)
    if share in (0.0, 1.0) or not mixed:
        return nearer
    first, second = a.state_dict(), b.state_dict()
    for name, value in nearer.state_dict().items():
        if value.is_floating_point():
            # Not lerp: this form gives the end points exactly.
            value.copy_(share * first[name] + (1 - share) * second[name])
    variance = getattr(nearer, "running_var", None)
    if variance is not None and not 0 <= share <= 1:
        variance.clamp_(min=SMALLEST_VARIANCE)
    return nearer


def sides_of(names: Iterable[str]) -> list[int]:
    """Return the resolutions that BatchNorm sets are named after ("224_2" stands for 224)."""
    return [int(name.split("_")[0]) for name in names]


def interpolate_set(network: nn.Module, resolution: int, *, rule: str = "interpolate") -> None:
    """Add a BatchNorm set for a resolution that was not trained to a network.

    Gamma, beta, mean and variance are interpolated linearly between the two neighbours, and so are
    private tables of positions (a private quantiser's levels are those of the nearer one). The set
    is named after the resolution: `switch` and `specialize` then know it, and it is part of the
    state dict. `SwitchableNet.predict` needs no such call.

    Args:
        network: A converted network.
        resolution: Side in pixels, 1..4096.
        rule: "interpolate", "nearest" or "extrapolate", see `neighbours`.

    Raises:
        ValueError: If the network is not converted, has a set of this name, or the resolution
            or the rule is not valid.
    """
    resolution = check_resolution(resolution)
    names = held_sets(network)
    if str(resolution) in names:
        raise ValueError(
            f"resolution {resolution} has a BatchNorm set already; this network holds "
            f"{', '.join(names)}"
        )
    # Neighbours are trained sets only: what was added before must not change what is added now.
    a, b, share = neighbours(resolution, sides_of(trained_sets(network)), rule)
    for layer in private_layers(network):
        layer.sets[str(resolution)] = _blend(layer.sets[str(a)], layer.sets[str(b)], share)


def remove_set(network: nn.Module, resolution: int | str) -> None:
    """Remove an added BatchNorm set; a network switched to it is switched to its first set.

    Raises:
        ValueError: If the network is not converted, has no such set, or was trained with it.
    """
    name, trained = str(resolution), trained_sets(network)
    added = [other for other in held_sets(network) if other not in trained]
    if name not in added:
        raise ValueError(
            f"cannot remove the set {name}: only added sets can be removed, this network has "
            f"{', '.join(added) or 'none'}"
        )
    for layer in private_layers(network):
        del layer.sets[name]
    if any(layer.active == name for layer in private_layers(network)):
        switch(network, trained[0])


@contextmanager
def borrowed_set(network: nn.Module, resolution: int, rule: str) -> Iterator[None]:
    """Add a set for a resolution that was not trained inside a `with` block, then remove it."""
    interpolate_set(network, resolution, rule=rule)
    try:
        yield
    finally:
        remove_set(network, resolution)


@torch.no_grad()
def recalibrate(network: nn.Module, images: Iterable[Tensor], resolution: int | str) -> None:
    """Measure the BatchNorm statistics of one resolution anew; no parameter is changed.

    Running statistics are reset, then averaged with equal weight over the batches. Dropout stays
    off. Statistics of the network as trained are overwritten: keep a checkpoint.

    Args:
        network: A converted network that holds a set for the resolution; for one that was not
            trained, call `interpolate_set` first. A network without switchable BatchNorm works
            too, then all its BatchNorms are measured.
        images: Batches of normalised images at the resolution, shape (B, 3, H, W).
        resolution: Side in pixels, or the name of a set.

    Raises:
        ValueError: If `images` is empty or the network has no set for the resolution, or no
            BatchNorm with statistics.
    """
    if any(True for _ in switchable_layers(network)):
        switch(network, resolution)
        layers = [layer.sets[layer.active] for layer in switchable_layers(network)]
    else:
        layers = [layer for layer in network.modules() if isinstance(layer, _BatchNorm)]
    measured = [m for m in layers if isinstance(m, _BatchNorm) and m.running_mean is not None]
    if not measured:
        raise ValueError(
            f"{type(network).__name__} has no statistics to measure: LayerNorm and GroupNorm take "
            "those of each image"
        )
    modes = {module: module.training for module in network.modules()}
    before = [copy.deepcopy(layer) for layer in measured]
    # A SwitchableNet has resolutions and a network inside; its own forward takes several views.
    forward = getattr(network, "network", network) if hasattr(network, "resolutions") else network
    batches = 0
    try:
        network.eval()
        for layer in measured:
            layer.reset_running_stats()
            layer.momentum = None  # None averages all batches with equal weight.
            layer.training = True  # Not train(): a fused dropout stays off.
        for batch in images:
            forward(batch)
            batches += 1
        if not batches:
            raise ValueError("recalibrate needs at least one batch of images, got none")
    except BaseException:
        # Half-measured statistics are of no use: the old ones come back.
        for layer, old in zip(measured, before, strict=True):
            layer.load_state_dict(old.state_dict())
        raise
    finally:
        for layer, old in zip(measured, before, strict=True):
            layer.momentum = old.momentum
        for module, training in modes.items():
            module.training = training
