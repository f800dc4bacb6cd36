"""What an exported network of all resolutions chooses between, and by which rule; numbers alone.

Tensors that differ between the ordinary networks of the resolutions are private, all others are
shared. Which share of which set serves an image follows from its shorter side, as in `unseen`.
The graph that chooses is built in `select`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rsseg.quantization.convert import plain_network
from rsseg.switchable.net import SwitchableNet
from rsseg.switchable.norms import norm_kind
from rsseg.switchable.positions import position_tables
from rsseg.switchable.unseen import neighbours

Stacks = Mapping[str, NDArray[np.float32]]
_BETWEEN: Final = ("interpolate", "nearest")


@dataclass(frozen=True)
class Mixing:
    """Which share each set has at each side up to the largest trained one.

    Args:
        shares: Shares of the S sets, a row for each side from 0, shape (R, S); what is larger than
            the last one is served like it.
    """

    shares: NDArray[np.float32]

    @property
    def kinds(self) -> NDArray[np.int64]:
        """Index of the set that alone serves a side, S where several do, shape (R,)."""
        alone = self.shares.max(axis=1) == 1
        kinds = np.where(alone, self.shares.argmax(axis=1), self.shares.shape[1])
        return np.asarray(kinds, np.int64)


def mixing(resolutions: Sequence[int], rule: str) -> Mixing:
    """Compute the shares of the sets at each side.

    Args:
        resolutions: The S resolutions that were trained, each once.
        rule: "interpolate" or "nearest".

    Raises:
        ValueError: If the rule reaches outside the trained sides.

    Example:
        >>> mixing([3, 1], "interpolate").shares.tolist()
        [[0.0, 1.0], [0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]
    """
    if rule not in _BETWEEN:
        raise ValueError(
            f"the rule '{rule}' for unseen resolutions has no end, a file of all resolutions has; "
            f"expected one of {', '.join(_BETWEEN)}"
        )
    shares = np.zeros((max(resolutions) + 1, len(resolutions)), np.float32)
    for side, row in enumerate(shares):
        a, b, share = neighbours(side, resolutions, rule)
        row[resolutions.index(b)] += 1 - share
        row[resolutions.index(a)] += share
    return Mixing(shares)


def ordinary(net: SwitchableNet, resolution: int) -> nn.Module:
    """Return the ordinary network of a resolution, in evaluation mode, with ordinary layers.

    What quantises is replaced, see `plain_network`. Parameters are shared with the network.
    """
    return plain_network(net.specialize(resolution)).eval()


def private_tensors(networks: Sequence[nn.Module]) -> Stacks:
    """Stack the tensors that are not the same in all of S networks, by name, shape (S, ...)."""
    states = [network.state_dict(keep_vars=True) for network in networks]
    return {
        name: np.stack([state[name].detach().numpy() for state in states])
        for name, first in states[0].items()
        if first.is_floating_point() and not all(_same(first, state[name]) for state in states[1:])
    }


def mixed_tensors(network: nn.Module) -> set[str]:
    """Return the names of tensors that are mixed between two resolutions: of norms, positions."""
    return {
        f"{name}.{tensor}".lstrip(".")
        for name, layer in network.named_modules()
        for tensor in _mixed_parameters(layer)
    }


def _mixed_parameters(layer: nn.Module) -> Iterable[str]:
    if norm_kind(layer) is None:
        return position_tables(layer)
    return (name for name, _ in layer.named_parameters(recurse=False))


def _same(first: torch.Tensor, second: torch.Tensor) -> bool:
    return first is second or torch.equal(first, second)
