"""A small tree of labelled images, written by the tests, and a configuration that reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pictures

from classification.config import ClassificationConfig
from rsseg.common.config import validate

CLASSES = ("ant", "bee", "cat")


def write_images(root: Path, *, train: int = 4, val: int = 3, side: int = 48) -> Path:
    """Write coloured noise: each class has a colour of its own, so that it can be learnt."""
    draw = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        for channel, name in enumerate(CLASSES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = draw.integers(0, 120, (side, side + 8 * index, 3), dtype=np.uint8)
                pixels[..., channel] += 100
                Pictures.fromarray(pixels).save(folder / f"{index}.png")
    return root


def image_config(root: Path, **values: Any) -> ClassificationConfig:
    """Settings of a run that takes a moment."""
    settings: dict[str, Any] = {
        "model": {"name": "test_resnet", "classes": len(CLASSES)},
        "resolutions": [48, 32],
        "data": {"root": str(root)},
        "epochs": 2,
        "batch_size": 4,
        "optim": {"lr": 0.05},
        "workers": 0,
        "device": "cpu",
    }
    return validate(ClassificationConfig, {**settings, **values}, "the test")


RUN = """
model: {{name: {model}, classes: 3}}
resolutions: [48, 40, 36, 32]
data: {{root: {root}}}
epochs: {epochs}
batch_size: 4
optim: {{lr: 0.02}}
workers: 0
device: cpu
"""


def write_run(folder: Path, epochs: int, model: str = "test_resnet") -> Path:
    """Write images below `folder`, and beside them the configuration of a run on them."""
    path = folder / "small.yaml"
    path.write_text(RUN.format(root=write_images(folder / "data"), epochs=epochs, model=model))
    return path
