"""What the images of a layout are: numbers of each class, sizes, mean colour, unreadable files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from datasets.imagenet.images import LabelledImages
from datasets.imagenet.reader import open_images
from datasets.init.image_layout import ImageLayout
from datasets.samples import Split
from rsseg.classifiers.config import ImageDataConfig
from rsseg.images.preprocessing import Image

_LOOKED_AT: Final = 256  # images of a split that are read
_ROWS: Final = 16  # classes on the contact sheet
_COLUMNS: Final = 5  # images of a class there
Item = TypeVar("Item")


@dataclass
class Measures:
    """The images of both splits.

    Attributes:
        classes: Names of the classes.
        counts: Images of each class in each split that was opened, shape (K,).
        sizes: Width and height of the images that were read.
        colour: Their mean colour, RGB, 0..1.
        read: How many were read.
        unreadable: Why some of them could not be.
        rows: Some classes with some of their training images, for the contact sheet.
    """

    classes: tuple[str, ...] = ()
    counts: dict[Split, NDArray[np.int64]] = field(default_factory=dict)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    colour: tuple[float, float, float] = (0.0, 0.0, 0.0)
    read: int = 0
    unreadable: list[str] = field(default_factory=list)
    rows: list[tuple[str, list[Image]]] = field(default_factory=list)

    @property
    def shorter_side(self) -> int:
        """The median of the images' shorter sides in pixels."""
        return int(np.median([min(size) for size in self.sizes.elements()]))


def spread(items: Sequence[Item], most: int) -> Sequence[Item]:
    """Return at most so many items, spread over all.

    Example:
        >>> spread(range(10), 3), spread("ab", 5)
        ([0, 4, 9], ['a', 'b'])
    """
    places = np.linspace(0, len(items) - 1, min(most, len(items))).astype(int)
    return [items[place] for place in places]


def mean_colour(images: Sequence[Image]) -> tuple[float, float, float]:
    """Return the mean of the mean colours of images, RGB, 0..1."""
    means = [image.reshape(-1, 3).mean(axis=0) / 255 for image in images]
    red, green, blue = np.mean(means, axis=0).tolist()
    return red, green, blue


def measure_images(layout: ImageLayout) -> Measures:
    """Count the images of a layout and read some of them, spread over all.

    Raises:
        ValueError: If a split cannot be opened, or no image can be read.
        OSError: If a file is missing.
        ImportError: If a library that reads them is not installed.
    """
    measures, colours = Measures(), []
    for split, data in _splits(layout).items():
        images = open_images(data, split, layout.classes.count)
        measures.classes = images.classes
        measures.counts[split] = np.bincount(images.labels, minlength=len(images.classes))
        for index in tqdm(spread(range(len(images)), _LOOKED_AT), f"reading {split}", delay=2):
            measures.read += 1
            try:
                image = images.read(index)
            except (ValueError, OSError) as error:
                measures.unreadable.append(str(error))
                continue
            measures.sizes[image.shape[1], image.shape[0]] += 1
            colours.append(mean_colour([image]))
        if split == "train":
            measures.rows = class_rows(images)
    if not colours:
        raise ValueError(f"no image can be read, such as {measures.unreadable[0]}")
    red, green, blue = np.mean(colours, axis=0).tolist()
    measures.colour = red, green, blue
    return measures


def _splits(layout: ImageLayout) -> dict[Split, ImageDataConfig]:
    """Return the settings that open each split that is known, or the first offer for training."""
    data: dict[str, Any] = {**layout.data, "allow_absent": True}
    data["label_offset"] = layout.classes.offset
    has_test = "val" in data or "test_share" in data
    if "train" not in data:
        data |= next(offer for offer in layout.offers if "train" in offer)
    config = ImageDataConfig(root=layout.root, **data)
    return {"train": config, "test": config} if has_test else {"train": config}


def class_rows(images: LabelledImages) -> list[tuple[str, list[Image]]]:
    """Return captions and images of some classes, for a contact sheet of them.

    Images that cannot be read are left out.
    """
    rows = []
    for label in spread(range(len(images.classes)), _ROWS):
        own = np.flatnonzero(images.labels == label)
        pictures = []
        for index in spread(own.tolist(), _COLUMNS):
            try:
                pictures.append(images.read(index))
            except (ValueError, OSError):
                continue  # It is counted where all images are looked at.
        rows.append((f"{label} {images.classes[label]} ({len(own)})", pictures))
    return rows
