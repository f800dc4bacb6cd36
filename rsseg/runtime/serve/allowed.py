"""Which resolutions a client may ask for.

Trained ones, and sizes between them in steps that the network can take. None outside: a view far
larger than the largest would cost as much as many requests.
"""

from __future__ import annotations

from typing import Final

from rsseg.runtime.budget.measure import drawn_image
from rsseg.runtime.predictor import Predictor

STEPS: Final = (16, 32)  # Encoders of segmenters halve an image up to five times.


def allowed_resolutions(predictor: Predictor) -> tuple[int, ...]:
    """List the resolutions that may be asked for, smallest first.

    Args:
        predictor: The network; it predicts once or twice to find out.
    """
    trained = predictor.resolutions
    smallest, largest = trained[-1], trained[0]
    image = drawn_image()
    for step in STEPS:
        between = [r for r in range(step, largest, step) if smallest < r and r not in trained]
        if between and _takes(predictor, image, between[0]):
            return tuple(sorted({*trained, *between}))
    return tuple(sorted(trained))


def _takes(predictor: Predictor, image: object, resolution: int) -> bool:
    try:
        predictor.predict(image, resolution)  # type: ignore[arg-type]
    except ValueError:
        return False
    return True
