"""Folders of images with a class: recognised, counted, and their configuration."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from datasets.imagenet.labels import is_image
from datasets.init.layout import SPLIT_WORDS
from datasets.samples import Split
from rsseg.images.reading import image_size

_LOOKED_AT: Final = 200  # images whose sizes are read


class ImageFolders(NamedTuple):
    """Images in a folder for each class.

    Attributes:
        train: Folder of the training images below the root.
        val: That of the test images; None if there is none.
        classes: Number of class folders.
        counts: Images of each class, in the order of their names, shape (K,).
        shorter_side: The median of some images' shorter sides in pixels.
    """

    train: str
    val: str | None
    classes: int
    counts: tuple[int, ...]
    shorter_side: int


def find_image_folders(root: Path) -> ImageFolders | None:
    """Return the class folders in a folder; None if it does not hold images sorted by class."""
    folders: dict[Split, str] = {}
    for name in _subfolders(root):
        split = SPLIT_WORDS.get(name.lower())
        # Of val and test, the one to look at while developing is val.
        if split and (split not in folders or name.lower().startswith("val")):
            folders[split] = name
    train = folders.get("train")
    counts = _counts(root / train) if train else {}
    if train is None or len(counts) < 2 or not all(counts.values()):
        return None
    every = [path for name in counts for path in _images(root / train / name)]
    sizes = [image_size(path) for path in every[:: max(1, len(every) // _LOOKED_AT)]]
    side = int(np.median([min(size) for size in sizes]))
    return ImageFolders(train, folders.get("test"), len(counts), tuple(counts.values()), side)


def _subfolders(root: Path) -> list[str]:
    with os.scandir(root) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if is_image(path.name))


def _counts(folder: Path) -> dict[str, int]:
    return {name: len(_images(folder / name)) for name in _subfolders(folder)}


def image_configuration(root: Path, found: ImageFolders, out: Path) -> Iterator[str]:
    """Yield the lines of the configuration of a classifier."""
    largest = min(224, max(32, 32 * (found.shorter_side // 32)))
    resolutions = list(dict.fromkeys(32 * max(1, round(largest * s / 32)) for s in (1, 0.72, 0.43)))
    smallest, most = min(found.counts), max(found.counts)
    yield f"# {found.classes} classes of {smallest} to {most} training images in class folders"
    yield f"# python -m datasets.check {out}    # read every image once"
    yield f"# python train_cls.py {out}"
    yield "data:"
    yield f"  root: {root}"
    yield f"  train: {found.train}"
    if found.val is None:
        yield "  # QUESTION: there are no test images; name their folder:"
        yield "  # val: val"
    else:
        yield f"  val: {found.val}"
    yield f"model: {{name: resnet18, classes: {found.classes}}}"
    yield "  # weights: imagenet downloads its weights; a file or a folder starts from yours."
    yield f"resolutions: {resolutions}"
    yield "epochs: 90"
    yield f"batch_size: {max(2, min(64, sum(found.counts)))}"
    yield "optim: {lr: 0.05, momentum: 0.9, weight_decay: 1.0e-4}"
    yield "schedule: {kind: cosine, warmup_epochs: 1}"
    yield ""
