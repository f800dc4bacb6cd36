"""Images and label maps of the user's own files, found for prediction.

How a file is read is told in `images` and `label_files`. Readers of data sets, with their splits
and layouts, live with the data sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rsseg.images.preprocessing import VOID, LabelMap
from rsseg.segmentation.labels import LabelConvention, read_label_values, told_convention

# What a folder is searched for. A file that is named itself may have any suffix.
IMAGE_SUFFIXES: Final = (
    *(".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".pbm"),
    *(".pgm", ".png", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
)


def find_images(places: Sequence[Path]) -> list[Path]:
    """Find the images in files and folders.

    Folders are searched for image suffixes, not their sub-folders, in the order of the names.

    Raises:
        ValueError: If a place does not exist, or a folder holds no image.
    """
    found: list[Path] = []
    for place in places:
        if not place.exists():
            raise ValueError(f"{place} does not exist; give image files or folders with images")
        inside = sorted(filter(_is_image, place.iterdir())) if place.is_dir() else [place]
        if not inside:
            known = " ".join(IMAGE_SUFFIXES)
            raise ValueError(f"the folder {place} holds no image (searched for {known})")
        found += inside
    return list(dict.fromkeys(found))


def _is_image(path: Path) -> bool:
    # Hidden files with an image's suffix are notes of a file manager, not images.
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


@dataclass(frozen=True)
class TruthFiles:
    """Label files of images, found by their names: `kitchen.png` belongs to `kitchen.jpg`.

    Args:
        place: A folder of label PNGs, or one file for one image.
        classes: Number of classes.
        label_offset: Value of the first class in the files; default: 0, or 1 where void is 0.
        void_value: Value of the pixels without class there; default: 255, or 0 where classes
            begin elsewhere than at 0.

    Raises:
        ValueError: If void is also the value of a class, or a value does not fit into a byte.
    """

    place: Path
    classes: int
    label_offset: int | None = None
    void_value: int | None = None

    def __post_init__(self) -> None:
        _ = self.convention  # an impossible one is refused here

    @property
    def convention(self) -> LabelConvention:
        """Which values mean which class: what was told, completed as for training."""
        told = told_convention(self.classes, self.label_offset, self.void_value)
        return told or LabelConvention(self.classes, 0, VOID)

    def find(self, images: Sequence[Path]) -> dict[Path, Path]:
        """Find the label file of each image.

        Raises:
            ValueError: If the place or a label file is missing, or one file has several images.
        """
        if not self.place.exists():
            raise ValueError(f"{self.place} does not exist; give a folder of label PNGs or one PNG")
        if not self.place.is_dir():
            if len(images) > 1:
                raise ValueError(
                    f"{self.place} is one label file for {len(images)} images; give a folder"
                )
            return {images[0]: self.place}
        files = {image: self.place / f"{image.stem}.png" for image in images}
        missing = [image for image, file in files.items() if not file.is_file()]
        if missing:
            raise ValueError(
                f"{len(missing)} of {len(images)} images have no label file, the first is "
                f"{missing[0]}; expected {files[missing[0]]}"
            )
        return files

    def read(self, path: Path, size: tuple[int, int]) -> LabelMap:
        """Read a label file.

        Args:
            path: PNG, 8-bit greyscale or with a palette, whose indices are then the labels.
            size: Height and width of the image.

        Returns:
            Class of each pixel, 255 for void, shape `size`.

        Raises:
            ValueError: If the file holds no labels, other values, or another size.
            OSError: If the file cannot be opened.
        """
        values = read_label_values(path)
        if values.shape != size:
            raise ValueError(
                f"{path} has the size {_spoken(values.shape)}, expected that of the image, "
                f"{_spoken(size)}; labels are compared at the image's own size"
            )
        return self.convention.decode(values, where=path)


def _spoken(size: tuple[int, ...]) -> str:
    return f"{size[1]}x{size[0]}"
