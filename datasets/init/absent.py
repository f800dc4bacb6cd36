"""Classes without a training pixel: a training refuses them unless that is stated to be so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from datasets.init.values import Choice, Values
from datasets.label_counts import count_labels
from datasets.segmentation import open_reader
from rsseg.common.config import validate
from rsseg.segmentation.config import DataConfig


def absent_in_training(data: str, choice: Choice, values: Values) -> list[str]:
    """Return the names of the classes without a pixel in the training samples.

    Args:
        data: The block `data` of a configuration, YAML.
        choice: What the label maps mean.
        values: What some label maps hold: it decides where the training cannot be opened.
    """
    settings: dict[str, Any] = yaml.safe_load(data)["data"]
    try:
        reader = open_reader(validate(DataConfig, settings, "data"), "train", choice.classes)
        counts = count_labels(reader)
    except (ValueError, OSError):  # A test share that is too small, for example.
        return [f"class {index}" for index in choice.absent(values)]
    return counts.absent(reader.classes) if counts.maps else []


def absent_in_every(choices: Sequence[Choice], values: Values) -> int:
    """Return how many classes have no pixel at least, whichever choice is right."""
    return min((len(choice.absent(values)) for choice in choices), default=0)
