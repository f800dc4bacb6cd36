"""Reader of the official NYU Depth V2 file, nyu_depth_v2_labeled.mat, frame by frame.

A MATLAB v7.3 file is HDF5 with all axes reversed: an image lies there as (3, width, height) and
a label map as (width, height). The 894 labels become 40 classes, and the images a training and a
test set, by tables.json beside this file. Depth and instances are not read.

A file that brings its own split in the root datasets `rsseg_train` and `rsseg_test` (1-based
indices) may hold any number of images of any size.

The sizes in a damaged or made-up file can ask for more memory than there is, and HDF5 can point
into other files: what a file claims is checked before it is read, and a dataset counts only if the
file holds it itself.

Source: Silberman, Hoiem, Kohli, Fergus, "Indoor Segmentation and Support Inference from RGBD
Images", ECCV 2012; classes and split: Gupta, Arbelaez, Malik, CVPR 2013.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from datasets.samples import Reader, Sample, Split, check_crop, crop_labels
from rsseg.common.messages import counted
from rsseg.images.preprocessing import Image, LabelMap

OFFICIAL_IMAGES: Final = 1449
OWN_SPLIT: Final[dict[Split, str]] = {"train": "rsseg_train", "test": "rsseg_test"}
_LONGEST_SPLIT: Final = 2**24  # images
_LARGEST_FRAME: Final = 2**28  # pixels: more than Pillow opens
_LARGEST_CHUNK: Final = 2**30  # bytes: HDF5 unpacks a whole chunk at once


class Tables(NamedTuple):
    """The facts of the data set that its file does not hold.

    Attributes:
        classes: Names of the 40 classes.
        class_of_label: Class of each label, shape (895,), uint8; 255 for label 0, unlabelled.
        split: 1-based indices of the images of "train" and "test".
    """

    classes: tuple[str, ...]
    class_of_label: NDArray[np.uint8]
    split: dict[Split, list[int]]


def load_tables() -> Tables:
    """Read the classes, the mapping and the official split."""
    facts = json.loads(Path(__file__).with_name("tables.json").read_text(encoding="utf-8"))
    # Void is 0 and classes begin at 1; one less in uint8 makes them 255 and 0.
    class_of_label = np.array([0, *facts["label_to_class"]], dtype=np.uint8) - np.uint8(1)
    split: dict[Split, list[int]] = {"train": facts["train"], "test": facts["test"]}
    return Tables(tuple(facts["classes"]), class_of_label, split)


class MatReader(Reader):
    """The samples of one split of a file in the official layout.

    The file is opened when a process first reads from it, so a reader may be copied, pickled
    and used in worker processes, forked or spawned.

    Args:
        path: The .mat file.
        split: "train" or "test".
        crop: Name of a crop, or None.

    Raises:
        ValueError: If the file is damaged or not in the official layout.
        OSError: If the file cannot be read.
    """

    meaning = "0..894 of the official file as 40 classes"

    def __init__(self, path: Path, split: Split, *, crop: str | None = None) -> None:
        check_crop(crop)
        self.path, self.crop = path.resolve(), crop
        self._file: h5py.File | None = None
        self._process = 0
        tables = load_tables()
        self.classes, self._class_of_label = tables.classes, tables.class_of_label
        with _open(self.path) as file:
            datasets = arrays(file, self.path, ("images", "labels", *OWN_SPLIT.values()))
            self.height, self.width = check_layout(datasets, file, self.path)
            self._frames = _split_of(file, datasets, self.path, split, tables)
        if crop and (self.width, self.height) != (640, 480):
            raise ValueError(
                f"{path}: the crop {crop!r} is meant for frames of 640x480 pixels, these have "
                f"{self.width}x{self.height}; set crop to None"
            )
        self.names = tuple(f"{frame + 1:06d}" for frame in self._frames)

    def read_labels(self, index: int) -> LabelMap:
        """Read the label map of a frame alone."""
        with reading(self.where(index)):
            labels = np.ascontiguousarray(self._opened()["labels"][self._frames[index]].T)
        classes = self._to_classes(labels, index)
        return crop_labels(classes, self.crop, where=self.where(index))

    def where(self, index: int) -> str:
        """Return the file and the frame (1-based) of a sample."""
        return f"{self.path}, frame {self._frames[index] + 1}"

    def read(self, index: int) -> Sample:
        """Read one frame at its full size."""
        image = self.read_image(index)
        with reading(self.where(index)):
            labels = np.ascontiguousarray(self._opened()["labels"][self._frames[index]].T)
        return Sample(image, self._to_classes(labels, index), self.names[index])

    def read_image(self, index: int) -> Image:
        """Read the image of a frame alone, at its full size."""
        with reading(self.where(index)):
            pixels = self._opened()["images"][self._frames[index]]
            image: Image = np.ascontiguousarray(pixels.transpose(2, 1, 0))
        return image

    def _to_classes(self, labels: NDArray[np.uint16], index: int) -> LabelMap:
        highest = len(self._class_of_label) - 1
        if labels.max() > highest:
            values = np.unique(labels[labels > highest])
            raise ValueError(
                f"{self.where(index)}: holds the labels {values[:5].tolist()}, expected "
                f"0..{highest}; the file is damaged or of another data set"
            )
        return self._class_of_label[labels]

    def _opened(self) -> h5py.File:
        if self._file is None or self._process != os.getpid():
            if self._file is not None:
                self._file.close()  # a forked process closes its copy, the parent keeps its own
            self._file, self._process = _open(self.path), os.getpid()
        return self._file

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}  # an open file cannot travel


def _open(path: Path) -> h5py.File:
    with path.open("rb") as stream:  # errors of the file system speak for themselves
        start = stream.read(10)
    if start == b"MATLAB 5.0" and not h5py.is_hdf5(path):
        raise ValueError(
            f"{path}: an older MATLAB file without images; expected nyu_depth_v2_labeled.mat, "
            "which is a MATLAB v7.3 (HDF5) file"
        )
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise ValueError(
            f"{path}: not a complete HDF5 file ({error}); the .mat file of NYU Depth V2 has "
            "2972037809 bytes, fetch it with: python -m datasets.nyudv2 download TARGET"
        ) from error


def _split_of(
    file: h5py.File, datasets: dict[str, Array], path: Path, split: Split, tables: Tables
) -> list[int]:
    """Return the 0-based frames of a split: the file's own, else the official one."""
    count, _, width, height = datasets["images"].shape
    own = {name: datasets[key] for name, key in OWN_SPLIT.items() if key in datasets}
    if len(own) == len(OWN_SPLIT):
        where = f"{path}: {OWN_SPLIT[split]}"
        if math.prod(own[split].shape) > min(count, _LONGEST_SPLIT):
            raise ValueError(
                f"{where}: {math.prod(own[split].shape)} indices for {counted(count, 'image')}; "
                "expected each index once"
            )
        with reading(where):
            indices = np.asarray(file[OWN_SPLIT[split]])
        return _own_frames(indices, count, where)
    if own or (count, width, height) != (OFFICIAL_IMAGES, 640, 480):
        raise ValueError(
            f"{path}: no split is known for {counted(count, 'image')} of {width}x{height} "
            "pixels; expected "
            f"the {OFFICIAL_IMAGES} images of 640x480 pixels of the official file, or both "
            f"datasets {' and '.join(OWN_SPLIT.values())} with 1-based indices"
        )
    return [index - 1 for index in tables.split[split]]


