"""Drawn answers of a classifier at three resolutions."""

from __future__ import annotations

import numpy as np

from rsseg.runtime.cascade.thresholds import Outcomes

SIDES = (32, 48, 64)


def outcomes(images: int, seed: int = 0, *, informative: bool = True) -> Outcomes:
    """Draw answers that are the likelier right the larger the margin, if it is informative."""
    rng = np.random.default_rng(seed)
    margins = rng.random((3, images)).astype(np.float32)
    chance = np.clip(margins + np.array([[0.1], [0.2], [0.4]]), 0, 1) if informative else 0.7
    return Outcomes(SIDES, (0.25, 0.5, 1.0), rng.random((3, images)) < chance, margins)
