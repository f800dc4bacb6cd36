"""Layers that hold a private part for each resolution, one of them active.

`Switchable` holds copies of any layer, `SwitchableNorm` those of a normalisation layer, and
`SwitchableBatchNorm2d` those of a BatchNorm. Converting and switching whole networks is in
`convert.py`.

Source: Wang et al., "Resolution Switchable Networks for Runtime Efficient Image Recognition",
ECCV 2020, https://arxiv.org/abs/2007.09558, Section 3.1 and Eq. 3.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Literal, cast

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Sharing = Literal["shared", "largest_only", "private"]


class FollowsLargest(nn.Module):
    """A layer that is not a BatchNorm, but may differ between resolutions.

    Args:
        sharing: "shared" by all resolutions, shared but learnt at the largest resolution alone
            ("largest_only"), or "private": `convert_to_switchable` gives each resolution a copy.
            Only a "shared" layer can do without the knowledge which resolution passes through.

    Attributes:
        at_largest: Whether the network is switched to the largest resolution.
    """

    def __init__(self, sharing: Sharing = "shared") -> None:
        super().__init__()
        self.sharing: Sharing = sharing
        self.at_largest = True

    @property
    def learns_here(self) -> bool:
        """Whether the layer may learn at the resolution that the network is switched to."""
        return self.at_largest or self.sharing != "largest_only"


class Switchable(nn.Module):
    """A layer with a private copy for each resolution.

    The copies lie in the state dict under their names, such as `sets.224.weight`. One of them is
    active and takes what passes through; the others are untouched.

    Args:
        layer: It is copied, once for each name.
        names: Names of the sets, the first is active. See `Resolutions`.
        memos: For each name, what `copy.deepcopy` has copied so far. Layers made with the same
            memos that share a parameter share its copy in each set.
    """

    def __init__(
        self,
        layer: nn.Module,
        names: Sequence[str],
        *,
        memos: Mapping[str, dict[int, object]] | None = None,
    ) -> None:
        super().__init__()
        memos = memos or {name: {} for name in names}
        # Copied, not rebuilt: a BatchNorm subclass may fuse an activation.
        self.sets = nn.ModuleDict({name: copy.deepcopy(layer, memos[name]) for name in names})
        self.trained = tuple(names)  # Sets for other resolutions may be added, see `unseen.py`.
        self.active = names[0]
        self.training = layer.training

    def forward(self, x: Tensor) -> Tensor:
        """Pass through the active set; shapes and errors are those of the layer itself."""
        output: Tensor = self.sets[self.active](x)
        return output

    def extra_repr(self) -> str:
        """Return what `print` shows of the layer: the active set."""
        return f"active={self.active}"


class SwitchableNorm(Switchable):
    """A normalisation layer with a private gamma and beta for each resolution.

    Args:
        layer: LayerNorm, GroupNorm or the like, see `norms`; its statistics are each image's own.
        names: See `Switchable`.
        memos: See `Switchable`.
    """

    @property
    def active_set(self) -> nn.Module:
        """The layer that normalises at present."""
        return self.sets[self.active]

    # Networks look at these attributes of their norms; the active set answers.

    @property
    def weight(self) -> Tensor | None:
        """Gamma of the active set, shape (C,), or None for a layer without."""
        return self.active_set._parameters.get("weight")

    @property
    def bias(self) -> Tensor | None:
        """Beta of the active set, shape (C,), or None for a layer without."""
        return self.active_set._parameters.get("bias")

    @property
    def eps(self) -> float:
        """Number added to the variance."""
        return cast(float, self.active_set.eps)


class SwitchableBatchNorm2d(SwitchableNorm):
    """A BatchNorm layer with a private set of weights and statistics for each resolution.

    Args:
        layer: BatchNorm of any kind (1d, 2d, 3d, synchronised, with a fused activation).
        names: See `Switchable`.
        memos: See `Switchable`.
    """

    def __init__(
        self,
        layer: _BatchNorm,
        names: Sequence[str],
        *,
        memos: Mapping[str, dict[int, object]] | None = None,
    ) -> None:
        super().__init__(layer, names, memos=memos)

    @property
    def active_set(self) -> _BatchNorm:
        """The BatchNorm that normalises at present."""
        return cast(_BatchNorm, self.sets[self.active])

    @property
    def num_features(self) -> int:
        """Number of channels C."""
        return self.active_set.num_features

    @property
    def running_mean(self) -> Tensor | None:
        """Running mean of the active set, shape (C,), or None for a layer without statistics."""
        return self.active_set.running_mean

    @property
    def running_var(self) -> Tensor | None:
        """Running variance of the active set, shape (C,), or None without statistics."""
        return self.active_set.running_var
