"""Settings of labelled images and of their crops.

They stand here because `classification` and `datasets` share them and do not know each other.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from rsseg.common.config import STRICT, Count, Positive
from rsseg.images.reading import Decoder

Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class ImageDataConfig:
    """Where the images of each class are.

    Args:
        root: Folder that holds the folders of the splits.
        train: Folder of the training images below `root`: one folder for each class.
        val: Folder of the test images: one folder for each class, or flat as in ILSVRC, then
            with `val_labels`.
        names: File with the classes' names, one "FOLDER NAME" a line, or one name a line in the
            order of the folders; default: classes.txt in `root` if there is one, else the
            folders' names.
        val_labels: Ground truth of a flat folder: lines of "FILE FOLDER" or "FILE,FOLDER ...", or
            ILSVRC's numbers, one a line, with its meta.mat beside.
        limit: Use only so many training images of each class; default: all.
        decoder: "fast" decodes JPEG by simplejpeg, "pillow" everything by Pillow; the values are
            the same.
        resize_on: Where the views of training are resized from the crop: by the processes that
            load the images, or on the device of the network.
        max_unreadable: How many unreadable images are skipped, and counted, before the run stops.
    """

    root: str
    train: str = "train"
    val: str = "val"
    names: str | None = None
    val_labels: str | None = None
    limit: Count | None = None
    decoder: Decoder = "fast"
    resize_on: Literal["loader", "device"] = "loader"
    max_unreadable: Annotated[int, Field(ge=0)] = 0


@dataclass(frozen=True, config=STRICT, kw_only=True)
class CropConfig:
    """Random crop and flip of a training image.

    Args:
        area: Smallest and largest share of the image's area that is cropped.
        aspect: Smallest and largest ratio of the crop's width to its height.
        crops: "single" takes one crop for all resolutions, "per_resolution" one for each (Table
            6).
        flip: Share of images that are mirrored left to right.
        flips: "single" mirrors all resolutions of an image or none, "per_resolution" draws for
            each.
    """

    area: tuple[Share, Share] = (0.08, 1.0)
    aspect: tuple[Positive, Positive] = (3 / 4, 4 / 3)
    crops: Literal["single", "per_resolution"] = "single"
    flip: Share = 0.5
    flips: Literal["single", "per_resolution"] = "single"

    def __post_init__(self) -> None:
        for name, (low, high) in (("area", self.area), ("aspect", self.aspect)):
            if low > high or math.isclose(high, 0):
                raise ValueError(f"{name} must run from small to large, got {[low, high]}")
        if self.area[0] <= 0:
            raise ValueError(f"area must be above 0, got {list(self.area)}")
