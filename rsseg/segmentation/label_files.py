"""Label maps as files: the values or colours of a PNG as they lie on disk.

Only files that keep every value are read: a JPEG changes values along every edge. What the values
mean is decided in `labels`.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsseg.images.reading import open_picture

Colour = tuple[int, int, int]  # red, green, blue, 0..255
Values = NDArray[np.uint8] | NDArray[np.uint16]
OTHER_LABELS: Final = "label maps are PNG, as JPEG changes their values; write PNGs from the source"
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


class _LabelFile(NamedTuple):
    """A label file as Pillow reads it.

    Attributes:
        mode: Mode of Pillow.
        bits: Bits of a value.
        pixels: Values, shape (H, W), or channels, shape (H, W, C).
        colours: Colours of a file with a palette, RGB, shape (H, W, 3); None for another.
    """

    mode: str
    bits: int
    pixels: NDArray[np.uint8] | NDArray[np.uint16]
    colours: NDArray[np.uint8] | None


def read_label_values(path: Path) -> Values:
    """Read the values of a label file as they lie on disk.

    Read are PNGs of one value a pixel: greyscale of 1 to 16 bits, or a palette, whose indices are
    the values whatever their colours. Greyscale with an alpha channel, and RGB with three equal
    channels, as image editors write them, count as greyscale where every pixel is opaque.

    Returns:
        Values, uint8, or uint16 of a file of 16 bits, shape (H, W).

    Raises:
        ValueError: If the file is not such a PNG, or is damaged.
        OSError: If the file cannot be opened.
    """
    file = _read(path)
    if file.mode in ("1", "L", "P", "I;16"):
        return file.pixels
    grey = file.pixels[..., 0]
    alpha = file.pixels[..., -1] if file.mode in ("LA", "RGBA") else None
    if file.bits == 16:
        raise ValueError(
            f"{path}: a PNG of mode {file.mode} with 16 bits per channel is read with 8; save the "
            "label map as greyscale of 8 or 16 bits"
        )
    if alpha is not None and (alpha != 255).any():
        raise ValueError(
            f"{path}: {np.mean(alpha != 255):.0%} of the pixels are transparent, and whether that "
            "is void is not known; save the label map without an alpha channel"
        )
    if file.mode != "LA" and (file.pixels[..., :3] != grey[..., None]).any():
        colours = np.unique(file.pixels[..., :3].reshape(-1, 3), axis=0)
        raise ValueError(
            f"{path}: holds colours ({len(colours)} different, such as {_colour_text(colours)}) "
            "and not the class of each pixel; list the colour of each class in data.labels, "
            "{colours: [[R, G, B], ...]}, or save the class of each pixel"
        )
    return np.ascontiguousarray(grey, dtype=np.uint8)


def read_label_colours(path: Path) -> NDArray[np.uint8]:
    """Read the colours of a label file, RGB or with a palette.

    Returns:
        RGB, uint8, shape (H, W, 3).

    Raises:
        ValueError: If the file is not a PNG in colours, or is damaged.
        OSError: If the file cannot be opened.
    """
    file = _read(path)
    if file.colours is not None:
        return file.colours
    if file.mode not in ("RGB", "RGBA") or file.bits != 8:
        raise ValueError(
            f"{path}: data.labels lists colours, and this PNG has no colours (mode {file.mode}, "
            f"{file.bits} bits); state which value is which class instead, by offset or map"
        )
    return np.ascontiguousarray(file.pixels[..., :3])


def read_palette(path: Path) -> list[Colour]:
    """Return the colours of a label file with a palette, by index; none for another file.

    Raises:
        ValueError: If the file is not a picture, or is damaged.
        OSError: If the file cannot be opened.
    """
    with open_picture(path, "label file") as picture:
        values = picture.getpalette() if picture.mode == "P" else None
    channels = values or []
    return [(r, g, b) for r, g, b in zip(*(channels[i::3] for i in range(3)), strict=False)]


def has_colours(path: Path) -> bool:
    """Return whether a label file is RGB with channels that differ.

    Raises:
        ValueError: If the file is not a PNG, or is damaged.
        OSError: If the file cannot be opened.
    """
    file = _read(path)
    return file.mode in ("RGB", "RGBA") and bool(np.ptp(file.pixels[..., :3], axis=-1).any())


def _colour_text(colours: NDArray[Any]) -> str:
    return ", ".join(str(colour) for colour in colours[:3].tolist())


def _read(path: Path) -> _LabelFile:
    with open_picture(path, "label file") as picture:
        kind, mode, pixels, bits = str(picture.format), picture.mode, np.array(picture), 0
        colours = np.array(picture.convert("RGB")) if mode == "P" else None
        if kind == "PNG":
            bits = check_label_png(path)
    if kind != "PNG":
        raise ValueError(_other_format_message(path, kind, mode))
    if mode.startswith("I"):  # Older versions of Pillow open 16 bits as 32.
        return _LabelFile("I;16", bits, pixels.astype(np.uint16), None)
    if mode == "L" and bits < 8:  # Grey values of fewer bits arrive stretched to 255.
        pixels = pixels // (255 // (2**bits - 1))
    return _LabelFile(mode, bits, pixels.astype(np.uint8), colours)


def _other_format_message(path: Path, kind: str, mode: str) -> str:
    reason = (
        "JPEG changes the values along every edge; write label maps as PNG from their source"
        if kind in ("JPEG", "MPO")
        else "convert it to PNG, which keeps every value"
    )
    return f"{path}: a label file is a PNG, this is {kind} of mode {mode}: {reason}"
