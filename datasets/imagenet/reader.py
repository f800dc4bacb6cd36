"""Images in files and their classes: class folders, ILSVRC's flat folder, lists.

The index of a class is its folder's place in alphabetical order among those of the training
images, or its number in a list. Which views are cut from an image, and how batches are made of
them, is decided elsewhere; so is what becomes of unreadable images.

Source: Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge", IJCV 2015,
https://arxiv.org/abs/1409.0575.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from datasets.imagenet.huggingface import open_rows
from datasets.imagenet.images import (
    LabelledImages,
    Selection,
    check_labels,
    limited,
    number_names,
)
from datasets.imagenet.labels import (
    are_numbers,
    check_offset,
    class_numbers,
    is_image,
    places,
    read_class_names,
    read_flat_labels,
)
from datasets.imagenet.lists import SUFFIXES, LabelList, read_image_list, read_label_list
from datasets.imagenet.shards import open_shards
from datasets.imagenet.tars import TAR, PackedImages, list_tars
from datasets.samples import Split, is_kept_for_test
from rsseg.classifiers.config import ImageDataConfig
from rsseg.common.files import files_below
from rsseg.common.messages import counted, listed
from rsseg.images.preprocessing import Image
from rsseg.images.reading import Decoder, read_image

_LOOKED_FOR = 100  # images of a list, spread over it, that must exist when it is opened


class ImageFiles(LabelledImages):
    """The images of one split as files: paths, labels, class names.

    Paths and labels are two arrays, not a million objects: worker processes share their pages.

    Args:
        folder: Folder of the split.
        names: Paths of the images below it, UTF-8 with "/", shape (N,).
        labels: Class of each image, shape (N,), 0..K-1.
        classes: Readable name of each class.
        decoder: See `read_image`.
        layout: How they are kept, for the summary.
    """

    def __init__(
        self,
        folder: Path,
        names: NDArray[np.bytes_],
        labels: NDArray[np.int64],
        classes: tuple[str, ...],
        *,
        decoder: Decoder = "fast",
        layout: str = "class folders",
    ) -> None:
        super().__init__(labels, classes, layout)
        self._decoder: Decoder = decoder
        self._folder, self._names = folder, names

    def read(self, index: int) -> Image:
        """Read an image, see `LabelledImages`."""
        return read_image(self.path(index), decoder=self._decoder)

    def name(self, index: int) -> str:
        """Path of an image below the folder of its split, with "/" on every system."""
        return str(self._names[index].decode())

    def path(self, index: int) -> Path:
        """Path of an image."""
        return self._folder / self.name(index)


def open_images(
    data: ImageDataConfig, split: Split, classes: int, *, train_labels: bool = True
) -> LabelledImages:
    """Open the images of a split and their classes; no image is read.

    Args:
        data: Where the images are. `names` and `val_labels` may be relative to `root`.
        split: "train", or "test" for those of `data.val`.
        classes: Number of classes.
        train_labels: Whether the training images have labels. If not, they are all images below a
            folder or in a list, and the test images tell the classes.

    Raises:
        ValueError: If folders, labels or names do not fit each other or the number of classes, or
            a class has no training image.
        FileNotFoundError: If a folder or file is missing.
        ImportError: If the library of a reader is not installed.
    """
    if split not in get_args(Split):
        raise ValueError(f"unknown split {split!r}; the splits are {', '.join(get_args(Split))}")
    if not train_labels and data.reader == "files":
        if split == "train":
            return open_unlabelled(data)
        if data.test_share is None:
            # Nothing of the training images tells the classes or their order.
            data = replace(data, train=data.val)
    images = _open(data, split, classes) if data.test_share is None else _part(data, split, classes)
    check_labels(images, split, data)
    return images


def _open(data: ImageDataConfig, split: Split, classes: int) -> LabelledImages:
    if data.reader == "hfds":
        return open_rows(data, split, classes)
    if data.reader == "wds":
        return open_shards(data, split, classes)
    return _open_files(data, split, classes)


def _part(data: ImageDataConfig, split: Split, classes: int) -> Selection:
    """Return the images of `data.train` that a split keeps of them, by their names."""
    share = data.test_share
    assert share is not None
    images = _open(replace(data, test_share=None, limit=None), "train", classes)
    names = (images.name(index) for index in range(len(images)))
    is_test = np.array([is_kept_for_test(name, share) for name in names], dtype=np.bool_)
    if is_test.all() or not is_test.any():
        raise ValueError(
            f"data.test_share {share:g} of {counted(len(images), 'image')} leaves "
            f"{(~is_test).sum()} for training and {is_test.sum()} for the test; change it, or "
            "name the test images in data.val"
        )
    index = np.flatnonzero(is_test == (split == "test"))
    index, _ = limited(index, images.labels[index], split, data.limit)
    kept = f"{'test' if split == 'test' else 'training'} part by a hash of the names"
    return Selection(images, index, f"{images.layout} ({kept}, test_share {share:g})")


def _open_files(data: ImageDataConfig, split: Split, classes: int) -> LabelledImages:
    root = Path(data.root).expanduser()
    path = _find(root, split, data)
    if _is_list(path):
        return _open_list(root, data, split, classes)
    if _is_tar(path):
        return _open_tars(root, path, data, split, classes)
    class_folders, files = _scan(path)
    _check_content(path, class_folders, files, split)
    folders = _order_of_classes(root, path, class_folders, data, classes)
    if not class_folders:
        return _open_flat(root, path, folders, data, classes)
    if data.val_labels is not None and split == "test":
        raise ValueError(
            f"{path} holds class folders, so data.val_labels ({data.val_labels}) is for "
            "nothing; leave it out, or point data.val at the flat folder it belongs to"
        )
    names, labels = _list_tree(path, folders, split, data)
    readable = _class_names(root, data, folders, numbered=_is_list(root / data.train))
    return ImageFiles(path, names, labels, readable, decoder=data.decoder)


def _open_flat(
    root: Path,
    folder: Path,
    folders: tuple[str, ...],
    data: ImageDataConfig,
    classes: int,
) -> ImageFiles:
    files, truth = _scan(folder)[1], _find_labels(root, folder, data)
    names = _encoded(files, folder)
    labels, order = read_flat_labels(truth, files, folders, classes, offset=data.label_offset)
    numbered = not folders or _is_list(root / data.train)
    readable = _class_names(root, data, order, numbered=numbered)
    layout = f"flat folder with {truth.name}"
    return ImageFiles(folder, names, labels, readable, decoder=data.decoder, layout=layout)


def _open_list(root: Path, data: ImageDataConfig, split: Split, classes: int) -> ImageFiles:
    key, name = _key_of(split, data)
    path = root / name
    lines = read_label_list(path, key)
    labels, order = _labels_of_list(path, lines, root, data, classes)
    files, labels = limited(_encoded(lines.files, path), labels, split, data.limit)
    readable = _class_names(root, data, order, numbered=not _tree_classes(root, data))
    layout = f"list {path.name}"
    images = ImageFiles(root, files, labels, readable, decoder=data.decoder, layout=layout)
    _check_files(images, path, root)
    return images


def _check_files(images: ImageFiles, path: Path, root: Path) -> None:
    indices = np.linspace(0, len(images) - 1, min(_LOOKED_FOR, len(images))).astype(int)
    missing = [images.name(index) for index in indices if not images.path(index).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{path}: of {counted(len(indices), 'image')} that were looked for, {len(missing)} "
            f"do not exist ({listed(missing, 3)}); paths count from data.root, {root}"
        )


def _open_tars(
    root: Path, path: Path, data: ImageDataConfig, split: Split, classes: int
) -> PackedImages:
    members = list_tars(path)
    order = _order_of_classes(root, path, members.classes, data, classes)
    labels = places(path, members.folders, order)
    index, labels = limited(np.arange(len(labels)), labels, split, data.limit)
    readable = _class_names(root, data, order, numbered=_is_list(root / data.train))
    layout = "tar file" if path.is_file() else f"{len(members.files)} tar files"
    return PackedImages(members.at(index), labels, readable, decoder=data.decoder, layout=layout)


def _key_of(split: Split, data: ImageDataConfig) -> tuple[str, str]:
    return ("data.train", data.train) if split == "train" else ("data.val", data.val)


def _find(root: Path, split: Split, data: ImageDataConfig) -> Path:
    key, name = _key_of(split, data)
    path = root / name
    if path.is_dir() or (path.is_file() and (_is_list(path) or _is_tar(path))):
        return path
    if path.is_file():
        raise ValueError(
            f"{path}: neither a folder nor a tar file nor a list ({', '.join(SUFFIXES)}); set {key}"
        )
    raise FileNotFoundError(
        f"{path if root.is_dir() else root}: no such folder; expected the images in "
        f"{root / data.train}/CLASS/ and {root / data.val}/CLASS/, the latter also flat with "
        f"data.val_labels; set data.root and {key}"
    )


def open_unlabelled(data: ImageDataConfig) -> ImageFiles:
    """Open the training images alone: all below a folder, at any depth, or in a list.

    Raises:
        ValueError: If there are none, or they are kept otherwise.
        FileNotFoundError: If the folder or list is missing.
    """
    root = Path(data.root).expanduser()
    path = _find(root, "train", data)
    if _is_tar(path):
        raise ValueError(
            f"{path}: images without labels are read from folders and lists; unpack the tar files, "
            "or set adapt.labels: true"
        )
    is_list = _is_list(path)
    files = read_image_list(path, "data.train") if is_list else _images_below(path)
    if data.test_share is not None:
        share = data.test_share
        files = [file for file in files if not is_kept_for_test(file, share)]
    if not files:
        raise ValueError(f"{path}: no image for training; set data.root and data.train")
    names = _encoded(files, path)
    names, labels = limited(names, np.zeros(len(names), dtype=np.int64), "train", data.limit)
    layout = f"list {path.name}" if is_list else "folder"
    folder = root if is_list else path
    images = ImageFiles(folder, names, labels, (), decoder=data.decoder, layout=layout)
    if is_list:
        _check_files(images, path, root)
    return images


def _images_below(folder: Path) -> list[str]:
    """Return the paths of all images below a folder, sorted, with "/", none hidden."""
    files = (file for file in files_below(folder) if is_image(file.name))
    return sorted(file.relative_to(folder).as_posix() for file in files)


def _is_list(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def _is_tar(path: Path) -> bool:
    """Return whether a path is a tar file, or a folder of tar files and nothing else to read."""
    if not path.is_dir():
        return path.suffix.lower() == TAR and path.is_file()
    folders, files = _scan(path)
    return not folders and not files and any(path.glob(f"*{TAR}"))


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
        f"{folder} holds {len(class_folders)} class folders and {counted(len(files), 'image')} "
        "beside them "
        f"({listed([*class_folders, *files], 3) or 'nothing'}); {remedy}"
    )


def _order_of_classes(
    root: Path, path: Path, own: Sequence[str], data: ImageDataConfig, classes: int
) -> tuple[str, ...]:
    """Return the class folders, those of the training images if there are any; none unknown.

    Args:
        root: Folder of the splits.
        path: Folder or tar file of this split.
        own: Its class folders, sorted; empty for a flat folder.
        data: Where the images are.
        classes: Number of classes.
    """
    trained = root / data.train
    folders = own if path == trained else _training_classes(root, data, classes)
    where, order = (trained, folders) if folders else (path, own)
    if order and len(order) != classes:
        raise ValueError(
            f"{where} holds {len(order)} class folders ({listed(order, 3)}) and model.classes is "
            f"{classes}; set model.classes to {len(order)}, or data.root to other images"
        )
    cases = {"has no": set(order) - set(own), "has the unknown": set(own) - set(order)}
    if _is_tar(path):  # It holds no empty folders.
        del cases["has no"]
    faults = [f"{case} {listed(names)}" for case, names in cases.items() if names]
    if own and faults:
        raise ValueError(
            f"{path} {' and '.join(faults)}; expected the class folders of {where}: add an empty "
            "folder for a class without images, remove what is not a class"
        )
    return tuple(order)


def _training_classes(root: Path, data: ImageDataConfig, classes: int) -> tuple[str, ...]:
    """Return the classes of the training images in their order, whatever their layout."""
    trained = root / data.train
    if not _is_list(trained):
        return _tree_classes(root, data)
    lines = read_label_list(trained, "data.train")
    return _labels_of_list(trained, lines, root, data, classes)[1]


def _tree_classes(root: Path, data: ImageDataConfig) -> tuple[str, ...]:
    """Return the class folders of the training images, on the disk or in tar files; () if none."""
    trained = root / data.train
    if _is_tar(trained):
        return list_tars(trained).classes
    return tuple(_scan(trained)[0]) if trained.is_dir() else ()


def _labels_of_list(
    path: Path, lines: LabelList, root: Path, data: ImageDataConfig, classes: int
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return the class of each line, and the classes: folders, numbers, or names in order."""
    folders, names = _tree_classes(root, data), lines.names
    check_offset(path, names, folders, data.label_offset)
    if are_numbers(names, folders):
        # What one split does not prove, the other may.
        every = names + [name for other in _other_lists(path, root, data) for name in other]
        if not are_numbers(every, folders):
            raise ValueError(f"{path} gives classes as numbers, the other list as names; use one")
        numbers = class_numbers(path, every, folders, classes, offset=data.label_offset)
        return places(path, [str(int(name)) for name in names], numbers), folders or numbers
    trained = root / data.train
    if _is_list(trained) and trained != path:
        names = read_label_list(trained, "data.train").names
    order = folders or tuple(sorted(set(names)))
    if len(order) != classes:
        raise ValueError(
            f"{trained if trained.exists() else path} tells {counted(len(order), 'class')} "
            f"({listed(order)}) and model.classes is {classes}; set model.classes to {len(order)}"
        )
    return places(path, lines.names, order), order


