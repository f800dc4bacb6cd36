"""Reader of labelled images: one folder for each class, or ILSVRC's flat folder with its labels.

A class is a folder, and its index the folder's place in alphabetical order among those of the
training images. Which views are cut from an image, and how batches are made of them, is decided
elsewhere; so is what becomes of unreadable images.

Source: Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge", IJCV 2015,
https://arxiv.org/abs/1409.0575.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from datasets.imagenet.labels import is_image, read_class_names, read_flat_labels
from datasets.samples import Split
from rsseg.classifiers.config import ImageDataConfig
from rsseg.common.messages import listed
from rsseg.images.preprocessing import Image
from rsseg.images.reading import Decoder, read_image


class LabelledImages:
    """The images of one split: paths, labels, class names.

    Paths and labels are two arrays, not a million objects: worker processes share their pages.

    Args:
        folder: Folder of the split.
        names: Paths of the images below it, UTF-8 with "/", shape (N,).
        labels: Class of each image, shape (N,), 0..K-1.
        classes: Readable name of each class.
        decoder: See `read_image`.

    Attributes:
        classes: As above.
        labels: As above.
    """

    def __init__(
        self,
        folder: Path,
        names: NDArray[np.bytes_],
        labels: NDArray[np.int64],
        classes: tuple[str, ...],
        *,
        decoder: Decoder = "fast",
    ) -> None:
        self.classes, self.labels = classes, labels
        self._decoder: Decoder = decoder
        self._folder, self._names = folder, names

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image, int]:
        """Read an image.

        Returns:
            The image, upright RGB, uint8, shape (H, W, 3), and its class.

        Raises:
            ValueError: If the file is not an image, or damaged; names the file.
            OSError: If it cannot be opened; names the file.
        """
        return read_image(self.path(index), decoder=self._decoder), int(self.labels[index])

    def name(self, index: int) -> str:
        """Path of an image below the folder of its split, with "/" on every system."""
        return str(self._names[index].decode())

    def path(self, index: int) -> Path:
        """Path of an image."""
        return self._folder / self.name(index)


def open_images(data: ImageDataConfig, split: Split, classes: int) -> LabelledImages:
    """Open the images of a split and their classes; no image is read.

    Args:
        data: Where the images are. `names` and `val_labels` may be relative to `root`.
        split: "train", or "test" for those of `data.val`.
        classes: Number of classes.

    Raises:
        ValueError: If folders, labels or names do not fit each other or the number of classes.
        FileNotFoundError: If a folder or file is missing.
    """
    if split not in get_args(Split):
        raise ValueError(f"unknown split {split!r}; the splits are {', '.join(get_args(Split))}")
    root = Path(data.root).expanduser()
    folder = _find_folder(root, split, data)
    class_folders, files = _scan(folder)
    _check_content(folder, class_folders, files, split)
    folders = _order_of_classes(root / data.train, folder, class_folders, classes)
    if class_folders:
        if data.val_labels is not None and split == "test":
            raise ValueError(
                f"{folder} holds class folders, so data.val_labels ({data.val_labels}) is for "
                "nothing; leave it out, or point data.val at the flat folder it belongs to"
            )
        names, labels = _list_tree(folder, folders, split, data.limit)
    else:
        names, truth = _encoded(files, folder), _find_labels(root, folder, data)
        labels, folders = read_flat_labels(truth, files, folders, classes)
    readable = _class_names(root, data, folders)
    return LabelledImages(folder, names, labels, readable, decoder=data.decoder)


def _find_folder(root: Path, split: Split, data: ImageDataConfig) -> Path:
    key, name = ("train", data.train) if split == "train" else ("val", data.val)
    folder = root / name
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder if root.is_dir() else root}: no such folder; expected the images in "
            f"{root / data.train}/CLASS/ and {root / data.val}/CLASS/, the latter also flat with "
            f"data.val_labels; set data.root and data.{key}"
        )
    return folder


def _scan(folder: Path) -> tuple[list[str], list[str]]:
    """Return the names of the folders and of the images in a folder, sorted, none hidden."""
    folders, files = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            # A link to nowhere is listed too: reading it will name it.
            if entry.is_dir():
                folders.append(entry.name)
            elif is_image(entry.name):
                files.append(entry.name)
    return sorted(name for name in folders if not name.startswith(".")), sorted(files)


def _check_content(folder: Path, class_folders: list[str], files: list[str], split: Split) -> None:
    """Refuse a folder that is neither a tree nor, for tests, flat."""
    tree, flat = bool(class_folders and not files), bool(files and not class_folders)
    if tree or (flat and split == "test"):
        return
    remedy = "give each class one folder with its images"
    if split == "test":
        remedy += ", or put all images into this one and set data.val_labels"
    raise ValueError(
        f"{folder} holds {len(class_folders)} class folders and {len(files)} images beside them "
        f"({listed([*class_folders, *files], 3) or 'nothing'}); {remedy}"
    )


def _order_of_classes(
    trained: Path, folder: Path, class_folders: list[str], classes: int
) -> tuple[str, ...]:
    """Return the class folders, those of the training images if there are any; none unknown."""
    folders = _scan(trained)[0] if trained.is_dir() else []
    where, order = (trained, folders) if folders else (folder, class_folders)
    if order and len(order) != classes:
        raise ValueError(
            f"{where} holds {len(order)} class folders ({listed(order, 3)}) and model.classes is "
            f"{classes}; set model.classes to {len(order)}, or data.root to other images"
        )
    cases = {"has no": set(order) - set(class_folders)}
    cases["has the unknown"] = set(class_folders) - set(order)
    faults = [f"{case} {listed(names)}" for case, names in cases.items() if names]
    if class_folders and faults:
        raise ValueError(
            f"{folder} {' and '.join(faults)}; expected the class folders of {where}: add an empty "
            "folder for a class without images, remove what is not a class"
        )
    return tuple(order)


def _list_tree(
    folder: Path, folders: tuple[str, ...], split: Split, limit: int | None
) -> tuple[NDArray[np.bytes_], NDArray[np.int64]]:
    """Return the images of all class folders and their labels, for training `limit` of each."""
    parts = []
    for name in folders:
        files = _scan(folder / name)[1]
        if split == "train" and limit is not None and files:
            places = np.linspace(0, len(files) - 1, min(limit, len(files))).astype(int)
            files = [files[index] for index in places]
        parts.append(_encoded([f"{name}/{file}" for file in files], folder))
    counts = [len(part) for part in parts]
    empty = [name for name, count in zip(folders, counts, strict=True) if count == 0]
    if empty and (split == "train" or len(empty) == len(folders)):
        raise ValueError(
            f"{folder}: no images in {len(empty)} class folders ({listed(empty)}); fill or remove "
            "them (folders below a class folder are not searched)"
        )
    return np.concatenate(parts), np.repeat(np.arange(len(folders), dtype=np.int64), counts)


def _encoded(names: list[str], folder: Path) -> NDArray[np.bytes_]:
    try:
        return np.array([name.encode() for name in names], dtype=np.bytes_)
    except UnicodeEncodeError as error:
        raise ValueError(f"{folder}: name {error.object!r} is not UTF-8; rename it") from error


def _find_labels(root: Path, folder: Path, data: ImageDataConfig) -> Path:
    if data.val_labels is None:
        raise ValueError(
            f"{folder} holds images and no class folders; set data.val_labels to their ground "
            "truth (ILSVRC2012_validation_ground_truth.txt with meta.mat beside, or lines of FILE "
            "FOLDER), or sort the images into class folders"
        )
    return root / Path(data.val_labels).expanduser()


def _class_names(root: Path, data: ImageDataConfig, folders: tuple[str, ...]) -> tuple[str, ...]:
    """Return the readable names of the classes."""
    if data.names is None and not (root / "classes.txt").is_file():
        return folders
    return read_class_names(root / Path(data.names or "classes.txt").expanduser(), folders)
