"""How the images were normalised that weights have been trained with, as far as they say so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import timm

Channels = tuple[float, float, float]
_TOLERANCE: Final = 1e-3  # Between 0.456 and 0.4560; of ImageNet's values the third place counts.


@dataclass(frozen=True)
class Record:
    """The normalisation that weights were trained with.

    Args:
        mean: Of RGB images in 0..1.
        std: Of the same.
        source: Who says so, for messages.
        certain: Whether it is of these weights, not of others for the same network.
    """

    mean: Channels
    std: Channels
    source: str
    certain: bool = True

    def differs(self, mean: Sequence[float], std: Sequence[float]) -> bool:
        """Return whether another normalisation is not the same."""
        pairs = zip((*self.mean, *self.std), (*mean, *std), strict=True)
        return any(abs(own - other) > _TOLERANCE for own, other in pairs)

    def __str__(self) -> str:
        return f"{text_of(self.mean, self.std)} ({self.source})"


def text_of(mean: Sequence[float], std: Sequence[float]) -> str:
    """Return a normalisation as it is written in YAML.

    Example:
        >>> text_of((0.5, 0.5, 0.5), (0.25, 0.5, 0.5))
        'mean [0.5, 0.5, 0.5], std [0.25, 0.5, 0.5]'
    """
    texts = (", ".join(f"{value:g}" for value in values) for values in (mean, std))
    return "mean [{}], std [{}]".format(*texts)


def record_of(values: Mapping[str, Any], source: str) -> Record | None:
    """Return the record in settings of images, None if they hold none.

    Args:
        values: With "mean" and "std", as timm's `pretrained_cfg`, or with "image_mean" and
            "image_std"; of segmentation-models-pytorch also "input_range".
        source: Who says so.
    """
    mean, std = (values.get(key, values.get(f"image_{key}")) for key in ("mean", "std"))
    if not (_are_channels(mean) and _are_channels(std)):
        return None
    limits = values.get("input_range") or (0, 1)
    scale = 255.0 if max(limits) > 1 else 1.0
    red, green, blue = (float(value) / scale for value in mean)
    parts = [float(value) / scale for value in std]
    return Record((red, green, blue), (parts[0], parts[1], parts[2]), source)


def _are_channels(values: object) -> bool:
    return (
        isinstance(values, list | tuple)
        and len(values) == 3
        and all(isinstance(value, int | float) for value in values)
    )


def usual_record(name: str) -> Record | None:
    """Return the record of timm's own weights for a network, for weights that say nothing."""
    record = timm_record(name)
    return None if record is None else replace(record, certain=False)


def timm_record(name: str) -> Record | None:
    """Return the record of the weights that timm has for a network; downloads nothing.

    Args:
        name: Of timm, with or without the tag of the weights ("resnet18.a1_in1k").
    """
    cfg = timm.get_pretrained_cfg(name, allow_unregistered=True)
    if cfg is None or not (cfg.hf_hub_id or cfg.url):  # No weights, so nothing that says.
        return None
    return record_of({"mean": cfg.mean, "std": cfg.std}, f"timm's record of {name}")
