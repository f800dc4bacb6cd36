"""Ground truth of the user's own images: label files, and the accuracy that follows from them.

How a label file is read is decided in `segmentation.labels`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rsseg.images.preprocessing import VOID, LabelMap
from rsseg.segmentation.labels import LabelConvention, complete_convention, read_label_values


def pixel_accuracy(labels: LabelMap, truth: LabelMap) -> float | None:
    """Return the share of pixels with the true class, 0..1; None where all is void."""
    valid = truth != VOID
    return float((labels == truth)[valid].mean()) if valid.any() else None


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
        """Which values mean which class: what was given, completed as for training."""
        convention = complete_convention(self.classes, self.label_offset, self.void_value)
        return convention or LabelConvention(self.classes, 0, VOID)

    def find(self, images: Sequence[Path]) -> dict[Path, Path]:
        """Return the label file of each image.

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
                f"{path} has the size {_size_text(values.shape)}, expected that of the image, "
                f"{_size_text(size)}; labels are compared at the image's own size"
            )
        return self.convention.decode(values, where=path)


def _size_text(size: tuple[int, ...]) -> str:
    return f"{size[1]}x{size[0]}"
