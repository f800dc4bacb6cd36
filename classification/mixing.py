"""MixUp and CutMix over the views of all resolutions at once.

The mixing is torchvision's. What is added: all views of a batch are mixed with the same partner,
the same share and, for CutMix, the same rectangle relative to their size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from classification.config import ClassificationConfig
from rsseg.training.job import Mix


class RelativeCutMix(v2.CutMix):  # type: ignore[misc]
    """CutMix whose rectangle is drawn for the first image batch and scaled for the others."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the rectangle; the share of the labels is that of its area in the first batch."""
        first = next(value for value in flat_inputs if isinstance(value, tv_tensors.Image))
        params: dict[str, Any] = super().make_params([first])
        height, width = first.shape[-2:]
        left, top, right, bottom = params.pop("box")
        params["relative"] = (left / width, top / height, right / width, bottom / height)
        return params

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Mix one batch of images, or the labels."""
        if isinstance(inpt, tv_tensors.Image):
            height, width = inpt.shape[-2:]
            left, top, right, bottom = params["relative"]
            box = (left * width, top * height, right * width, bottom * height)
            params = {**params, "box": tuple(round(side) for side in box)}
        return super().transform(inpt, params)


def build_mix(config: ClassificationConfig) -> Mix | None:
    """Return what mixes the batches of a run, or None.

    What is drawn comes from torch's generator of the CPU, whose state is part of a checkpoint.
    """
    classes, mixing = config.model.classes, config.mixing
    choices = []
    if mixing.mixup:
        choices.append(v2.MixUp(alpha=mixing.mixup, num_classes=classes))
    if mixing.cutmix:
        choices.append(RelativeCutMix(alpha=mixing.cutmix, num_classes=classes))
    if not choices:
        return None

    def mix(views: Sequence[Tensor], target: Tensor) -> tuple[list[Tensor], Tensor]:
        index = int(torch.randint(len(choices), ())) if len(choices) > 1 else 0
        images = tuple(tv_tensors.Image(view) for view in views)
        mixed_views, shares = choices[index](images, target)
        return [view.as_subclass(Tensor) for view in mixed_views], shares

    return mix
