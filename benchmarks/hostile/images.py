"""Images that a service should survive: huge, damaged, lying, in a million parts."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image as Pictures


def encoded(picture: Pictures.Image, form: str) -> bytes:
    """Write a picture in a format."""
    stream = io.BytesIO()
    picture.save(stream, form)
    return stream.getvalue()


def flat_png(width: int, height: int) -> bytes:
    """Write a black PNG: a thousand pixels for every byte."""
    return encoded(Pictures.new("1", (width, height)), "PNG")


def photo(width: int = 4000, height: int = 3000, form: str = "JPEG") -> bytes:
    """Draw a photo of a phone."""
    noise = np.random.default_rng(0).integers(0, 256, (height // 16, width // 16, 3), np.uint8)
    return encoded(Pictures.fromarray(noise).resize((width, height)), form)


def chunk(name: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


def bombs() -> list[bytes]:
    """Return PNGs that would unpack to gigabytes: by their header, a text, a profile."""
    zeros = zlib.compress(bytes(200 * 10**6), 9)
    size = struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0)
    huge = struct.pack(">IIBBBBB", 60000, 60000, 1, 0, 0, 0, 0)
    start, pixels = b"\x89PNG\r\n\x1a\n", chunk(b"IDAT", zlib.compress(bytes(64 * 193)))
    end = pixels + chunk(b"IEND", b"")
    return [
        start + chunk(b"IHDR", huge) + end,
        start + chunk(b"IHDR", size) + chunk(b"zTXt", b"a\0\0" + zeros) + end,
        start + chunk(b"IHDR", size) + chunk(b"iCCP", b"a\0\0" + zeros) + end,
        start + chunk(b"IHDR", size) + chunk(b"IDAT", zeros) + chunk(b"IEND", b""),
    ]


def in_parts() -> list[bytes]:
    """Return images in many thousand scans, segments, chunks or runs, each of which takes time."""
    stream, small = io.BytesIO(), Pictures.new("RGB", (64, 64))
    Pictures.new("L", (7000, 5000), 90).save(stream, "JPEG", progressive=True)
    *_, scan = stream.getvalue()[:-2].rpartition(b"\xff\xda")
    jpeg, png = encoded(small, "JPEG"), encoded(small, "PNG")
    at, count = png.index(b"IDAT") - 4, 10**6
    texts = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(999_000), 9)) * 300
    return [
        stream.getvalue()[:-2] + (b"\xff\xda" + scan) * 20_000 + b"\xff\xd9",
        jpeg[:2] + b"\xff\xe5\x00\x02" * count + jpeg[2:],
        jpeg[:2] + b"\xff" * count + jpeg[2:],
        png[:at] + chunk(b"abCd", b"") * count + png[at:],
        png[:at] + chunk(b"IDAT", b"") * count + png[at:],
        png[:at] + texts + png[at:],
        in_runs(2000, b"\x01\x05" * count),
        in_runs(2000, b"\x00\x00" * count),
    ]


def in_runs(side: int, runs: bytes) -> bytes:
    """Return a BMP in runs (RLE of 8 bits)."""
    start = 14 + 40 + 1024
    head = struct.pack("<IHHI", start + len(runs) + 2, 0, 0, start)
    sizes = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(runs) + 2, 0, 0, 256, 0)
    return b"BM" + head + sizes + bytes(1024) + runs + b"\0\1"


def disguised() -> list[bytes]:
    """Return what is not one of the four formats, and photos whose metadata lie."""
    small = Pictures.new("RGB", (64, 48))
    others = [encoded(small, form) for form in ("GIF", "TIFF", "ICO", "PPM", "TGA", "PCX")]
    others += [
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(500),
        b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
        b"%PDF-1.7\n",
        b"PK\x03\x04" + bytes(100),
    ]
    return others + [lying(orientation) for orientation in (3, 6, 0, 99, 65535)]


def lying(orientation: int) -> bytes:
    """Return a photo whose EXIF tells an orientation, and a size of a billion pixels."""
    exif, stream = Pictures.Exif(), io.BytesIO()
    exif[0x0112], exif[0xA002], exif[0xA003] = orientation, 2**31 - 1, 2**31 - 1
    Pictures.new("RGB", (64, 48)).save(stream, "JPEG", exif=exif)
    return stream.getvalue()


def damaged() -> Iterator[bytes]:
    """Yield images that are cut off, or have bytes changed, at many places."""
    small = Pictures.fromarray(np.random.default_rng(1).integers(0, 256, (40, 50, 3), np.uint8))
    rng = np.random.default_rng(2)
    for form in ("JPEG", "PNG", "WEBP", "BMP"):
        content = encoded(small, form)
        for place in np.linspace(0, len(content) - 1, 25).astype(int):
            yield content[:place]
            changed = bytearray(content)
            changed[place] ^= int(rng.integers(1, 256))
            yield bytes(changed)


def odd() -> Iterator[bytes]:
    """Yield 32 images of unusual sizes, modes and formats."""
    sizes = (
        (4000, 3000),
        (5000, 300),
        (64, 1200),
        (2500, 2500),
        (1, 1),
        (6000, 5000),
        (3, 50),
        (999, 1001),
    )
    for width, height in sizes:
        for mode, form in (("RGB", "JPEG"), ("RGBA", "PNG"), ("L", "WEBP"), ("P", "BMP")):
            yield encoded(Pictures.new(mode, (width, height)), form)
