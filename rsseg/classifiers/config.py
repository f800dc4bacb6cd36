"""Settings of labelled images and of their crops.

They stand here because `classification` and `datasets` share them and do not know each other.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from rsseg.common.config import STRICT, Count, Positive, Share
from rsseg.images.reading import Decoder


@dataclass(frozen=True, config=STRICT, kw_only=True)
class ImageDataConfig:
    """Where the images of each class are; docs/OWN_DATA.md shows every layout.

    Args:
        root: Folder that holds the splits; or "hfds/NAME", a data set of Hugging Face (name or
            folder), "wds/FOLDER", shards of webdataset (folder or URL), "tfds/NAME", a data set of
            TensorFlow Datasets.
        train: The training images below `root`: a folder with one folder for each class, a tar
            file of such folders, a folder of tar files, one for each class, or a list (csv, tsv,
            txt) of images and classes; of a reader the name of the split or of the shards.
        val: The test images, likewise; besides, a flat folder as in ILSVRC, with `val_labels`.
        test_share: In place of `val`: share of the images of `train` that are kept for the test,
            chosen by a hash of their names, the same ones at every run.
        names: File with the classes' names, one "CLASS NAME" a line, or one name a line in the
            order of the classes; default: classes.txt in `root` if there is one, else the
            names of the folders, or "class 7" for a number.
        val_labels: Ground truth of a flat folder: lines of "FILE FOLDER" or "FILE,FOLDER ...", or
            ILSVRC's numbers, one a line, with its meta.mat beside.
        label_offset: Number of the first class where classes are given as numbers; needed only
            where the numbers prove neither 0 nor 1.
        allow_absent: Whether a class may have no training image.
        image_key: Column of the images, for "hfds/" and "tfds/"; default: image.
        label_key: Column of the classes, for "hfds/" and "tfds/", or field of the json file beside
            each image, for "wds/"; default: label, or the cls file beside each image.
        limit: Use only so many training images of each class, or of all where their labels are
            not read; default: all.
        decoder: "fast" decodes JPEG by simplejpeg, "pillow" everything by Pillow; the values are
            the same.
        resize_on: Where the views of training are resized from the crop: by the processes that
            load the images, or on the device of the network.
        max_unreadable: How many unreadable images are skipped, and counted, before the run stops.
    """

    root: str
    train: str = "train"
    val: str = "val"
    test_share: Annotated[float, Field(gt=0, lt=1)] | None = None
    names: str | None = None
    val_labels: str | None = None
    label_offset: Literal[0, 1] | None = None
    allow_absent: bool = False
    image_key: str | None = None
    label_key: str | None = None
    limit: Count | None = None
    decoder: Decoder = "fast"
    resize_on: Literal["loader", "device"] = "loader"
    max_unreadable: Annotated[int, Field(ge=0)] = 0

    def __post_init__(self) -> None:
        if self.test_share is None:
            return
        if self.val != "val" or self.val_labels is not None:
            key = "val" if self.val != "val" else "val_labels"
            raise ValueError(
                f"{key} is of the test images, and test_share takes them from train; leave one out"
            )
        if self.reader in ("wds", "tfds"):
            raise ValueError(
                f"test_share needs images by index, {self.root} is a stream; leave it out, and "
                "name the test images in val"
            )

    @property
    def reader(self) -> Literal["files", "hfds", "wds", "tfds"]:
        """What reads the images; a folder whose name is a reader's can be given as "./wds"."""
        prefix, slash, _ = self.root.partition("/")
        names: tuple[Literal["hfds", "wds", "tfds"], ...] = ("hfds", "wds", "tfds")
        return next((name for name in names if slash and name == prefix.lower()), "files")

    @property
    def source(self) -> str:
        """`root` without the name of the reader."""
        return self.root if self.reader == "files" else self.root.partition("/")[2]


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
