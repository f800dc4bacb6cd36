"""Ground truth of the user's own images: label files, and the accuracy that follows from them.

How a label file is read is decided in `segmentation.labels`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rsseg.common.messages import counted
from rsseg.images.preprocessing import VOID, LabelMap
from rsseg.segmentation.labels import LabelDecoder, LabelReading, check_label_files, detect_reading

OPTION: Final = "--label-reading '{}'"


def pixel_accuracy(labels: LabelMap, truth: LabelMap) -> float | None:
    """Return the share of pixels with the true class, 0..1; None where all is void."""
    valid = truth != VOID
    return float((labels == truth)[valid].mean()) if valid.any() else None


@dataclass(frozen=True)
class TruthFiles:
    """Label files of images, found by their names: `kitchen.png` belongs to `kitchen.jpg`.

    Args:
        place: A folder of label PNGs, a pattern such as "masks/*_mask.png" whose * stands for the
            name of the image, or one file for one image.
        classes: Number of classes.
        reading: What the values in the files mean; None takes what they prove.

    Raises:
        ValueError: If the reading does not fit the number of classes.
    """

    place: Path
    classes: int
    reading: LabelReading | None = None

    def __post_init__(self) -> None:
        if self.reading is not None:
            LabelDecoder(self.reading, self.classes)  # one that does not fit is refused here

    def find(self, images: Sequence[Path]) -> dict[Path, Path]:
        """Return the label file of each image.

        Raises:
            ValueError: If the place or a label file is missing, or one file has several images.
        """
        if self.place.is_file():
            if len(images) > 1:
                raise ValueError(
                    f"{self.place} is one label file for {counted(len(images), 'image')}; give a "
                    "folder"
                )
            return {images[0]: self.place}
        files = self._by_name()
        missing = [image for image in images if image.stem not in files]
        if missing:
            raise ValueError(
                f"no label file for {len(missing)} of {counted(len(images), 'image')}; the first "
                f"is {missing[0]}, expected {missing[0].stem}.png in {self.place}"
            )
        return {image: files[image.stem] for image in images}

    def photos(self, images: Sequence[Path]) -> list[Path]:
        """Return the images without the label maps among them, which a pattern tells apart."""
        if "*" not in self.place.name:
            return list(images)
        labels = {path.resolve() for path in self._by_name().values()}
        return [image for image in images if image.resolve() not in labels]

    def _by_name(self) -> dict[str, Path]:
        """Return the label files by the names of their images."""
        if not self.place.is_dir() and "*" not in self.place.name:
            raise ValueError(f"{self.place} does not exist; give a folder of label PNGs or one PNG")
        pattern = self.place.name if "*" in self.place.name else "*"
        folder = self.place.parent if "*" in self.place.name else self.place
        head, _, tail = pattern.partition("*")
        tail = re.sub(r"\.png$", "", tail, flags=re.IGNORECASE)
        # In any case: cameras and other systems write .PNG.
        return {
            path.stem.removeprefix(head).removesuffix(tail): path
            for path in sorted(folder.iterdir())
            if path.suffix.lower() == ".png"
            and path.stem.startswith(head)
            and path.stem.endswith(tail)
        }

    def decoder(self, files: Sequence[Path]) -> LabelDecoder:
        """Return how the label files are read: as given, or as their values prove.

        Raises:
            ValueError: If nothing is given and the values prove nothing; lists the options.
        """
        reading = self.reading or detect_reading(files, self.classes, option=OPTION)
        check_label_files(files, reading)
        return LabelDecoder(reading, self.classes)


def read_truth(path: Path, decoder: LabelDecoder, size: tuple[int, int]) -> LabelMap:
    """Read a label file.

    Args:
        path: The file, a PNG.
        decoder: What its values mean.
        size: Height and width of the image.

    Returns:
        Class of each pixel, 255 for void, shape `size`.

    Raises:
        ValueError: If the file holds no labels, other values, or another size.
        OSError: If the file cannot be opened.
    """
    labels = decoder.read(path)
    if labels.shape != size:
        raise ValueError(
            f"{path} has the size {_size_text(labels.shape)}, expected that of the image, "
            f"{_size_text(size)}; labels are compared at the image's own size"
        )
    return labels


def _size_text(size: tuple[int, ...]) -> str:
    return f"{size[1]}x{size[0]}"
