"""SwitchableNet: S views of the images go in, S logits come out; or one view, one resolution.

It holds the network, the resolutions and the scores of the ensemble. The losses of its logits are
in `rsseg.losses`, the training step in `rsseg.training.step`.

Source: Wang et al., ECCV 2020, https://arxiv.org/abs/2007.09558, Section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Literal, SupportsIndex

import torch
from torch import Tensor, nn
from torch.autograd.profiler import record_function

from rsseg.switchable.convert import (
    convert_to_switchable,
    held_sets,
    private_norms,
    sharing_copy,
    specialize,
    switch,
    switchable_layers,
    trained_sets,
)
from rsseg.switchable.layers import FollowsLargest
from rsseg.switchable.memory import forward_largest_last
from rsseg.switchable.norms import BATCH, Norm, checked_norms
from rsseg.switchable.outputs import LogitsOf, Output, checked_logits
from rsseg.switchable.positions import (
    Positions,
    check_sharing,
    checked_positions,
    private_positions,
)
from rsseg.switchable.resolutions import Resolutions, check_resolution
from rsseg.switchable.unseen import RULES, borrowed_set

FORWARD = "forward "  # Begins the name of a forward pass in a profile; a BatchNorm set ends it.


def resolution_of(images: Tensor) -> int:
    """Return the resolution of a batch of images (B, 3, H, W): its shorter side."""
    return min(images.shape[-2:])


def _refuse_layers_that_need_the_resolution(network: nn.Module) -> None:
    layers = (layer for layer in network.modules() if isinstance(layer, FollowsLargest))
    bases = {layer.sharing for layer in layers} - {"shared"}
    if bases:
        raise ValueError(
            f"quantisers with the basis {', '.join(sorted(bases))} have to know the resolution, "
            "which a BatchNorm shared by all does not tell; choose basis 'shared', or batchnorm "
            "'private'"
        )


def _refuse_one_batch(views: object, count: int) -> None:
    if isinstance(views, Tensor):
        raise TypeError(
            f"expected a list of {count} views, one for each resolution, got one tensor of shape "
            f"{tuple(views.shape)}; call net.predict(images) for one resolution, or make the views "
            "with rsseg.views"
        )


class SwitchableNet(nn.Module):
    """One network for several resolutions.

    Args:
        network: Any network from images (B, 3, H, W) to logits. It is converted in place unless
            it has been converted with the same resolutions before.
        resolutions: Sides of the views in pixels, from large to small.
        scores: Hold the raw scores a of the ensemble, initialised to ones. Without an ensemble
            there must be none: a parameter that gets no gradient stops distributed training.
        batchnorm: "private" gives every resolution its own BatchNorm set; "shared" leaves the
            network as it is, the baseline of Fig. 4.
        norms: The kinds of norms that "private" is about, see `convert_to_switchable`; a network
            that has been converted before has its own.
        positions: Whether tables of absolute positions are private as well, see
            `convert_to_switchable`; likewise.
        output: Where the logits are if the network returns a mapping or a tuple: "out" for
            torchvision's segmenters, "logits" for those of transformers, 0 for a tuple. What
            else it returns is not trained by the losses here: build it without auxiliary
            classifiers, whose parameters without a gradient would stop distributed training.

    Attributes:
        unseen: Rule of `predict` for resolutions that were not trained: "interpolate",
            "nearest" or "extrapolate".
        norms: The kinds of norms that are private, or with "shared" as given.
        positions: Whether tables of positions are "private" or "shared".
        output: As given.
        checkpointing: Keep the graph of the largest resolution alone in `forward` while training,
            see `memory.py`.

    Raises:
        ValueError: If the resolutions are not valid, the network has no such norm or has been
            converted with other resolutions, quantisers need a private BatchNorm, or positions are
            to be private where the norms are shared.

    Example:
        >>> plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        >>> net = SwitchableNet(plain, [64, 32])
        >>> [tuple(z.shape) for z in net([torch.zeros(2, 3, 64, 64), torch.zeros(2, 3, 32, 32)])]
        [(2, 4, 62, 62), (2, 4, 30, 30)]
    """

    def __init__(
        self,
        network: nn.Module,
        resolutions: Sequence[SupportsIndex],
        *,
        scores: bool = True,
        batchnorm: Literal["private", "shared"] = "private",
        norms: Sequence[Norm] = BATCH,
        positions: Positions = "shared",
        output: Output | None = None,
    ) -> None:
        super().__init__()
        self.resolutions = Resolutions(resolutions)
        if batchnorm not in ("private", "shared"):
            raise ValueError(f"batchnorm must be 'private' or 'shared', got {batchnorm!r}")
        self.batchnorm = batchnorm
        if batchnorm == "shared":
            _refuse_layers_that_need_the_resolution(network)
        self.norms, self.positions = checked_norms(norms), checked_positions(positions)
        check_sharing(batchnorm, positions)
        if batchnorm == "private":
            network = self._converted(network)
            self.norms, self.positions = private_norms(network), private_positions(network)
        self.network = network if output is None else LogitsOf(network, output)
        self.output = output
        self.scores = nn.Parameter(torch.ones(len(self.resolutions))) if scores else None
        self._unseen = RULES[0]
        self.checkpointing = False

    def _converted(self, network: nn.Module) -> nn.Module:
        if not any(True for _ in switchable_layers(network)):
            return convert_to_switchable(
                network, self.resolutions, norms=self.norms, positions=self.positions
            )
        sets, names = trained_sets(network), self.resolutions.names
        if sets != names:
            raise ValueError(
                f"the network holds BatchNorm sets {list(sets)}, expected {list(names)}; "
                "convert it with the resolutions of the SwitchableNet"
            )
        return network

    @property
    def unseen(self) -> str:
        """Rule of `predict` for resolutions that were not trained."""
        return self._unseen

    @unseen.setter
    def unseen(self, rule: str) -> None:
        if rule not in RULES:
            raise ValueError(
                f"unknown rule '{rule}' for unseen resolutions; expected {list(RULES)}"
            )
        self._unseen = rule

    def forward(
        self, views: Sequence[Tensor], members: Sequence[int] | None = None
    ) -> tuple[Tensor, ...]:
        """Compute the logits of every resolution, largest first.

        Args:
            views: One batch of normalised images for each resolution, in the order of
                `resolutions`; the shorter side of each is its resolution, shape (B, 3, H, W).
            members: Which resolutions the views are for, as rising indices of `resolutions`;
                default is all.

        Returns:
            Logits for each view at the network's own output size.

        Raises:
            ValueError: If number or sizes of the views do not fit the resolutions.
            TypeError: If one batch is given in place of a list of views, or if the network does
                not return a tensor (see `output`).
        """
        passes = self.passes(views, members)
        if self.checkpointing and self.training:
            return forward_largest_last(self.network, passes, views)
        return tuple(forward() for forward in passes)

    def passes(
        self, views: Sequence[Tensor], members: Sequence[int] | None = None
    ) -> list[Callable[[], Tensor]]:
        """Return one function for each view, which computes its logits; see `forward`."""
        _refuse_one_batch(views, len(self.resolutions))
        sizes = tuple(resolution_of(view) for view in views)
        members = range(len(self.resolutions)) if members is None else members
        expected = [self.resolutions[member] for member in members]
        if list(sizes) != expected:
            raise ValueError(
                f"expected one view for each resolution {expected}, largest first, "
                f"got views with the sides {list(sizes)}"
            )
        return [
            partial(self._forward_one, view, self.resolutions.names[member])
            for view, member in zip(views, members, strict=True)
        ]

    def _forward_one(self, images: Tensor, name: str) -> Tensor:
        if self.batchnorm == "private":
            switch(self.network, name)
        with record_function(f"{FORWARD}{name}"):
            return checked_logits(self.network(images), self.network)

    def predict(self, images: Tensor, resolution: int | str | None = None) -> Tensor:
        """Compute the logits at one resolution.

        Images are not resized: the resolution only chooses the BatchNorm set. One that was not
        trained uses a set made for this call by the rule `unseen`; to use it often, keep it with
        `interpolate_set(net.network, resolution)`.

        Args:
            images: Normalised images, shape (B, 3, H, W).
            resolution: Side in pixels or name of a set; default is the images' shorter side.

        Returns:
            Logits at the network's own output size.

        Raises:
            ValueError: If a name is given that no set has, or a side outside 1..4096.
        """
        resolution = resolution_of(images) if resolution is None else resolution
        if self.batchnorm == "shared" or self._holds(resolution):
            return self._forward_one(images, str(resolution))
        with borrowed_set(self.network, int(resolution), self.unseen):
            return self._forward_one(images, str(resolution))

    @contextmanager
    def holding(self, resolutions: Sequence[int]) -> Iterator[None]:
        """Keep the sets of untrained resolutions for all predictions inside a `with` block."""
        with ExitStack() as stack:
            for resolution in dict.fromkeys(resolutions):
                if self.batchnorm == "private" and not self._holds(resolution):
                    stack.enter_context(borrowed_set(self.network, resolution, self.unseen))
            yield

    def _holds(self, resolution: int | str) -> bool:
        sets = held_sets(self.network)
        if not isinstance(resolution, str):
            check_resolution(resolution)
        elif resolution not in sets:
            raise ValueError(f"no BatchNorm set is named {resolution!r}; there are {list(sets)}")
        return str(resolution) in sets

    def specialize(self, resolution: int | str) -> nn.Module:
        """Return the ordinary network of one resolution, see `rsseg.specialize`.

        With `output`, it is inside a small module that returns the logits, as its `network`.
        For a resolution that was not trained, the set is made by the rule `unseen`.
        """
        if self.batchnorm == "shared":
            return sharing_copy(self.network)
        if self._holds(resolution):
            return specialize(self.network, resolution)
        with borrowed_set(self.network, int(resolution), self.unseen):
            return specialize(self.network, resolution)

    def extra_repr(self) -> str:
        """Return what `print` shows of the network: resolutions and kind of BatchNorm."""
        norms = "" if self.norms == BATCH else f", norms={list(self.norms)}"
        positions = "" if self.positions == "shared" else f", positions={self.positions}"
        sides = list(self.resolutions)
        return f"resolutions={sides}, batchnorm={self.batchnorm}{norms}{positions}"
