"""NYU Depth V2, labelled: 1449 images of rooms with 40 classes, one reader for every form of it.

The forms are the official .mat file and folders of images and label PNGs; drawn rooms come in
the layout of the official file. On the command line:

    python -m datasets.nyudv2 download TARGET
    python -m datasets.nyudv2 prepare SOURCE TARGET
    python -m datasets.nyudv2 sample SOURCE TARGET --count 4
    python -m datasets.nyudv2 check ROOT --sheet sheet.png

Source: Silberman, Hoiem, Kohli, Fergus, "Indoor Segmentation and Support Inference from RGBD
Images", ECCV 2012, https://cs.nyu.edu/~silberman/datasets/nyu_depth_v2.html.
"""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import h5py

from datasets.nyudv2.folder import OFFICIAL_CLASSES, FolderReader
from datasets.nyudv2.mat import MatReader
from datasets.samples import CROPS, Reader, Sample, Split
from rsseg.segmentation.labels import LabelReading, complete_reading

__all__ = ["CROPS", "FolderReader", "MatReader", "Reader", "Sample", "Split", "open_nyudv2"]


def open_nyudv2(
    root: Path | str,
    split: Split,
    *,
    crop: str | None = None,
    void_value: int | None = None,
    label_offset: int | None = None,
    reading: LabelReading | None = None,
    classes: int = 40,
    partial: bool = False,
    packed: bool = True,
) -> Reader:
    """Open one split of the data set.

    Args:
        root: The official .mat file, a folder that holds it, or a folder with images, labels
            and lists (see datasets/nyudv2/folder.py).
        split: "train" or "test".
        crop: Name of a crop of CROPS, or None for whole images.
        void_value: Value of void in the label PNGs of a folder; None: from its dataset.json,
            else from the files.
        label_offset: Value of the first class in the label PNGs of a folder; None as above.
        reading: The same as one value, or any other reading.
        classes: Number of classes.
        partial: Leave out the samples of a folder that lack image or labels; do not refuse it.
        packed: Read the packed file of a folder's split, if there is one; a stale one is left
            alone, with a warning.

    Returns:
        A sequence of samples: image (uint8, (H, W, 3)), labels (uint8, (H, W), 255 for void)
        and name.

    Raises:
        ValueError: If an argument or a file does not fit, with the remedy.
        OSError: If a file is missing or cannot be read.
    """
    if split not in get_args(Split):
        raise ValueError(f"unknown split {split!r}; the splits are {', '.join(get_args(Split))}")
    root = Path(root).expanduser()
    reading = reading or reading_of(label_offset, void_value)
    if root.is_dir() and (root / "images").is_dir():
        return FolderReader(
            root,
            split,
            crop=crop,
            classes=classes,
            reading=reading,
            partial=partial,
            packed=packed,
        )
    path = root if root.is_file() else find_mat(root)
    if reading is not None or classes != OFFICIAL_CLASSES:
        raise ValueError(
            f"{path}: the labels of a .mat file are known: leave labels (label_offset, void_value) "
            f"unset and classes at {OFFICIAL_CLASSES}, got {reading} and {classes}"
        )
    return MatReader(path, split, crop=crop)


def reading_of(label_offset: int | None, void_value: int | None) -> LabelReading | None:
    """Return the reading of which one value, or both, are given; None if none is."""
    if label_offset is None and void_value is None:
        return None
    return complete_reading(label_offset, void_value)


def find_mat(folder: Path) -> Path:
    """Return the path of the one .mat file with images in a folder.

    Raises:
        ValueError: If there is none, or more than one.
        FileNotFoundError: If the folder does not exist.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder}: no such file or folder; expected nyu_depth_v2_labeled.mat, a folder that "
            "holds it, or a prepared folder"
        )
    every = sorted(folder.glob("*.mat"))
    # The split and the mapping are often kept beside the data as .mat files of the older format.
    candidates = every if len(every) == 1 else [path for path in every if h5py.is_hdf5(path)]
    if len(candidates) != 1:
        names = ", ".join(path.name for path in candidates or every) or "none"
        raise ValueError(
            f"{folder}: expected a folder images/ or exactly one .mat file with images, found "
            f"{names}; name the file itself"
        )
    return candidates[0]
