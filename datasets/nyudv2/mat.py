"""Reader of the official NYU Depth V2 file, nyu_depth_v2_labeled.mat, frame by frame.

A MATLAB v7.3 file is HDF5 with all axes reversed: an image lies there as (3, width, height) and
a label map as (width, height). The 894 labels become 40 classes, and the images a training and a
test set, by tables.json beside this file. Depth and instances are not read.

A file that brings its own split in the root datasets `rsseg_train` and `rsseg_test` (1-based
indices) may hold any number of images of any size. What a file claims to hold is checked first, see
nyudv2_layout.py.

Source: Silberman, Hoiem, Kohli, Fergus, "Indoor Segmentation and Support Inference from RGBD
Images", ECCV 2012; classes and split: Gupta, Arbelaez, Malik, CVPR 2013.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any, Final, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from datasets.nyudv2.layout import Array, arrays, check_layout, reading
from datasets.samples import Reader, Sample, Split, check_crop
from rsseg.images.preprocessing import LabelMap

OFFICIAL_IMAGES: Final = 1449
OWN_SPLIT: Final[dict[Split, str]] = {"train": "rsseg_train", "test": "rsseg_test"}
_LONGEST_SPLIT: Final = 2**24  # images


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

    def __init__(self, path: Path, split: Split, *, crop: str | None = None) -> None:
        check_crop(crop)
        self.path, self.crop = path.resolve(), crop
        self._file: h5py.File | None = None
        self._process = 0
        tables = load_tables()
        self.classes, self._class_of_label = tables.classes, tables.class_of_label
        with _open(self.path) as file:
            held = arrays(file, self.path, ("images", "labels", *OWN_SPLIT.values()))
            self.height, self.width = check_layout(held, file, self.path)
            self._frames = _split_of(file, held, self.path, split, tables)
        if crop and (self.width, self.height) != (640, 480):
            raise ValueError(
                f"{path}: the crop {crop!r} is meant for frames of 640x480 pixels, these have "
                f"{self.width}x{self.height}; set crop to None"
            )
        self.names = tuple(f"{frame + 1:06d}" for frame in self._frames)

    def where(self, index: int) -> str:
        """Name the file and the frame (1-based) of a sample."""
        return f"{self.path}, frame {self._frames[index] + 1}"

    def read(self, index: int) -> Sample:
        """Read one frame at its full size."""
        file, frame = self._opened(), self._frames[index]
        with reading(self.where(index)):
            image = np.ascontiguousarray(file["images"][frame].transpose(2, 1, 0))
            labels = np.ascontiguousarray(file["labels"][frame].T)
        return Sample(image, self._to_classes(labels, index), self.names[index])

    def _to_classes(self, labels: NDArray[np.uint16], index: int) -> LabelMap:
        highest = len(self._class_of_label) - 1
        if labels.max() > highest:
            unknown = np.unique(labels[labels > highest])
            raise ValueError(
                f"{self.where(index)}: holds the labels {unknown[:5].tolist()}, expected "
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
    file: h5py.File, held: dict[str, Array], path: Path, split: Split, tables: Tables
) -> list[int]:
    """Give the 0-based frames of a split: the file's own, else the official one."""
    count, _, width, height = held["images"].shape
    own = {name: held[key] for name, key in OWN_SPLIT.items() if key in held}
    if len(own) == len(OWN_SPLIT):
        where = f"{path}: {OWN_SPLIT[split]}"
        if math.prod(own[split].shape) > min(count, _LONGEST_SPLIT):
            raise ValueError(
                f"{where}: {math.prod(own[split].shape)} indices for {count} images; expected "
                "each index once"
            )
        with reading(where):
            indices = np.asarray(file[OWN_SPLIT[split]])
        return _own_frames(indices, count, where)
    if own or (count, width, height) != (OFFICIAL_IMAGES, 640, 480):
        raise ValueError(
            f"{path}: no split is known for {count} images of {width}x{height} pixels; expected "
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
