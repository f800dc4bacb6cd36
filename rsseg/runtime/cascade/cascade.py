"""Confidence cascade: the lowest resolution answers first, higher ones where it is not sure.

The measure is the softmax margin, the probability of the best class less that of the second.
Thresholds for a mean cost come from `thresholds`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image as Pictures

from rsseg.common.files import read_json
from rsseg.images.photo import Photo
from rsseg.images.preprocessing import Image
from rsseg.images.reading import as_rgb
from rsseg.runtime.prediction import Prediction
from rsseg.runtime.predictor import Predictor
from rsseg.runtime.stages import Stages, summed
from rsseg.switchable.resolutions import Resolutions


class Cascade:
    """A classifier that goes up to the next resolution while its margin is below a threshold.

    Args:
        predictor: The classifier.
        thresholds: For each resolution in use the margin from which its answer is taken, 0..1; the
            answer of the largest is always taken.

    Attributes:
        predictor: As above.
        thresholds: As above, from the smallest resolution to the largest.

    Raises:
        ValueError: If the predictor is not a classifier, or a resolution or threshold is not
            valid.
    """

    def __init__(self, predictor: Predictor, thresholds: Mapping[int, float]) -> None:
        if predictor.head.dense:
            raise ValueError(
                f"'{predictor.name}' is a network for {predictor.task}; a cascade needs a "
                "classifier, whose margin tells how sure it is"
            )
        self.predictor = predictor
        self.thresholds = check_thresholds(thresholds)
        largest, smallest = predictor.resolutions[0], predictor.resolutions[-1]
        outside = [r for r in self.thresholds if not smallest <= r <= largest]
        if outside:
            raise ValueError(
                f"the thresholds name resolution {', '.join(map(str, outside))}, but "
                f"'{predictor.name}' was trained for {smallest} to {largest}; choose them from its "
                "own evaluation"
            )

    @classmethod
    def open(cls, predictor: Predictor, path: str | Path) -> Cascade:
        """Open a cascade with the thresholds of a file of `rsseg cascade`.

        Raises:
            ValueError: If it is not such a file, or does not fit the predictor.
            OSError: If it cannot be read.
        """
        return cls(predictor, read_thresholds(Path(path)))

    def predict(self, image: Pictures.Image | Image | Photo) -> Prediction:
        """Classify one image.

        Args:
            image: A picture of Pillow, an array, RGB, uint8, shape (H, W, 3), or a photo.

        Returns:
            The answer that was sure enough; `ran` names every resolution that was computed, and
            the times are those of all.

        Raises:
            TypeError: If the image is of another type.
            ValueError: If the image cannot be read, or the network cannot take views of a size.
        """
        start = time.perf_counter()
        given = image if isinstance(image, Photo) else as_rgb(image)
        converting = Stages(decode=1000 * (time.perf_counter() - start))
        predictions: list[Prediction] = []
        for resolution, threshold in self.thresholds.items():
            predictions.append(self.predictor.predict(given, resolution))
            if predictions[-1].margin >= threshold:
                break
        return replace(
            predictions[-1],
            stages=summed([converting, *(prediction.stages for prediction in predictions)]),
            ran=tuple(prediction.resolution for prediction in predictions),
        )


def check_thresholds(thresholds: Mapping[int, float]) -> dict[int, float]:
    """Return thresholds from the smallest resolution to the largest, once they are checked.

    Raises:
        ValueError: If there is none, or a resolution or a threshold is not valid.
    """
    sides = Resolutions(sorted(thresholds, reverse=True))
    for resolution, threshold in thresholds.items():
        if not 0 <= threshold <= 1:
            raise ValueError(
                f"the threshold of resolution {resolution} is a margin, 0..1, got {threshold}"
            )
    return {side: float(thresholds[side]) for side in reversed(sides)}


def read_thresholds(path: Path) -> dict[int, float]:
    """Read the thresholds in a file of `rsseg cascade`.

    Raises:
        ValueError: If it is not such a file; names it.
        OSError: If it cannot be read.
    """
    content: Any = read_json(path)
    try:
        thresholds = {int(side): float(value) for side, value in content["thresholds"].items()}
        return check_thresholds(thresholds)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{path} holds no thresholds of a cascade ({error}); write it with `rsseg cascade`"
        ) from error
