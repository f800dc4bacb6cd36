"""Facts about rsseg/runtime/serve/parts.py: what takes long for its size is refused at once."""

from __future__ import annotations

import time
from io import BytesIO
from struct import pack

import numpy as np
import pytest
from PIL import Image as Pictures

from benchmarks.hostile.images import chunk, in_parts, in_runs
from rsseg.runtime.serve.body import Limits, RefusedError
from rsseg.runtime.serve.decoding import open_photo
from rsseg.runtime.serve.parts import SCANS, check_parts
from tests.helpers.small_service import drawn, encoded

NAMES = ("scans", "segments", "segments", "chunks", "chunks", "memory", "runs", "runs")


def test_images_in_many_parts_are_refused_before_they_are_read() -> None:
    for content, name in zip(in_parts(), NAMES, strict=True):
        begin = time.process_time()
        with pytest.raises(RefusedError, match=name) as told:
            open_photo(content, Limits()).decode()
        assert told.value.status == 400
        assert time.process_time() - begin < 2  # Without the check 1 to 200 seconds.


HIDDEN = b"\xff\xe5\x00\x02" * 16_000
# What comes before the segments of a header, and does not hide others from Pillow.
COVERS: dict[str, bytes] = {
    "an end": b"\xff\xd9" + HIDDEN * 30,
    # The length that a decoder would skip, 0xF0F0, is that of the segments behind it.
    "extensions": (b"\xff\xf0\xf0\xf0" + HIDDEN[:61_676] + bytes(2)) * 30,
    "a reserved marker": (b"\xff\xc8\xf0\xf0" + HIDDEN[:61_676] + bytes(2)) * 30,
    "zeros": b"\xff\xe5\x00\x02" + bytes(10**7),
}


@pytest.mark.parametrize("cover", COVERS)
@pytest.mark.parametrize("whole", [True, False])
def test_segments_are_counted_where_pillow_reads_them(cover: str, whole: bool) -> None:
    jpeg = encoded("JPEG")
    content = jpeg[:2] + COVERS[cover] + (jpeg[2:] if whole else b"")
    with pytest.raises(RefusedError, match="segments"):
        check_parts(content)


def scans(count: int) -> bytes:
    """Return a progressive JPEG with so many scans."""
    content = encoded("JPEG", progressive=True)[:-2]
    *_, scan = content.rpartition(b"\xff\xda")
    repeated = b"\xff\xda" + scan
    return content + repeated * (count - content.count(b"\xff\xda")) + b"\xff\xd9"


def test_scans_of_a_jpeg_are_counted() -> None:
    assert open_photo(scans(SCANS), Limits()).decode().pixels.shape == drawn().shape
    with pytest.raises(RefusedError, match="more than 30 scans"):
        check_parts(scans(SCANS + 1))


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_what_follows_the_image_in_its_file_does_not_count(form: str) -> None:
    # As phones do: a film, or the room for one, at the end of a photo.
    content = encoded(form) + b"\xff\xda\x00\x00" * 200_000 + bytes(10**6)
    assert open_photo(content, Limits()).decode().pixels.shape == drawn().shape


def test_markers_inside_a_segment_do_not_count() -> None:
    content = encoded("JPEG")
    segment = b"\xff\xe1" + pack(">H", 60_002) + b"\xff\xda" * 30_000
    check_parts(content[:2] + segment * 20 + content[2:])


@pytest.mark.parametrize("options", [{"quality": 98}, {"progressive": True}, {"exif": bytes(9)}])
def test_ordinary_jpegs_are_taken(options: dict[str, object]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (600, 800, 3), dtype=np.uint8)
    check_parts(encoded("JPEG", noise, **options))


@pytest.mark.parametrize(
    "options",
    [
        {"progressive": True, "icc_profile": b"\xff\xda" * 300_000},
        {"restart_marker_blocks": 1},
        {"progressive": True, "restart_marker_rows": 1, "comment": b"\xff\xd9" * 9},
    ],
)
def test_photos_with_large_profiles_and_restarts_are_taken(options: dict[str, object]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (600, 800, 3), dtype=np.uint8)
    photo = encoded("JPEG", noise, **options)
    assert open_photo(photo + photo, Limits()).decode().pixels.shape == noise.shape


@pytest.mark.parametrize("size", [512, 8192])
def test_png_in_small_chunks_is_taken(size: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (600, 800, 3), dtype=np.uint8)
    png = encoded("PNG", noise)
    first = png.index(b"IDAT") - 4
    parts = png[first:-12].split(b"IDAT")
    pixels = b"".join(part[:-8] for part in parts[1:-1]) + parts[-1][:-4]
    chunks = b"".join(chunk(b"IDAT", pixels[at : at + size]) for at in range(0, len(pixels), size))
    content = png[:first] + chunks + png[-12:]
    np.testing.assert_array_equal(open_photo(content, Limits()).decode().pixels, noise)


def test_dark_bmp_with_a_header_of_os2_is_taken() -> None:
    """Where others name their compression, it has pixels."""
    width, height = 800, 600
    count = 3 * width * height
    header = pack("<IHHIIHHHH", 26 + count, 0, 0, 26, 12, width, height, 1, 24)
    content = b"BM" + header + bytes(4) + b"\1\0\0\0" + bytes(count - 8)
    assert open_photo(content, Limits()).decode().pixels.shape == (height, width, 3)


def test_small_bmp_in_runs_and_large_one_without_are_taken() -> None:
    rows = in_runs(8, (b"\x08\x00" + b"\x00\x00") * 8)
    assert open_photo(rows, Limits()).decode().pixels.shape == (8, 8, 3)
    plain = BytesIO()
    Pictures.new("RGB", (1000, 500)).save(plain, "BMP")
    check_parts(plain.getvalue())


@pytest.mark.parametrize("content", [b"", b"\xff\xd8", b"\xff\xd8\xff", b"\x89PNG", b"BM", b"x"])
def test_short_files_are_left_to_others(content: bytes) -> None:
    check_parts(content)
