"""What a reader of labelled images is: a sequence of samples, and the crops known by name.

Nothing here knows a file format.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from operator import index as as_index
from typing import Final, Literal, NamedTuple, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from rsseg.images.preprocessing import Image, LabelMap
from rsseg.segmentation.labels import LabelReading

Split = Literal["train", "test"]

# Rows and columns of a 640x480 frame, 0-based, the end excluded.
CROPS: Final[dict[str, tuple[int, int, int, int]]] = {
    "gupta": (45, 470, 40, 600),
    "toolbox": (44, 471, 40, 601),
    "border": (6, 474, 7, 632),
}


class Sample(NamedTuple):
    """One labelled image.

    Attributes:
        image: RGB, uint8, shape (H, W, 3).
        labels: Class of each pixel from 0, 255 for void, uint8, shape (H, W).
        name: Name of the image, without folder or suffix.
    """

    image: Image
    labels: LabelMap
    name: str


class Draw(NamedTuple):
    """One sample of an epoch: which one, and the seed of its random changes."""

    sample: int
    seed: int


class Reader(ABC):
    """A sequence of samples; reading one may raise ValueError or OSError with the file's name.

    Attributes:
        names: Name of each sample.
        classes: Name of each class; empty where there are no label maps.
        crop: Name of the crop, one of CROPS, or None for whole images.
        meaning: What the values of the label maps mean, in words.
        skipped: Images without label map that were left out.
        reading: The same as a configuration states it; None where no label files are read.
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    crop: str | None
    meaning: str
    skipped: int = 0
    reading: LabelReading | None = None

    @abstractmethod
    def read(self, index: int) -> Sample:
        """Read a sample at its full size; `index` is in 0..len - 1."""

    def read_labels(self, index: int) -> LabelMap:
        """Read the label map of a sample alone, cropped; `index` is in 0..len - 1."""
        return self[index].labels

    @abstractmethod
    def where(self, index: int) -> str:
        """Return where a sample lies, for messages."""

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: SupportsIndex) -> Sample:
        position = as_index(index)
        if not -len(self) <= position < len(self):
            raise IndexError(f"sample {position} of {len(self)}")
        position %= len(self)
        sample = self.read(position)
        return crop_sample(sample, self.crop, where=self.where(position)) if self.crop else sample

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))


def is_kept_for_test(name: str, share: float) -> bool:
    """Return whether a sample belongs to the test, by its name: new samples move no other."""
    digest = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(digest[:4], "big") < share * 2**32


def check_crop(crop: str | None) -> None:
    """Raise ValueError if the crop is not one of CROPS."""
    if crop is not None and crop not in CROPS:
        raise ValueError(f"unknown crop {crop!r}; the crops are {', '.join(CROPS)}, or None")


def crop_sample(sample: Sample, crop: str, *, where: str) -> Sample:
    """Return the named crop of a frame of 640x480 pixels.

    Raises:
        ValueError: If the frame has another size; `where` names it.
    """
    image, labels = (_cropped(part, crop, where) for part in (sample.image, sample.labels))
    return Sample(image, labels, sample.name)


def crop_labels(labels: LabelMap, crop: str | None, *, where: str) -> LabelMap:
    """Return the named crop of a label map, or all of it; see `crop_sample`."""
    return labels if crop is None else _cropped(labels, crop, where)


def _cropped(pixels: NDArray[np.uint8], crop: str, where: str) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    if (height, width) != (480, 640):
        raise ValueError(
            f"{where}: the crop {crop!r} is meant for frames of 640x480 pixels, this one has "
            f"{width}x{height}; set crop to None"
        )
    top, bottom, left, right = CROPS[crop]
    return np.ascontiguousarray(pixels[top:bottom, left:right])
