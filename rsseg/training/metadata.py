"""The one record of a run's metadata, as its checkpoints hold it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Any, Literal

import torch
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from rsseg.common.builder import Builder
from rsseg.common.config import plain, validate
from rsseg.images.preprocessing import PHOTO_SIZE, Preprocessing
from rsseg.switchable.complexity import count_macs
from rsseg.switchable.net import SwitchableNet
from rsseg.switchable.norms import BATCH, Norm
from rsseg.switchable.outputs import Output
from rsseg.switchable.positions import Positions
from rsseg.switchable.resolutions import Resolutions, set_names


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="ignore"))
class RunMetadata:
    """The metadata of a checkpoint's network, and of its results.

    Args:
        task: Name of the head, a key of `rsseg.load.HEADS`.
        model: Settings of the network, as the head's `network` takes them; empty with `builder`.
        builder: What builds a network that has no name here; run only where that is allowed.
        output: Where the logits are among what the network returns, see `SwitchableNet`.
        resolutions: Sides that it is trained for in pixels, from large to small.
        preprocessing: How it reads images.
        batchnorm: "private" or "shared".
        norms: The kinds of norms that this is about.
        positions: Whether tables of positions are "private" as well, or "shared".
        classes: Names of its classes, in the order of the logits.
        name: Its name in pictures and tables; None takes the name of the run's folder.
        imported: Name of the published file that the weights are from; its classes are unnamed.
        data: Plain values that distinguish one data set from another.
        config: Settings of the whole run, as plain values.
        parameters: Numbers in the network.
        batchnorm_parameters: Of these, gamma and beta of all sets, and of shared BatchNorms.
        macs: Multiply-adds by name of the BatchNorm set.
        versions: Versions of the libraries by name.
        epoch: Complete epochs.
        chosen: Why this state of the run was kept.
        weights: Digest of the tensors, see `state_digest`; files made of a checkpoint keep its own.
    """

    task: str
    model: dict[str, Any]
    resolutions: Resolutions
    preprocessing: Preprocessing
    batchnorm: Literal["private", "shared"] = "private"
    norms: tuple[Norm, ...] = BATCH
    positions: Positions = "shared"
    classes: tuple[str, ...] = ()
    name: str | None = None
    imported: str | None = None
    data: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    parameters: int | None = None
    batchnorm_parameters: int | None = None
    macs: dict[str, int] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=lambda: {"torch": str(torch.__version__)})
    epoch: int | None = None
    chosen: str | None = None
    weights: str | None = None
    builder: Builder | None = None
    output: Output | None = None

    @classmethod
    def read(cls, values: dict[str, Any], source: str) -> RunMetadata:
        """Read the record from plain values; fields that later versions added are ignored.

        Raises:
            ConfigError: If something is missing or not valid; names `source`.
        """
        return validate(cls, values, source)

    def plain(self) -> dict[str, Any]:
        """Return plain values, as in checkpoints and JSON, without the fields that are None."""
        return {key: value for key, value in plain(self).items() if value is not None}


def macs_by_set(
    net: SwitchableNet, preprocessing: Preprocessing, resolutions: Sequence[int]
) -> dict[str, int]:
    """Count the multiply-adds at each resolution; with the fit "aspect", of an image of 4:3.

    Args:
        net: The network.
        preprocessing: From an image to a view.
        resolutions: Sides of the views in pixels.

    Returns:
        Multiply-adds by name of the BatchNorm set.
    """
    shapes = [preprocessing.size(side, *PHOTO_SIZE) for side in resolutions]
    return {
        name: count_macs(net, shape)
        for name, shape in zip(set_names(resolutions), shapes, strict=True)
    }
