"""Images and label maps of the user's own files: found, checked and read for prediction.

Any image that Pillow reads becomes 8-bit RGB, upright, at its own size. Readers of data sets, with
their splits and layouts, live with the data sets.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pictures
from PIL import ImageOps, UnidentifiedImageError

from rsseg.preprocessing import Image, LabelMap
from rsseg.segmentation.palette import VOID_LABEL

# What a folder is searched for. A file that is named itself may have any suffix.
IMAGE_SUFFIXES: Final = (
    *(".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".pbm"),
    *(".pgm", ".png", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
)
# What Pillow raises on broken files: SyntaxError is its word for a PNG with faulty chunks.
_BROKEN: Final = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    OverflowError,
    IndexError,
)
_BOMB: Final = (Pictures.DecompressionBombError, Pictures.DecompressionBombWarning)


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


def read_image(path: Path) -> Image:
    """Read an image of any format and mode that Pillow knows as 8-bit RGB.

    The orientation that a camera noted is applied, transparent parts become white, 16-bit grey
    values are scaled, and an animation gives its first frame.

    Returns:
        RGB, uint8, shape (H, W, 3).

    Raises:
        ValueError: If the file is no image, is damaged, too large, or has values without a range.
    """
    with _opened(path, "an image") as picture:
        upright = ImageOps.exif_transpose(picture)
        if not upright.mode.startswith(("I", "F")):
            return _to_rgb(upright)
    return _to_rgb(_scaled(upright, path))


def image_size(path: Path) -> tuple[int, int]:
    """Read height and width of an upright image from the beginning of its file.

    Raises:
        ValueError: If the file is no image or too large.
    """
    with _opened(path, "an image") as picture:
        # Orientations 5 to 8 lie on their side.
        turned = picture.getexif().get(0x0112, 1) >= 5
        return picture.size if turned else (picture.height, picture.width)


def _to_rgb(picture: Pictures.Image) -> Image:
    if picture.has_transparency_data:
        over = picture.convert("RGBA")
        picture = Pictures.alpha_composite(Pictures.new("RGBA", over.size, "white"), over)
    return np.array(picture.convert("RGB"), dtype=np.uint8)


def _scaled(picture: Pictures.Image, path: Path) -> Pictures.Image:
    """Scale grey values of 16 bits to 8."""
    values = np.asarray(picture)
    if picture.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise ValueError(
            f"{path} holds values from {values.min():g} to {values.max():g} of mode "
            f"{picture.mode}, whose black and white are unknown; save it with 8 or 16 bits"
        )
    return Pictures.fromarray((values.astype(np.uint32) // 257).astype(np.uint8))


@contextmanager
def _opened(path: Path, kind: str) -> Iterator[Pictures.Image]:
    """Open a picture; whatever goes wrong becomes a ValueError that names the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Pictures.DecompressionBombWarning)
            with Pictures.open(path) as picture:
                yield picture
    except _BOMB as error:
        limit = Pictures.MAX_IMAGE_PIXELS
        raise ValueError(
            f"{path} is too large: {kind} may have {limit} pixels; make it smaller first"
        ) from error
    except UnidentifiedImageError as error:
        raise ValueError(f"{path} is not {kind} in a format that Pillow reads") from error
    except _BROKEN as error:
        raise ValueError(f"{path} cannot be read as {kind}: {error}; replace it") from error


@dataclass(frozen=True)
class TruthFiles:
    """Label files of images, found by their names: `kitchen.png` belongs to `kitchen.jpg`.

    Args:
        place: A folder of label PNGs, or one file for one image.
        classes: Number of classes.
        label_offset: Value of the first class in the files.
        void_value: Value of the pixels without class in the files.

    Raises:
        ValueError: If void is also the value of a class, or a value does not fit into a byte.
    """

    place: Path
    classes: int
    label_offset: int = 0
    void_value: int = VOID_LABEL

    def __post_init__(self) -> None:
        first, last = self.label_offset, self.label_offset + self.classes - 1
        if min(first, self.void_value) < 0 or max(last, self.void_value) > 255:
            raise ValueError(f"labels with {self._convention} do not fit into the values 0..255")
        if first <= self.void_value <= last:
            raise ValueError(
                f"the void value {self.void_value} is also the value of a class ({first}..{last}); "
                "classes from 1 on with void 0 are --label-offset 1 --void-value 0"
            )

    @property
    def _convention(self) -> str:
        last = self.label_offset + self.classes - 1
        return f"classes {self.label_offset}..{last} and void {self.void_value}"

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
        """
        values = _label_values(path)
        if values.shape != size:
            raise ValueError(
                f"{path} has the size {_spoken(values.shape)}, expected that of the image, "
                f"{_spoken(size)}; labels are compared at the image's own size"
            )
        table = np.full(256, VOID_LABEL, dtype=np.uint8)
        table[self.label_offset : self.label_offset + self.classes] = range(self.classes)
        known = table != VOID_LABEL
        known[self.void_value] = True
        if not known[values].all():
            raise ValueError(
                f"{path} holds the value {values[~known[values]].max()}, expected "
                f"{self._convention}; set --label-offset and --void-value to what it was written "
                "with (1 and 0 for classes from 1 on with void 0)"
            )
        return table[values]


def _label_values(path: Path) -> NDArray[np.uint8]:
    with _opened(path, "a label map") as picture:
        mode, values = picture.mode, np.array(picture)
        bits = path.read_bytes()[24]  # byte 24 of a PNG is its bit depth
    # Grey values of fewer than 8 bits arrive stretched to 255.
    if picture.format != "PNG" or not (mode == "P" or (mode == "L" and bits == 8)):
        raise ValueError(
            f"{path} is {picture.format} of mode {mode}, expected a PNG with one value per pixel, "
            "8-bit greyscale or palette; save the class of each pixel, not its colour"
        )
    return values


def _spoken(size: tuple[int, ...]) -> str:
    return f"{size[1]}x{size[0]}"
