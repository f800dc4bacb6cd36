"""Training images of a segmenter without label maps: another network's answers are learnt.

Whether label maps lie beside the images makes no difference: none is looked for or opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datasets.nyudv2.folder import find_image, read_names
from datasets.nyudv2.mat import MatReader
from datasets.nyudv2.reader import find_mat
from datasets.samples import Reader, Sample, check_crop, is_kept_for_test
from rsseg.common.messages import counted
from rsseg.images.preprocessing import Image
from rsseg.images.reading import read_image
from rsseg.segmentation.config import DataConfig
from rsseg.segmentation.pair_lists import NamedImage
from rsseg.segmentation.pairs import find_images

MEANING = "no label maps: the answers of the original take their place"


def without_labels(image: Image, name: str) -> Sample:
    """Return a sample with class 0 in the place of every label."""
    return Sample(image, np.zeros(image.shape[:2], dtype=np.uint8), name)


class ImageReader(Reader):
    """Images as samples whose every label is 0; the padding of a crop is void, as always.

    Args:
        images: Names and files.
        data: Crop and orientation of the images.
    """

    meaning = MEANING

    def __init__(self, images: Sequence[NamedImage], data: DataConfig) -> None:
        check_crop(data.crop)
        self.crop, self._upright = data.crop, data.orientation != "ignored"
        self._images = tuple(images)
        self.names = tuple(image.name for image in images)
        self.classes = ()

    def where(self, index: int) -> str:
        """Return the file of an image."""
        return str(self._images[index].image)

    def read(self, index: int) -> Sample:
        """Read an image at its full size."""
        image = read_image(self._images[index].image, upright=self._upright)
        return without_labels(image, self.names[index])


class MatImageReader(MatReader):
    """The images of one split of the official .mat file; its label maps are not read."""

    meaning = MEANING

    def read(self, index: int) -> Sample:
        """Read one frame at its full size."""
        return without_labels(self.read_image(index), self.names[index])


def open_unlabelled(data: DataConfig) -> Reader:
    """Open the training images of a configuration, whichever layout it states.

    Raises:
        ValueError: If there are none, or names or lists are faulty.
        OSError: If a folder or a file is missing.
    """
    root = Path(data.root).expanduser()
    if data.train is not None:
        return ImageReader(_kept_for_training(data, find_images(root, data.train)), data)
    if (root / "images").is_dir():
        return ImageReader(_listed(root), data)
    return MatImageReader(root if root.is_file() else find_mat(root), "train", crop=data.crop)


def _kept_for_training(data: DataConfig, images: list[NamedImage]) -> list[NamedImage]:
    share = data.test_share
    if share is None:
        return images
    kept = [image for image in images if not is_kept_for_test(image.name, share)]
    if not kept:
        raise ValueError(
            f"data.test_share {share:g} of {counted(len(images), 'image')} leaves none for "
            "training; lower it, or name the test samples in data.test"
        )
    return kept


def _listed(root: Path) -> list[NamedImage]:
    """Return the images of train.txt in a folder as `prepare` writes it."""
    names, folder = read_names(root / "train.txt"), root / "images"
    files = {name: find_image(folder, name) for name in names}
    missing = [name for name, file in files.items() if file is None]
    if missing:
        raise FileNotFoundError(
            f"{folder}: {counted(len(missing), 'image')} of train.txt missing: "
            f"{', '.join(missing[:5])}; add them or take the names out of train.txt"
        )
    return [NamedImage(name, file) for name, file in files.items() if file is not None]
