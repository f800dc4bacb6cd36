"""Images on which 8-bit files measure the ranges of activations, and are compared afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from rsseg.analysis.features import find_samples
from rsseg.common.files import RunError, files_below
from rsseg.common.messages import counted, percent
from rsseg.images.crops import stack_images
from rsseg.images.preprocessing import Preprocessing
from rsseg.images.reading import IMAGE_SUFFIXES, image_size, open_picture, read_image
from rsseg.runtime.onnx.check import Run
from rsseg.runtime.protocol import Views
from rsseg.switchable.net import SwitchableNet

IMAGES: Final = 128  # of a folder, evenly spaced: ranges change little with more
_LEAST: Final = 8  # one image has no range to speak of
_COMPARED: Final = 64
_BATCH: Final = 16
_ONE_CHANNEL: Final = ("1", "I", "I;16", "L", "P")  # modes of Pillow that label maps have


@dataclass(frozen=True)
class Agreement:
    """How far the answers of a file of 8 bits are from those of PyTorch at one resolution.

    Attributes:
        resolution: Side of the views in pixels.
        images: Number of images.
        same: Share of the images, of a segmenter of the pixels, with the same most probable class.
        largest: Largest absolute difference of the logits.
        logits: Largest absolute value of the logits.
    """

    resolution: int
    images: int
    same: float
    largest: float
    logits: float

    def __str__(self) -> str:
        return (
            f"{self.resolution}: same class as PyTorch for {percent(self.same, unit=' %')} (of "
            f"{counted(self.images, 'image')}), largest difference {self.largest:.2g}, logits up "
            f"to {self.logits:.3g}"
        )


def calibration_images(folder: Path) -> list[Path]:
    """Return the image files to calibrate with, evenly spaced over those below a folder.

    Raises:
        ValueError: If it is not a folder, has too few images, or label maps among them.
    """
    want = "give a folder with some hundred images of the kind that the network will see"
    if not folder.is_dir():
        raise ValueError(f"cannot calibrate with {folder}, which is not a folder; {want}")
    try:
        images = find_samples(folder, IMAGES)
    except RunError as error:
        raise ValueError(f"there is no image in {folder} or its sub-folders; {want}") from error
    if len(images) < _LEAST:
        raise ValueError(
            f"cannot calibrate with {counted(len(images), 'image')} in {folder}, expected at least "
            f"{_LEAST}; {want}"
        )
    _check_no_label_maps(folder, images)
    return images


def _check_no_label_maps(folder: Path, images: Sequence[Path]) -> None:
    """Raise a ValueError if the images of a folder below are label maps of others.

    Its images are so if all of them are PNGs of one channel, and each has the name and the size of
    an image in colour elsewhere.
    """
    one_channel = {path for path in images if _has_one_channel_as_png(path)}
    folders = {path.parent for path in one_channel} - {
        path.parent for path in images if path not in one_channel
    }
    if not folders:
        return
    by_name: dict[str, list[Path]] = {}
    for path in files_below(folder):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            by_name.setdefault(path.stem, []).append(path)
    for place in sorted(folders):
        labels = [path for path in images if path.parent == place]
        photos = [_photo_of(path, by_name[path.stem]) for path in labels]
        if all(photos):
            raise ValueError(
                f"cannot calibrate with {folder}: {labels[0].relative_to(folder)} looks like the "
                f"label map of an image in it; give the folder of the images alone"
            )


def _has_one_channel_as_png(path: Path) -> bool:
    if path.suffix.lower() != ".png":
        return False
    with open_picture(path, "image") as picture:
        return picture.mode in _ONE_CHANNEL


def _photo_of(labels: Path, candidates: Sequence[Path]) -> Path | None:
    """Return the image in colour, of the size of a label map, among files of its name."""
    others = (path for path in candidates if path.parent != labels.parent)
    photos = (path for path in others if not _has_one_channel_as_png(path))
    return next((path for path in photos if image_size(path) == image_size(labels)), None)


@dataclass(frozen=True)
class CalibrationViews:
    """Batches of normalised views of image files.

    Args:
        images: The files.
        preprocessing: Of the network.
    """

    images: Sequence[Path]
    preprocessing: Preprocessing

    def batches(self, resolution: int, most: int | None = None) -> Iterator[Views]:
        """Yield the views at a resolution, of at most so many images, shape (B, 3, h, w).

        Raises:
            ValueError: If an image cannot be read.
        """
        images = self.images[:: -(-len(self.images) // most)] if most else self.images
        # Views that keep the aspect of their image have sizes of their own.
        size = 1 if self.preprocessing.fit == "aspect" else _BATCH
        with tqdm(total=len(images), desc=f"{resolution}", unit="img", leave=False) as bar:
            for start in range(0, len(images), size):
                batch = [
                    self.preprocessing.view(read_image(path), resolution)
                    for path in images[start : start + size]
                ]
                views: Views = self.preprocessing.normalise(stack_images(batch)).numpy()
                yield views
                bar.update(len(batch))


def agreement(net: SwitchableNet, run: Run, views: CalibrationViews, resolution: int) -> Agreement:
    """Compare a file with the network that it was made from, on images.

    Args:
        net: Network in evaluation mode on the CPU.
        run: From images, float32, shape (B, 3, h, w), to the file's logits.
        views: Of the images.
        resolution: A trained one.

    Raises:
        ValueError: If the file gives logits that are not finite.
    """
    same, largest, size, count = [], 0.0, 0.0, 0
    for batch in views.batches(resolution, _COMPARED):
        with torch.inference_mode():
            expected: NDArray[Any] = net.predict(torch.from_numpy(batch), resolution).numpy()
        logits = run(batch)
        if not np.isfinite(logits).all():
            raise ValueError(
                f"the exported network gives logits that are not finite at {resolution}; nothing "
                "was written"
            )
        same.append((logits.argmax(axis=1) == expected.argmax(axis=1)).mean(axis=0).mean())
        largest = max(largest, float(np.abs(logits - expected).max()))
        size = max(size, float(np.abs(expected).max()))
        count += len(batch)
    return Agreement(resolution, count, float(np.mean(same)), largest, size)
