"""Images from anywhere: pixels, or the name of the file; soon, in little room, running nothing."""

from __future__ import annotations

import os
import struct
import zlib
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import example, given
from PIL import Image as Pictures

from rsseg.images.reading import Decoder, image_size, read_image
from tests.helpers.hostile import Edit, answer, attempts, damaged, edits
from tests.segmentation.test_hostile_labels import png

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 13, 3), dtype=np.uint8)


def written(form: str) -> bytes:
    """Write an image in a format, such as "PNG", and a mode, such as "PNG L"."""
    kind, _, mode = form.partition(" ")
    exif = Pictures.Exif()
    exif[0x0112] = 6
    stream = BytesIO()
    picture = Pictures.fromarray(PIXELS).convert(mode or "RGB")
    options = {"compression": "tiff_lzw"} if mode == "L" and kind == "TIFF" else {}
    picture.save(stream, kind, exif=exif, **options)
    return stream.getvalue()


FORMS = (
    *("JPEG", "JPEG L", "JPEG CMYK", "PNG", "PNG P", "PNG RGBA", "PNG 1", "GIF", "WEBP", "BMP"),
    *("TIFF", "TIFF L", "TIFF F", "PPM", "ICO", "TGA", "PCX", "DDS", "SGI", "MPO"),
)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("form", FORMS)
@attempts(40)
@given(changes=edits())
@example(changes=[("flip", 48, b"\0")])  # an orientation of 262 in a JPEG
def test_damaged_image_is_read_or_named(tmp_path: Path, form: str, changes: list[Edit]) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(damaged(written(form), changes))
    size = answer(lambda: image_size(path), path)
    for decoder in get_args(Decoder):
        image = answer(partial(read_image, path, decoder=decoder), path)
        if image is not None:
            assert size is not None
            assert image.dtype == np.uint8
            assert image.shape == (*size, 3)
            assert image.size > 0


@pytest.mark.parametrize("form", FORMS)
def test_size_from_the_header_is_that_of_the_pixels(tmp_path: Path, form: str) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(written(form))
    shown = (13, 9) if form.startswith(("JPEG", "PNG", "WEBP", "TIFF", "MPO")) else (9, 13)
    assert image_size(path) == shown
    if form != "TIFF F":
        assert read_image(path).shape == (*shown, 3)


def bmp(width: int, height: int) -> bytes:
    return struct.pack("<2sIHHIIiiHH", b"BM", 54, 0, 0, 54, 40, width, height, 1, 24) + bytes(24)


def gif(width: int, height: int) -> bytes:
    return struct.pack("<6sHHBBB", b"GIF89a", width, height, 0, 0, 0) + b"," + bytes(12)


def jpeg(width: int, height: int) -> bytes:
    """Change the size in the header of a JPEG."""
    content = written("JPEG")
    place = content.index(b"\xff\xc0") + 5
    return content[:place] + struct.pack(">HH", height, width) + content[place + 4 :]


@pytest.mark.parametrize(
    "content",
    [
        png(60_000, 60_000, 8, 2),
        png(60_000, 60_000, 8, 2, bytes(10**7)),
        bmp(60_000, 60_000),
        gif(60_000, 60_000),
        jpeg(60_000, 60_000),
        b"P6 60000 60000 255\n",
    ],
)
def test_header_that_claims_too_many_pixels_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    for read in (read_image, image_size):
        with pytest.raises(ValueError, match=r"photo\.jpg: image of more than \d+ pixels"):
            read(path)


@pytest.mark.parametrize("content", [png(0, 5, 8, 2), bmp(0, 5), gif(5, 0), b"P6 0 5 255\n"])
def test_image_without_pixels_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"photo\.jpg: unreadable image"):
        read_image(path)


def test_text_that_unpacks_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    whole = png(1, 1, 8, 2, bytes(4))
    body = b"zTXtnote\0\0" + zlib.compress(bytes(2**28))
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    path.write_bytes(whole[:33] + chunk + whole[33:])
    with pytest.raises(ValueError, match=r"photo\.png: unreadable image .*too large"):
        read_image(path)


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_file_without_end_is_refused(tmp_path: Path, form: str) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(written(form)[:3])
    os.truncate(path, 2**40)  # takes no room on the disk
    with pytest.raises(ValueError, match=r"photo\.jpg: image of more than 1073741824 bytes"):
        read_image(path)


def test_program_is_no_image_and_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker, path = tmp_path / "marker", tmp_path / "photo.jpg"
    interpreter = tmp_path / "gs"
    interpreter.write_text(f"#!/bin/sh\ntouch {marker}\n")
    interpreter.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    stream = BytesIO()
    Pictures.fromarray(PIXELS).save(stream, "EPS")
    path.write_bytes(stream.getvalue())
    with pytest.raises(ValueError, match=r"photo\.jpg: unreadable image \(EPS is a program"):
        read_image(path)
    assert not marker.exists()
