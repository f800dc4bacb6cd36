"""Layouts of images with a class each: made from drawn images, and read."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image as Pictures

from datasets.imagenet.reader import open_images
from datasets.samples import Split
from rsseg.classifiers.config import ImageDataConfig
from rsseg.common.config import validate
from rsseg.images.preprocessing import Image

CLASSES = ("ant", "bee", "cat")
_SPLITS: tuple[Split, ...] = ("train", "test")


class DrawnImage(NamedTuple):
    """An image with its class.

    Attributes:
        split: "train" or "test".
        stem: Its name, another for each.
        image: RGB, uint8, shape (H, W, 3).
        label: Its class, 0..2.
    """

    split: Split
    stem: str
    image: Image
    label: int


Make = Callable[[Path, Sequence[DrawnImage]], None]


@dataclass(frozen=True)
class ClassLayout:
    """A layout of images with a class each.

    Args:
        text: What it is, in words.
        make: Writes it into a folder.
        data: The settings that read it, below `data:`; {root} is the folder.
        init: What `datasets.init` makes of it: "yes", or "asks".
        informed: The same where the number of classes is given.
    """

    text: str
    make: Make
    data: Mapping[str, Any] = field(default_factory=dict)
    init: str = "yes"
    informed: str = "yes"


def draw_images(*, seed: int = 0, count: int = 24) -> list[DrawnImage]:
    """Draw images of all classes for both splits."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, 32, 40, 3), dtype=np.uint8)
    labels = rng.permutation(np.arange(count) % len(CLASSES)).tolist()
    splits: list[Split] = ["test" if index % 8 > 4 else "train" for index in range(count)]
    return [
        DrawnImage(split, f"{index:03d}", image, label)
        for index, (split, image, label) in enumerate(zip(splits, pixels, labels, strict=True))
    ]


def write_images(
    root: Path,
    samples: Sequence[DrawnImage],
    *,
    place: str = "{split}/{name}/{stem}.png",
    lists: Mapping[str, str] | None = None,
    line: str = "{place},{name}",
    first: int = 0,
) -> None:
    """Write images by a pattern, and lists of them.

    Args:
        root: The folder.
        samples: What is written.
        place: Pattern of the files.
        lists: File of the list of each split.
        line: Pattern of its lines; {number} is the class as a number.
        first: Number of the first class.
    """
    root.mkdir(parents=True, exist_ok=True)
    for sample in samples:
        values = _values(sample, first)
        path = root / place.format(**values)
        path.parent.mkdir(parents=True, exist_ok=True)
        Pictures.fromarray(sample.image).save(path)
        if lists:
            text = line.format(place=place.format(**values), **values)
            with (root / lists[sample.split]).open("a", encoding="utf-8") as file:
                file.write(f"{text}\n")


def _values(sample: DrawnImage, first: int) -> dict[str, str]:
    word = "val" if sample.split == "test" else "train"
    name, number = CLASSES[sample.label], str(sample.label + first)
    return {"split": word, "name": name, "stem": sample.stem, "number": number}


def write_tars(root: Path, samples: Sequence[DrawnImage], *, each_class: bool = False) -> None:
    """Write a tar file for each split, or for each class."""
    write_images(root / "files", samples, place="{split}/{name}/{stem}.png")
    for split in ("train", "val"):
        for name in CLASSES:
            folder = root / "files" / split / name
            target = root / split / f"{name}.tar" if each_class else root / f"{split}.tar"
            target.parent.mkdir(parents=True, exist_ok=True)
            with tarfile.open(target, "a") as tar:
                tar.add(folder, name)
    _remove(root / "files")


def write_shards(root: Path, samples: Sequence[DrawnImage], *, first: int = 0) -> None:
    """Write two shards of webdataset for each split."""
    place = "{split}-{shard}/{stem}"
    counts = {"train": 0, "test": 0}
    for sample in samples:
        values = {**_values(sample, first), "shard": str(counts[sample.split] % 2)}
        counts[sample.split] += 1
        path = root / "files" / place.format(**values)
        path.parent.mkdir(parents=True, exist_ok=True)
        Pictures.fromarray(sample.image).save(path.with_suffix(".png"))
        path.with_suffix(".cls").write_text(values["number"], encoding="utf-8")
    for folder in sorted((root / "files").iterdir()):
        with tarfile.open(root / f"{folder.name}.tar", "w") as tar:
            for file in sorted(folder.iterdir()):
                tar.add(file, file.name)
    _remove(root / "files")