def _other_lists(path: Path, root: Path, data: ImageDataConfig) -> list[list[str]]:
    keys = {root / data.train: "data.train", root / data.val: "data.val"}
    return [read_label_list(o, key).names for o, key in keys.items() if o != path and _is_list(o)]


def _list_tree(
    folder: Path, folders: tuple[str, ...], split: Split, data: ImageDataConfig
) -> tuple[NDArray[np.bytes_], NDArray[np.int64]]:
    """Return the images of all class folders and their labels, for training `limit` of each."""
    parts = []
    for name in folders:
        parts.append(_encoded([f"{name}/{file}" for file in _scan(folder / name)[1]], folder))
    counts = [len(part) for part in parts]
    empty = [name for name, count in zip(folders, counts, strict=True) if count == 0]
    absent = split == "train" and not data.allow_absent
    if empty and (absent or len(empty) == len(folders)):
        remedy = ", or set data.allow_absent: true" if len(empty) < len(folders) else ""
        raise ValueError(
            f"{folder}: no images in {len(empty)} class folders ({listed(empty)}); fill or remove "
            f"them (folders below a class folder are not searched){remedy}"
        )
    labels = np.repeat(np.arange(len(folders), dtype=np.int64), counts)
    return limited(np.concatenate(parts), labels, split, data.limit)


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


def _class_names(
    root: Path, data: ImageDataConfig, order: tuple[str, ...], *, numbered: bool
) -> tuple[str, ...]:
    """Return the readable names of the classes; `numbered` if they may be numbers of a list."""
    if data.names is not None or (root / "classes.txt").is_file():
        return read_class_names(root / Path(data.names or "classes.txt").expanduser(), order)
    return number_names(order) if numbered and are_numbers(order, ()) else order
