"""Label maps as PNG files: the values on disk, and which of them mean a class or void.

Two conventions are common for K classes: 0 is void and the classes are 1..K, or the classes
are 0..K-1 and 255 is void. Read with the wrong one, every class is off by one and nothing
crashes: so the convention is set by the user, or the values leave no doubt about it, or the files
are refused.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rsseg.images.preprocessing import VOID, LabelMap
from rsseg.images.reading import open_picture

_LARGEST: Final = 2**28  # bytes: more than one for each pixel that Pillow opens
# First row and column, and steps to the next ones, of the seven passes of an interlaced file.
_PASSES: Final = (
    *((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4)),
    *((2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)),
)


def check_label_png(path: Path) -> int:
    """Check a PNG with one value per pixel to the last byte; return the bits of a value.

    Args:
        path: The file, whose header Pillow has found to be right.

    Raises:
        ValueError: If it is damaged.
        struct.error, zlib.error: If it is cut off or cannot be unpacked.
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(_LARGEST + 1)
    width, height, bits, _, _, _, interlaced = struct.unpack_from(">IIBBBBB", content, 16)
    stream = b"".join(body for kind, body in _chunks(content) if kind == b"IDAT")
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    # The size of each pass; a row begins with a byte for its filter.
    sizes = [(-(-(height - y) // down), -(-(width - x) // right)) for y, x, down, right in passes]
    size = sum(h * (1 + -(-w * bits // 8)) for h, w in sizes if h > 0 and w > 0)
    if len(zlib.decompressobj().decompress(stream, size)) < size:
        raise ValueError("rows are missing")
    return int(bits)


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and content of each chunk, after a comparison with its checksum."""
    kind, place = b"", 8
    while kind != b"IEND":
        size, kind = struct.unpack_from(">I4s", content, place)
        body = content[place + 8 : place + 8 + size]
        (checksum,) = struct.unpack_from(">I", content, place + 8 + size)
        if checksum != zlib.crc32(body, zlib.crc32(kind)):
            raise ValueError(f"its chunk {kind.decode('latin-1')!r} is damaged")
        yield kind, body
        place += 12 + size


_SCANNED: Final = 16  # label files that detection reads: all of a large data set take minutes


@dataclass(frozen=True)
class LabelConvention:
    """The values that stand for the classes and for void in a label file.

    Args:
        classes: Number of classes.
        label_offset: Value of the first class.
        void_value: Value of the pixels without class.

    Raises:
        ValueError: If void is also the value of a class, or a value does not fit into a byte.
    """

    classes: int
    label_offset: int
    void_value: int

    def __post_init__(self) -> None:
        last = self.label_offset + self.classes - 1
        values = (self.label_offset, last, self.void_value)
        if self.classes < 1 or min(values) < 0 or max(values) > 255:
            raise ValueError(f"{self} does not fit into the values 0..255 of a label file")
        if self.label_offset <= self.void_value <= last:
            raise ValueError(
                f"void_value={self.void_value} is also the value of a class: label_offset="
                f"{self.label_offset} puts {self.classes} classes at {self.label_offset}..{last}"
            )

    def __str__(self) -> str:
        last = self.label_offset + self.classes - 1
        return f"classes {self.label_offset}..{last}, void {self.void_value}"

    def decode(self, values: NDArray[np.uint8], *, where: object) -> LabelMap:
        """Turn the values of a file into classes 0..K-1 and 255 for void, shape (H, W).

        Raises:
            ValueError: If a value is neither a class nor void; `where` names the file.
        """
        table = np.full(256, VOID, dtype=np.uint8)
        table[self.label_offset : self.label_offset + self.classes] = range(self.classes)
        valid = table != VOID
        valid[self.void_value] = True
        if not valid[values].all():
            present = np.unique(values)
            raise ValueError(
                f"{where}: holds the values {value_ranges(present[~valid[present]])} beside "
                f"{self} (all values: {value_ranges(present)}); set label_offset and void_value "
                "(--label-offset and --void-value) and the number of classes to what the file was "
                "written with"
            )
        return table[values]


def read_label_values(path: Path) -> NDArray[np.uint8]:
    """Read the values of a label file as they lie on disk, shape (H, W).

    Of a palette PNG the values are its indices, whatever their colours.

    Raises:
        ValueError: If the file is not a PNG with one 8-bit value per pixel, or is damaged.
        OSError: If the file cannot be opened.
    """
    with open_picture(path, "label file") as picture:
        values = np.array(picture)
        single = picture.format == "PNG" and picture.mode in ("L", "P")
        bits = check_label_png(path) if single else 0
    # Grey values of fewer bits would arrive stretched to 255.
    if not single or (picture.mode == "L" and bits != 8):
        raise ValueError(
            f"{path}: a label file is a PNG with one value per pixel, 8-bit greyscale or palette; "
            f"this is {picture.format} of mode {picture.mode}, so its values are not classes; "
            "save the class of each pixel instead of its colour"
        )
    return values


def detect_convention(paths: Sequence[Path], classes: int) -> LabelConvention:
    """Return the convention of label files, from the values in some of them.

    Raises:
        ValueError: If the values fit neither or both conventions.
    """
    step = max(1, len(paths) // _SCANNED)
    values = {path: np.unique(read_label_values(path)) for path in paths[::step]}
    foreign = {p: v for p, v in values.items() if ((v > classes) & (v != VOID)).any()}
    from_one = {path: present for path, present in values.items() if classes in present}
    from_zero = {path: present for path, present in values.items() if VOID in present}
    if not foreign and bool(from_one) != bool(from_zero):
        return LabelConvention(classes, *((1, 0) if from_one else (0, VOID)))
    if foreign:
        examples = foreign
        reason = f"values above {classes} are not classes"
    elif from_one:
        examples = dict(islice(from_one.items(), 1)) | from_zero
        reason = f"{classes} says that classes begin at 1, 255 that they begin at 0"
    else:
        examples = values
        reason = f"neither {classes} nor 255 occurs, so classes may begin at 0 or at 1"
    text = "; ".join(f"{path}: {value_ranges(v)}" for path, v in islice(examples.items(), 2))
    raise ValueError(
        f"cannot tell the label convention for {classes} classes: {reason} ({text}); set "
        f"label_offset=1, void_value=0 for classes 1..{classes} or label_offset=0, "
        f"void_value=255 for classes 0..{classes - 1}, or the number of classes"
    )


def complete_convention(
    classes: int, label_offset: int | None, void_value: int | None
) -> LabelConvention | None:
    """Complete a convention from one or both of its values; return None if both are None.

    Raises:
        ValueError: If the two contradict each other.
    """
    if label_offset is None and void_value is None:
        return None
    if label_offset is None:
        label_offset = 1 if void_value == 0 else 0
    if void_value is None:
        void_value = VOID if label_offset == 0 else 0
    return LabelConvention(classes, label_offset, void_value)


def value_ranges(values: NDArray[Any]) -> str:
    """Return sorted values as text, with their runs joined: 0..3, 7, 255."""
    runs = np.split(values, np.flatnonzero(np.diff(values.astype(int)) != 1) + 1)
    return ", ".join(f"{run[0]}..{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)
