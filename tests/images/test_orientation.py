"""Notes of cameras: an orientation is applied where there is one, all else changes nothing."""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image as Pictures
from PIL import ImageOps

from rsseg.images.preprocessing import Image
from rsseg.images.reading import Decoder, image_size, read_image
from rsseg.runtime.serve.body import Limits
from rsseg.runtime.serve.decoding import open_photo
from tests.helpers.hostile import attempts

# Of odd blocks Pillow warns, before the service looks at an image.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

PIXELS = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
Entry = tuple[int, int, bytes]  # type, count and value of an EXIF tag

SHORT, LONG, TEXT, UNDEFINED, FRACTION, SIGNED_FRACTION, FLOAT, DOUBLE = 3, 4, 2, 7, 5, 10, 11, 12
ODD: dict[str, Entry] = {
    "a text": (TEXT, 4, b"top\0"),
    "a digit as a text": (TEXT, 2, b"6\0"),
    "bytes of no type": (UNDEFINED, 4, b"\6\0\0\0"),
    "0/0": (FRACTION, 1, struct.pack("<II", 0, 0)),
    "-1/0": (SIGNED_FRACTION, 1, struct.pack("<ii", -1, 0)),
    "13/2": (FRACTION, 1, struct.pack("<II", 13, 2)),
    "a list that begins with none": (SHORT, 2, struct.pack("<HH", 60, 6)),
    "a huge number": (LONG, 1, struct.pack("<I", 2**32 - 1)),
    "zero": (SHORT, 1, struct.pack("<H", 0)),
    "nine": (SHORT, 1, struct.pack("<H", 9)),
    "not a number": (FLOAT, 1, struct.pack("<f", float("nan"))),
    "infinity": (DOUBLE, 1, struct.pack("<d", float("inf"))),
    "nothing": (SHORT, 0, b""),
    "a type that is none": (99, 1, b"\6\0\0\0"),
    "more than the file holds": (TEXT, 2**31, b"\6\0\0\0"),
}


def note(*entry: int | bytes) -> bytes:
    """Return an EXIF block that holds an orientation of any type, count and value."""
    kind, count, value = entry
    assert isinstance(value, bytes)
    inside = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack("<I", 26)
    behind = b"" if len(value) <= 4 else value
    header = b"Exif\0\0II*\0" + struct.pack("<IHHHI", 8, 1, 0x0112, kind, count)
    return header + inside + b"\0" * 4 + behind


def written(kind: str, block: bytes) -> bytes:
    stream = BytesIO()
    Pictures.fromarray(PIXELS).save(stream, kind, exif=block, quality=95)
    return stream.getvalue()


def every_reading(content: bytes, path: Path) -> list[Image]:
    """Return the image as each decoder and the service read it."""
    path.write_bytes(content)
    images = [read_image(path, decoder=decoder) for decoder in get_args(Decoder)]
    return [*images, open_photo(content, Limits()).decode().pixels]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("entry", ODD.values(), ids=ODD)
def test_orientation_that_is_none_leaves_the_pixels(
    tmp_path: Path, kind: str, entry: Entry
) -> None:
    path = tmp_path / "photo"
    path.write_bytes(written(kind, b""))
    plain = read_image(path, decoder="pillow")
    for image in every_reading(written(kind, note(*entry)), path):
        np.testing.assert_array_equal(image, plain)
    assert image_size(path) == PIXELS.shape[:2]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_applied_as_pillow_does(
    tmp_path: Path, kind: str, orientation: int
) -> None:
    content = written(kind, note(SHORT, 1, struct.pack("<H", orientation)))
    with Pictures.open(BytesIO(content)) as picture:
        expected = np.asarray(ImageOps.exif_transpose(picture))
    for image in every_reading(content, tmp_path / "photo"):
        np.testing.assert_array_equal(image, expected)
    assert image_size(tmp_path / "photo") == expected.shape[:2]


@attempts(150)
@given(
    block=st.binary(max_size=60)
    | st.builds(note, st.integers(0, 20), st.integers(0, 5), st.binary(max_size=12))
)
@example(block=b"MM\0*")
@example(block=note(SHORT, 2, struct.pack("<HH", 6, 3)))
@example(block=note(*ODD["0/0"]) + b"\xff" * 8)
def test_no_block_of_notes_stops_or_moves_an_image(tmp_path: Path, block: bytes) -> None:
    content = written("JPEG", b"Exif\0\0" + block.removeprefix(b"Exif\0\0"))
    fast, slow, served = every_reading(content, tmp_path / "photo.jpg")
    np.testing.assert_array_equal(fast, slow)
    np.testing.assert_array_equal(fast, served)
    assert image_size(tmp_path / "photo.jpg") == fast.shape[:2]
    with Pictures.open(BytesIO(content)) as picture:
        try:
            expected = np.asarray(ImageOps.exif_transpose(picture))
        except Exception:  # What Pillow cannot turn stays as it is.
            expected = np.asarray(picture)
    np.testing.assert_array_equal(fast, expected)


def test_turned_photo_with_another_broken_tag_is_still_turned(tmp_path: Path) -> None:
    exif = Pictures.Exif()
    exif[0x0112] = 6
    exif[0x9286] = b"\xff\xfe"  # a comment of the user
    block = exif.tobytes()
    content = written("JPEG", block[:-2] + b"\xff\xff")
    for image in every_reading(content, tmp_path / "photo.jpg"):
        assert image.shape == (24, 16, 3)
