"""Whether the PNG of a label map is whole.

Pillow compares no checksums of pixels, and gives rows that are missing the value 0: in a photograph
damage is seen, in a label map it is a class.

Source: W3C, "Portable Network Graphics (PNG) Specification", sections 5, 8 and 9.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_LARGEST: Final = 2**28  # bytes: more than one for each pixel that Pillow opens
# First row and column, and steps to the next ones, of the seven passes of an interlaced file.
_PASSES: Final = (
    *((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4)),
    *((2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)),
)


def check_label_png(path: Path) -> int:
    """Check a PNG with one value per pixel to the last byte; give the bits of a value.

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
    packed = b"".join(body for kind, body in _chunks(content) if kind == b"IDAT")
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    # The size of each pass; a row begins with a byte that tells its filter.
    sizes = [(-(-(height - y) // down), -(-(width - x) // right)) for y, x, down, right in passes]
    expected = sum(h * (1 + -(-w * bits // 8)) for h, w in sizes if h > 0 and w > 0)
    if len(zlib.decompressobj().decompress(packed, expected)) < expected:
        raise ValueError("rows are missing")
    return int(bits)


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Give kind and content of each chunk, having compared its checksum."""
    kind, place = b"", 8
    while kind != b"IEND":
        size, kind = struct.unpack_from(">I4s", content, place)
        body = content[place + 8 : place + 8 + size]
        (checksum,) = struct.unpack_from(">I", content, place + 8 + size)
        if checksum != zlib.crc32(body, zlib.crc32(kind)):
            raise ValueError(f"its chunk {kind.decode('latin-1')!r} is damaged")
        yield kind, body
        place += 12 + size