def _own_frames(indices: NDArray[Any], count: int, where: str) -> list[int]:
    """Turn the 1-based indices of a file's own split into 0-based frames."""
    frames = indices.ravel()
    whole = np.array_equal(frames, np.round(frames)) if frames.dtype.kind in "iuf" else False
    if not whole or not frames.size or frames.min() < 1 or frames.max() > count:
        raise ValueError(
            f"{where}: expected whole numbers in 1..{count}, got {frames[:5].tolist()} ... "
            f"({frames.size} values of {frames.dtype})"
        )
    if len(np.unique(frames)) != len(frames):
        raise ValueError(f"{where}: names an image twice; expected each index once")
    return [int(frame) - 1 for frame in frames]


class Array(NamedTuple):
    """Shape and type that a dataset claims; `chunk` is how many bytes are unpacked at once."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunk: int


@contextmanager
def reading(where: str) -> Iterator[None]:
    """Read in the `with` block; whatever goes wrong becomes a ValueError that says where."""
    try:
        yield
    except Exception as error:  # Damaged files make HDF5 raise errors of any kind.
        reason = str(error) or type(error).__name__
        raise ValueError(
            f"{where}: unreadable ({reason}); the file is damaged, fetch it again"
        ) from error


def arrays(file: h5py.File, path: Path, names: Sequence[str]) -> dict[str, Array]:
    """Return those of the named datasets that the file holds itself, without reading them.

    Raises:
        ValueError: If the file is damaged.
    """
    with reading(str(path)):
        return {name: _array_of(file[name]) for name in names if _is_own(file, name)}


def check_layout(datasets: dict[str, Array], file: h5py.File, path: Path) -> tuple[int, int]:
    """Check images and labels against the official layout; return height and width.

    Raises:
        ValueError: If they are missing, too large, or of another shape or type.
    """
    missing = [name for name in ("images", "labels") if name not in datasets]
    if missing:
        with reading(str(path)):
            names = sorted(file)[:10]
        raise ValueError(
            f"{path}: has no dataset {' and no dataset '.join(missing)}; it holds "
            f"{', '.join(names) or 'nothing'}; expected the layout of nyu_depth_v2_labeled.mat, "
            "and nothing of it in other files"
        )
    images, labels = datasets["images"], datasets["labels"]
    count, width, height = labels.shape if len(labels.shape) == 3 else (0, 0, 0)
    if images.shape != (count, 3, width, height) or 0 in images.shape:
        raise ValueError(
            f"{path}: images of shape {images.shape} and labels of shape {labels.shape}; expected "
            "(N, 3, width, height) and (N, width, height), as MATLAB v7.3 writes them"
        )
    if (images.dtype, labels.dtype) != (np.dtype(np.uint8), np.dtype(np.uint16)):
        raise ValueError(
            f"{path}: images are {images.dtype} and labels {labels.dtype}; expected uint8 and "
            "uint16, as in nyu_depth_v2_labeled.mat"
        )
    if width * height > _LARGEST_FRAME or max(images.chunk, labels.chunk) > _LARGEST_CHUNK:
        raise ValueError(
            f"{path}: frames of {width}x{height} pixels, of which {images.chunk} and "
            f"{labels.chunk} bytes are unpacked at once; expected at most {_LARGEST_FRAME} pixels "
            f"and {_LARGEST_CHUNK} bytes"
        )
    return height, width


def _is_own(file: h5py.File, name: str) -> bool:
    if name not in file or not isinstance(file.get(name, getlink=True), h5py.HardLink):
        return False
    item = file[name]
    return isinstance(item, h5py.Dataset) and not (item.external or item.is_virtual)


def _array_of(dataset: h5py.Dataset) -> Array:
    chunk = math.prod(dataset.chunks or ()) * dataset.dtype.itemsize
    return Array(tuple(dataset.shape or ()), dataset.dtype, chunk)
