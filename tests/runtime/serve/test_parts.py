"""Facts about rsseg/runtime/serve/parts.py: what takes long for its size is refused at once."""

from __future__ import annotations

import time
from io import BytesIO
from struct import pack

import numpy as np
import pytest
from PIL import Image as Pictures

from benchmarks.hostile.images import in_parts, in_runs
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


def test_small_bmp_in_runs_and_large_one_without_are_taken() -> None:
    rows = in_runs(8, (b"\x08\x00" + b"\x00\x00") * 8)
    assert open_photo(rows, Limits()).decode().pixels.shape == (8, 8, 3)
    plain = BytesIO()
    Pictures.new("RGB", (1000, 500)).save(plain, "BMP")
    check_parts(plain.getvalue())


@pytest.mark.parametrize("content", [b"", b"\xff\xd8", b"\xff\xd8\xff", b"\x89PNG", b"BM", b"x"])
def test_short_files_are_left_to_others(content: bytes) -> None:
    check_parts(content)
