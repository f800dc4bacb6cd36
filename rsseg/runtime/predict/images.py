"""Image files that are predicted: found, checked, and timed without what is paid only once.

What is done with the answers is in `classify` and `segment`. Readers of data sets, with their
splits and layouts, live with the data sets.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar

import numpy as np

from rsseg.images.photo import Photo
from rsseg.images.preprocessing import Image
from rsseg.images.reading import IMAGE_SUFFIXES, image_size
from rsseg.runtime.prediction import Prediction
from rsseg.runtime.predictor import Predictor
from rsseg.runtime.stages import Stages, stage_titles
from rsseg.switchable.resolutions import Resolutions

_TIMED_PASSES: Final = 5
_UNENCODED: Final = -1  # The last stage: classes are printed, or written all at once.
_SMALL: Final = (48, 64)  # height and width of an image that warms up
_Value = TypeVar("_Value", bound=Hashable)


class TimedPredictor:
    """Predicts image files with times that repeat.

    The network is timed once for each resolution and size of the view, as the median of a few
    passes after one that warms up: making the BatchNorm set of an untrained resolution is no part
    of it. The other stages (decoding, the view, the label map) are those of each image.

    Args:
        predictor: The network.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self._network_ms: dict[tuple[int, tuple[int, int]], float] = {}

    def predict(self, image: Image | Photo, resolution: int) -> Prediction:
        """Predict an image at a resolution.

        Args:
            image: RGB, uint8, shape (H, W, 3), or a photo.
            resolution: Side of the view in pixels.

        Returns:
            The answer. Of its stages that of the network is the median, the others are what they
            have taken.

        Raises:
            ValueError: As `Predictor.predict`.
        """
        if not self._network_ms:  # What the first prediction of a process loads is no image's.
            self.predictor.predict(np.zeros((*_SMALL, 3), np.uint8), resolution)
        prediction = self.predictor.predict(image, resolution)
        size = image.size if isinstance(image, Photo) else image.shape[:2]
        key = resolution, self.predictor.preprocessing.size(resolution, *size)
        if key not in self._network_ms:  # The prediction has warmed up.
            times = self.predictor.network_times(image, resolution, passes=_TIMED_PASSES)
            self._network_ms[key] = statistics.median(times)
        return replace(prediction, stages=replace(prediction.stages, network=self._network_ms[key]))


def time_titles(*, dense: bool) -> list[str]:
    """Return the titles of the times in a table, of a segmenter (`dense`) or a classifier."""
    return ["total ms", *stage_titles(dense=dense)][: None if dense else _UNENCODED]


def time_cells(stages: Stages, *, dense: bool) -> list[str]:
    """Return the times of an answer as text, in the order of `time_titles`."""
    cells = [f"{value:.1f}" for value in (stages.total, *stages.rounded(3).values())]
    return cells[: None if dense else _UNENCODED]


def find_images(places: Sequence[Path]) -> list[Path]:
    """Return the images in files and folders, each once.

    Folders are searched for image suffixes, not their sub-folders, in the order of the names.

    Raises:
        ValueError: If a place does not exist, or a folder holds no image.
    """
    images: list[Path] = []
    for place in places:
        if not place.exists():
            raise ValueError(f"{place} does not exist; give image files or folders with images")
        inside = sorted(filter(_is_image, place.iterdir())) if place.is_dir() else [place]
        if not inside:
            known = " ".join(IMAGE_SUFFIXES)
            raise ValueError(f"the folder {place} holds no image (searched for {known})")
        images += inside
    return list(dict.fromkeys(images))


def _is_image(path: Path) -> bool:
    # Hidden files with an image's suffix are notes of a file manager, not images.
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def check_images(images: Sequence[Path]) -> None:
    """Check image files before the first one is predicted; only their beginnings are read.

    Raises:
        ValueError: If there is none, or one is not an image.
        OSError: If one cannot be opened.
    """
    if not images:
        raise ValueError("no image given; give image files or folders with images")
    for image in images:
        image_size(image)


def check_distinct(resolutions: Sequence[int]) -> None:
    """Check the resolutions of a prediction.

    Raises:
        ValueError: If they are not valid, or one is given twice.
    """
    twice = repeated(Resolutions(resolutions))
    if twice is not None:
        raise ValueError(f"resolution {twice} is given twice; give each once")


def repeated(values: Iterable[_Value]) -> _Value | None:
    """Return the first value that occurs twice, or None."""
    return next((value for value, count in Counter(values).items() if count > 1), None)
