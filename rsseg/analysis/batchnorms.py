"""The private BatchNorm sets of a network, layer by layer: Fig. 6 of the paper.

What differs between the sets shows how the statistics of a layer depend on the resolution. Read is
the network alone; no image is needed.

Source: Wang et al., "Resolution Switchable Networks for Runtime Efficient Image Recognition",
ECCV 2020, https://arxiv.org/abs/2007.09558, Fig. 6.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from rsseg.switchable.layers import SwitchableNorm

QUANTITIES: Final = ("gamma", "beta", "mean", "variance")
SHARED: Final = "shared"
_MOST_NAMES: Final = 24  # on an axis


@dataclass(frozen=True)
class SetMeans:
    """Means over the channels of one set of one layer.

    Args:
        index: Place of the layer among all BatchNorms in the order of the network's modules, from
            1 on; of ordinary networks that is from the image to the logits.
        layer: Its name in the network, such as "layer1.0.bn1".
        resolution: Name of the set, such as "224"; "shared" where all resolutions use one.
        channels: Number of channels.
        values: Mean of each of QUANTITIES; NaN where the layer has none, as without affine part, or
            a LayerNorm without statistics.
    """

    index: int
    layer: str
    resolution: str
    channels: int
    values: Mapping[str, float]

    def row(self) -> dict[str, str | float]:
        """Return the values as `write_csv` takes them; what does not exist is empty."""
        texts = {name: "" if np.isnan(x) else f"{x:.6g}" for name, x in self.values.items()}
        return {
            "index": self.index,
            "layer": self.layer,
            "resolution": self.resolution,
            "channels": self.channels,
            **texts,
        }


def channel_means(network: nn.Module) -> list[SetMeans]:
    """Average gamma, beta, running mean and running variance of each BatchNorm set over channels.

    Args:
        network: Any network; BatchNorms that were not converted are "shared" by all resolutions.

    Raises:
        ValueError: If it has no BatchNorm.
    """
    means = [
        SetMeans(index, name, resolution, _channels(layer), _means(layer))
        for index, (name, sets) in zip(count(1), _layers(network), strict=False)
        for resolution, layer in sets.items()
    ]
    if not means:
        raise ValueError(f"{type(network).__name__} has no BatchNorm whose values could be shown")
    return means


def _layers(network: nn.Module) -> Iterator[tuple[str, dict[str, nn.Module]]]:
    """Yield name and sets of each BatchNorm and private norm, in the order of the modules."""
    inside: set[nn.Module] = set()
    for name, layer in network.named_modules():
        if isinstance(layer, SwitchableNorm):
            inside.update(layer.sets.values())
            yield name, dict(layer.sets.items())
        elif isinstance(layer, _BatchNorm) and layer not in inside:
            yield name, {SHARED: layer}


def _channels(layer: nn.Module) -> int:
    if isinstance(layer, _BatchNorm):
        return layer.num_features
    return next(layer.parameters(recurse=False)).numel()


def _means(layer: nn.Module) -> dict[str, float]:
    parameters, buffers = layer._parameters, layer._buffers
    tensors: tuple[Tensor | None, ...] = (
        parameters.get("weight"),
        parameters.get("bias"),
        buffers.get("running_mean"),
        buffers.get("running_var"),
    )
    values = (float("nan") if t is None else float(t.detach().double().mean()) for t in tensors)
    return dict(zip(QUANTITIES, values, strict=True))


def plot_batchnorms(means: Sequence[SetMeans]) -> Figure:
    """Draw the four means by layer, a curve for each resolution; larger ones are darker."""
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True)
    for quantity, place in zip(QUANTITIES, axes.flat, strict=True):
        _plot_quantity(place, means, quantity)
    axes[0, 1].legend(title="resolution (pixels)")
    names = {one.index: one.layer for one in means}
    shown = list(names)[:: -(-len(names) // _MOST_NAMES)]
    for place in axes[1]:
        place.set_xlabel("BatchNorm layer, from the image on")
        place.set_xticks(shown, [names[index] for index in shown], rotation=90, fontsize=7)
    return figure


def _plot_quantity(axes: Axes, means: Sequence[SetMeans], quantity: str) -> None:
    resolutions = list(dict.fromkeys(one.resolution for one in means))
    for number, resolution in enumerate(resolutions):
        own = [one for one in means if one.resolution == resolution]
        indices = [one.index for one in own]
        values = [one.values[quantity] for one in own]
        colour = _colour(number, len(resolutions))
        # Points as well: a lone layer, or one beside layers without affine part, has no line.
        axes.plot(indices, values, ".-", label=resolution, color=colour, linewidth=1.2)
    axes.set_ylabel(f"{quantity}, mean over channels")
    if quantity == "variance" and all(one.values[quantity] > 0 for one in means):
        axes.set_yscale("log")  # It spans orders of magnitude between the layers.
    axes.grid(alpha=0.3)


def _colour(number: int, total: int) -> tuple[float, float, float, float]:
    """Return a colour from dark to light, in the order of the resolutions."""
    import matplotlib  # noqa: PLC0415 Its colour maps alone.

    red, green, blue, alpha = matplotlib.colormaps["viridis"](0.9 * number / max(1, total - 1))
    return red, green, blue, alpha
