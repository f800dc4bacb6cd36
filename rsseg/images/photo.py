"""Photo: the bytes of an image, decoded when they are needed, and no larger than that.

libjpeg decodes a JPEG at 1/2, 1/4 or 1/8 of its size in a fraction of the time. Training and
evaluation read whole images, see `reading`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final

from PIL import Image as Pictures

from rsseg.images.preprocessing import Image
from rsseg.images.reading import (
    decode_jpeg,
    noted_orientation,
    open_stream,
    read_bytes,
    read_opened,
)

Opener = Callable[[bytes], AbstractContextManager[Pictures.Image]]

_REDUCED: Final = ("JPEG", "MPO")  # MPO: JPEGs of a camera in one file, of which the first is read
_REDUCTIONS: Final = (8, 4, 2)


@dataclass(frozen=True, eq=False)
class Decoded:
    """A photo that has been decoded, perhaps at a reduced size.

    Args:
        pixels: RGB, uint8, upright, shape (h, w, 3).
        size: Height and width of the whole photo.
        extent: Height and width of the photo in these pixels, with their fractions: a photo 333
            pixels wide has 167 columns at 1/2, of which it fills 166.5.
        milliseconds: What it took.
    """

    pixels: Image
    size: tuple[int, int]
    extent: tuple[float, float]
    milliseconds: float


class Photo:
    """An image that is decoded when it is needed; what has been decoded is kept.

    Args:
        content: The bytes of a file that Pillow reads.
        name: Its name, for messages.
        opened: Opens the bytes, and says what is wrong with them; default: as `read_image` does.

    Attributes:
        format: Name of its format, as Pillow knows it, such as "JPEG".
        pixels: How many it has, as its header tells.

    Raises:
        ValueError: If it is not an image, is too large, or damaged as far as its header tells.
    """

    def __init__(
        self, content: bytes, name: str = "the image", *, opened: Opener | None = None
    ) -> None:
        self._content, self._name = content, name
        self._opened = opened or self._opened_as_files_are
        self._decoded: dict[int, Decoded] = {}
        start = time.perf_counter()
        with self._opened(content) as picture:
            self.format = picture.format or ""
            self._reducible = picture.format in _REDUCED
            self._orientation = noted_orientation(picture) if self._reducible else 1
            width, height = picture.size
        self.pixels = width * height
        self._lies = self._orientation > 4
        self._size = (width, height) if self._lies else (height, width)
        self._header_ms = 1000 * (time.perf_counter() - start)

    @classmethod
    def open(cls, path: Path) -> Photo:
        """Read the bytes of a file.

        Raises:
            ValueError: As `Photo`.
            OSError: If it cannot be opened.
        """
        return cls(read_bytes(path), str(path))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the upright image.

        Raises:
            ValueError: As `decode`: other formats than JPEG may tell it behind the pixels.
        """
        if self._reducible:
            return self._size
        return self.decode().size

    @property
    def decoding_ms(self) -> float:
        """Milliseconds of all decoding so far."""
        each = (decoded.milliseconds - self._header_ms for decoded in self._decoded.values())
        return self._header_ms + sum(each)

    def decode(self, least: tuple[int, int] | None = None) -> Decoded:
        """Decode the photo.

        Args:
            least: Height and width that the pixels must have at least, unless the photo itself is
                smaller: a JPEG is decoded at the smallest of 1, 1/2, 1/4 and 1/8 that has them
                (of one that is turned, which divides its sides). Default: the whole photo.

        Raises:
            ValueError: If the file is damaged, or the range of its values is unknown.
        """
        reduction = 1 if least is None or not self._reducible else self._reduction(least)
        if reduction not in self._decoded:
            start = time.perf_counter()
            pixels = self._pixels(reduction)
            took = self._header_ms + 1000 * (time.perf_counter() - start)
            height, width = self._size if self._reducible else pixels.shape[:2]
            extent = height / reduction, width / reduction
            self._decoded[reduction] = Decoded(pixels, (height, width), extent, took)
        return self._decoded[reduction]

    def _reduction(self, least: tuple[int, int]) -> int:
        pairs = list(zip(self._size, least, strict=True))
        fitting = [s for s in _REDUCTIONS if all(n // s >= m for n, m in pairs)]
        if self._orientation != 1:
            # Turned, the row and the column that the photo fills in part would come first.
            fitting = [s for s in fitting if not any(n % s for n in self._size)]
        return max([1, *fitting])

    def _pixels(self, reduction: int) -> Image:
        if self._orientation == 1:
            # The same values in less time, for most JPEGs and where simplejpeg is installed.
            pixels = decode_jpeg(self._content, reduction)
            if pixels is not None:
                return pixels
        height, width = (side // reduction for side in self._size)
        least = (height, width) if self._lies else (width, height)
        return read_opened(
            self._opened(self._content), self._name, least=least if reduction > 1 else None
        )

    def _opened_as_files_are(self, content: bytes) -> AbstractContextManager[Pictures.Image]:
        return open_stream(BytesIO(content), self._name, "image")