def _remove(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()


def write_flat_test(root: Path, samples: Sequence[DrawnImage]) -> None:
    """Write class folders for training, and a flat folder with a list for the test."""
    train = [sample for sample in samples if sample.split == "train"]
    write_images(root, train)
    test = [sample for sample in samples if sample.split == "test"]
    lists = {"test": "val.txt"}
    write_images(root, test, place="val/{stem}.png", lists=lists, line="{stem}.png {name}")


_LISTS = {"train": "train.csv", "test": "val.csv"}
_ONE_LIST = {"train": "labels.csv", "test": "labels.csv"}
_SHARE = {"test_share": 0.2}

IMAGE_LAYOUTS: dict[str, ClassLayout] = {
    "class_folders": ClassLayout(
        "SPLIT/CLASS/NAME", write_images, {"root": "{root}", "train": "train", "val": "val"}
    ),
    "unsplit_folders": ClassLayout(
        "CLASS/NAME, no split",
        partial(write_images, place="{name}/{stem}.png"),
        {"root": "{root}", "train": ".", **_SHARE},
    ),
    "list_of_names": ClassLayout(
        "lists of images and names of classes",
        partial(write_images, place="images/{stem}.png", lists=_LISTS),
        {"root": "{root}", "train": "train.csv", "val": "val.csv"},
    ),
    "one_list": ClassLayout(
        "one list, no split",
        partial(write_images, place="images/{stem}.png", lists=_ONE_LIST),
        {"root": "{root}", "train": "labels.csv", **_SHARE},
    ),
    "list_from_0": ClassLayout(
        "lists of images and numbers from 0",
        partial(write_images, place="images/{stem}.png", lists=_LISTS, line="{place} {number}"),
        {"root": "{root}", "train": "train.csv", "val": "val.csv"},
        init="asks",
    ),
    "list_from_1": ClassLayout(
        "lists of images and numbers from 1",
        partial(
            write_images,
            place="images/{stem}.png",
            lists=_LISTS,
            line="{place},{number}",
            first=1,
        ),
        {"root": "{root}", "train": "train.csv", "val": "val.csv", "label_offset": 1},
        init="asks",
    ),
    "flat_test": ClassLayout(
        "class folders to train, a flat folder with a list to test",
        write_flat_test,
        {"root": "{root}", "train": "train", "val": "val", "val_labels": "val.txt"},
    ),
    "tar": ClassLayout(
        "a tar file for each split",
        write_tars,
        {"root": "{root}", "train": "train.tar", "val": "val.tar"},
    ),
    "tar_of_class": ClassLayout(
        "a tar file for each class",
        partial(write_tars, each_class=True),
        {"root": "{root}", "train": "train", "val": "val"},
    ),
    "shards": ClassLayout(
        "shards of webdataset",
        write_shards,
        {"root": "wds/{root}", "train": "train-{0..1}.tar", "val": "val-{0..1}.tar"},
        init="asks",
    ),
}
NEEDS_WEBDATASET = ("shards",)


def settings_of_images(layout: ClassLayout, root: Path) -> ImageDataConfig:
    """Return the settings that read a layout."""
    settings = {**layout.data, "root": str(layout.data["root"]).replace("{root}", str(root))}
    return validate(ImageDataConfig, settings, "layout")


def same_classes(data: ImageDataConfig, classes: int, samples: Sequence[DrawnImage]) -> bool:
    """Return whether every image is in one split, with its pixels and its class."""
    truth = {sample.stem: sample for sample in samples}
    seen: list[str] = []
    for split in _SPLITS:
        images = open_images(data, split, classes)
        for index in range(len(images)):
            pixels, label = images[index]
            stem = images.name(index).rpartition("/")[2].removesuffix(".png")
            # A split that is drawn by the names may be another than the drawn one.
            is_split = data.test_share is not None or truth[stem].split == split
            if not is_split or label != truth[stem].label:
                return False
            if not np.array_equal(pixels, truth[stem].image):
                return False
            seen.append(stem)
    return sorted(seen) == sorted(truth)
