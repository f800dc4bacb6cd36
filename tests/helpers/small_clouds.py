"""Image files with something in them: clouds, not noise, each with a range of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image as Pictures


def write_clouds(folder: Path, count: int = 8) -> Path:
    """Write `count` images, 8 at most, and return their folder."""
    rng = np.random.default_rng(0)
    for index in range(count):
        pixels = rng.integers(0, 32 * (index + 1), (6, 7, 3), dtype=np.uint8)
        Pictures.fromarray(pixels).resize((90, 80)).save(folder / f"{index}.png")
    return folder
