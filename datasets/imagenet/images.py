"""Labelled images as every reader gives them: by index, with their classes, and a line about both.

Nothing here knows how the images are kept.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from datasets.samples import Split
from rsseg.classifiers.config import ImageDataConfig
from rsseg.common.messages import counted, listed
from rsseg.images.preprocessing import Image

UNLABELLED: Final = "no labels: the answers of the original take their place"
_NAMED: Final = 5  # classes that a summary names


class LabelledImages(ABC):
    """The images of one split, each with its class.

    Args:
        labels: Class of each image, shape (N,), 0..K-1.
        classes: Readable name of each class; empty where labels are not read, and are 0 then.
        layout: How the images are kept, for the summary.

    Attributes:
        labels, classes, layout: As above.
    """

    def __init__(self, labels: NDArray[np.int64], classes: tuple[str, ...], layout: str) -> None:
        self.labels, self.classes, self.layout = labels, classes, layout

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image, int]:
        """Read an image.

        Returns:
            The image, upright RGB, uint8, shape (H, W, 3), and its class.

        Raises:
            ValueError: If it is not an image, or damaged; names it.
            OSError: If its file cannot be opened; names it.
        """
        return self.read(index), int(self.labels[index])

    @abstractmethod
    def read(self, index: int) -> Image:
        """Read an image as RGB, uint8, shape (H, W, 3), upright; errors as of `__getitem__`."""

    @abstractmethod
    def name(self, index: int) -> str:
        """Return the name of an image, another for each."""


class Selection(LabelledImages):
    """Some of the images of a reader.

    Args:
        images: The reader.
        index: Which of its images, shape (N,).
        layout: How they are kept and which they are, for the summary.
    """

    def __init__(self, images: LabelledImages, index: NDArray[np.int64], layout: str) -> None:
        super().__init__(images.labels[index], images.classes, layout)
        self._images, self._index = images, index

    def read(self, index: int) -> Image:
        """Read an image, see `LabelledImages`."""
        return self._images.read(int(self._index[index]))

    def name(self, index: int) -> str:
        """Return the name of an image in the reader."""
        return self._images.name(int(self._index[index]))


def number_names(numbers: Sequence[str]) -> tuple[str, ...]:
    """Return names for classes that have numbers only.

    Example:
        >>> number_names(["7", "8"])
        ('class 7', 'class 8')
    """
    return tuple(f"class {number}" for number in numbers)


def limited(
    items: NDArray[Any], labels: NDArray[np.int64], split: Split, limit: int | None
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return items and labels; of training images at most `limit` of each class, spread over it.

    Args:
        items: Shape (N, ...).
        labels: Their classes, shape (N,).
        split: Test images are not limited.
        limit: Images of a class; None for all.
    """
    if split != "train" or limit is None:
        return items, labels
    kept = []
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        kept.append(own[np.linspace(0, len(own) - 1, min(limit, len(own))).astype(int)])
    index = np.sort(np.concatenate(kept))
    return items[index], labels[index]


def check_labels(images: LabelledImages, split: Split, data: ImageDataConfig) -> None:
    """Check that every class exists, and has a training image.

    Raises:
        ValueError: If not; names the first image, or the classes.
    """
    wrong = np.flatnonzero((images.labels < 0) | (images.labels >= len(images.classes)))
    if wrong.size:
        raise label_error(
            images.name(int(wrong[0])), int(images.labels[wrong[0]]), len(images.classes)
        )
    absent = [] if split == "test" else absent_classes(images)
    if absent and not data.allow_absent:
        raise ValueError(
            f"{len(absent)} of {counted(len(images.classes), 'class')} have no training image "
            f"({listed(absent)}); a network cannot learn them: add images, lower model.classes, or "
            "set data.allow_absent: true"
        )


def label_error(name: str, label: object, classes: int) -> ValueError:
    """Return the error for an image whose class is not one of K."""
    return ValueError(
        f"{name}: class {label!r}; expected a number 0 to {classes - 1}, as model.classes is "
        f"{classes}; correct its label, or model.classes"
    )


def absent_classes(images: LabelledImages) -> list[str]:
    """Return the names of the classes that have no image."""
    counts = np.bincount(images.labels, minlength=len(images.classes))
    return [name for name, count in zip(images.classes, counts, strict=True) if not count]


def summary_of(images: LabelledImages) -> str:
    """Return one line: layout, numbers of images and classes, shares of the classes."""
    if not images.classes:
        return f"{images.layout}, {counted(len(images), 'image')}, {UNLABELLED}"
    counts = np.bincount(images.labels, minlength=len(images.classes))
    shares = 100 * counts / max(1, counts.sum())
    small, large = int(counts.argmin()), int(counts.argmax())
    absent, classes = absent_classes(images), counted(len(images.classes), "class")
    parts = [
        f"{images.layout}, {counted(len(images), 'image')}, {classes}",
        f"a class has {shares[small]:.2g} % ({images.classes[small]}) to {shares[large]:.2g} % "
        f"({images.classes[large]}) of them",
        f"{counted(len(absent), 'class')} without an image ({listed(absent, _NAMED)})"
        if absent
        else "no class without an image",
        *_order_note(images.classes),
    ]
    return "; ".join(parts)


def _order_note(classes: Sequence[str]) -> list[str]:
    """Say in which order class folders stand whose names are numbers."""
    if all(name.isdecimal() for name in classes) and list(classes) != sorted(classes, key=int):
        return [f"classes in alphabetical order of their names: {', '.join(classes[:4])} ..."]
    return []
