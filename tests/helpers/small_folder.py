"""A folder of images and label PNGs, as small as can be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pictures


def write_folder(root: Path, values: NDArray[np.uint8], **lists: list[str]) -> Path:
    """Write a random image for every label map of `values`, shape (N, H, W), named a, b, c ..."""
    (root / "images").mkdir(parents=True)
    (root / "labels").mkdir()
    rng = np.random.default_rng(1)
    names = [chr(ord("a") + index) for index in range(len(values))]
    for name, label in zip(names, values, strict=True):
        pixels = rng.integers(0, 256, (*label.shape, 3), dtype=np.uint8)
        Pictures.fromarray(pixels).save(root / "images" / f"{name}.png")
        Pictures.fromarray(label).save(root / "labels" / f"{name}.png")
    for split, listed in ({"train": names, "test": names[:1]} | lists).items():
        (root / f"{split}.txt").write_text("\n".join(listed), encoding="utf-8")
    return root


def every_value(*values: int) -> NDArray[np.uint8]:
    """One label map, shape (1, H, W), in which just these values occur."""
    return np.resize(np.array(values, dtype=np.uint8), (1, 5, 11))
