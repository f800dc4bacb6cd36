"""Mean and std of a run that starts from weights: those that the weights were trained with."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TypeVar

from rsseg.common.distributed import is_main_process, warn_first
from rsseg.training.config import RunConfig
from rsseg.weights.record import Record, text_of

C = TypeVar("C", bound=RunConfig)
KEYS = ("preprocessing.mean", "preprocessing.std")


def with_normalisation(config: C, record: Record | None, *, given: bool) -> C:
    """Return the settings with the mean and std that the weights were trained with.

    What the user has set is kept, with a warning if it differs.

    Args:
        config: Settings of a run that begins.
        record: What the weights say, None if they say nothing.
        given: Whether the user has set mean or std.
    """
    images = config.preprocessing
    if record is None or not record.differs(images.mean, images.std):
        return config
    own = text_of(images.mean, images.std)
    if given or not record.certain:
        own = f"preprocessing has {own}" if given else f"preprocessing has its defaults, {own}"
        warn_first(
            f"{own}, but the weights {'' if record.certain else 'may '}"
            f"have been trained with {record}; set preprocessing.mean and preprocessing.std to "
            "what the weights were trained with"
        )
        return config
    if is_main_process():
        print(f"preprocessing: {record}", file=sys.stderr)
    images = replace(images, mean=record.mean, std=record.std)
    return replace(config, preprocessing=images)
