"""Facts about rsseg/runtime/serve/body.py, decoding.py and request.py: what is refused."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pictures

from rsseg.heads import HEADS
from rsseg.images.preprocessing import Image
from rsseg.images.reading import read_image
from rsseg.runtime.serve.body import Limits, RefusedError, Store, check_headers, receive_body
from rsseg.runtime.serve.decoding import open_photo
from rsseg.runtime.serve.request import RequestOptions, parse
from tests.helpers.hostile import Edit, attempts, damaged, edits
from tests.helpers.small_service import drawn, encoded
from tests.images.test_hostile_images import bmp, gif, jpeg
from tests.segmentation.test_hostile_labels import png

FORMS = ("JPEG", "JPEG L", "PNG", "PNG P", "PNG RGBA", "PNG LA", "PNG 1", "WEBP", "BMP")
FRAMES = [Pictures.fromarray(255 - drawn()), Pictures.fromarray(drawn() // 2)]


def decode(content: bytes, limits: Limits) -> Image:
    return open_photo(content, limits).decode().pixels


def animation(form: str) -> bytes:
    return encoded(form, save_all=True, append_images=FRAMES)


def status(content: bytes, limits: Limits | None = None) -> int:
    """Decode; 200 if it is an image."""
    try:
        image = decode(content, limits or Limits())
    except RefusedError as refused:
        return refused.status if refused.message else 500
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3
    return 200


@pytest.mark.parametrize("form", FORMS)
def test_image_is_decoded_as_predict_reads_its_file(tmp_path: Path, form: str) -> None:
    exif = Pictures.Exif()
    exif[0x0112] = 6  # lies on its side
    content = encoded(form, exif=exif)
    path = tmp_path / "image"
    path.write_bytes(content)
    np.testing.assert_array_equal(decode(content, Limits()), read_image(path))


def test_first_image_of_a_camera_s_pair_is_the_photograph() -> None:
    photograph = decode(encoded("JPEG"), Limits())
    np.testing.assert_array_equal(decode(animation("MPO"), Limits()), photograph)


@pytest.mark.parametrize(
    ("content", "expected", "told"),
    [
        (b"", 400, "0 bytes"),
        (b"no image", 400, "8 bytes that are not a JPEG, PNG, WebP or BMP"),
        (gif(5, 5), 400, "not a JPEG"),
        (encoded("TIFF"), 400, "not a JPEG"),
        (encoded("EPS"), 400, "not a JPEG"),
        (encoded("PNG")[:-200], 400, "unreadable image"),
        (encoded("JPEG")[:-200], 400, "unreadable image"),
        (encoded("WEBP")[:-50], 400, "JPEG, PNG, WebP or BMP|unreadable image"),
        (encoded("JPEG CMYK"), 400, "a CMYK image; expected RGB or grey"),
        (animation("PNG"), 400, "an animation of 3 frames; expected one image"),
        (animation("WEBP"), 400, "an animation of 3 frames"),
        (encoded(image=drawn(4, 200)), 400, "200x4 pixels; expected a longer side of at most 20"),
        (png(0, 5, 8, 2), 400, "."),
        (png(10_000, 10_000, 8, 2), 413, "expected at most 40 million pixels; make it smaller"),
        (png(60_000, 60_000, 8, 2, bytes(10**6)), 413, "at most 40 million pixels"),
        (jpeg(60_000, 60_000), 413, "at most 40 million pixels"),
        (bmp(60_000, 60_000), 413, "at most 40 million pixels"),
        (png(9000, 5000, 8, 2), 413, "9000x5000 pixels; expected at most 40 million"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_single_image_of_ordinary_colours_is_refused(
    content: bytes, expected: int, told: str
) -> None:
    with pytest.raises(RefusedError, match=told) as caught:
        decode(content, Limits())
    assert caught.value.status == expected


def test_pixels_are_counted_before_they_are_decoded() -> None:
    limits = Limits(megapixels=0.001)
    assert status(encoded(image=drawn(25, 40)), limits) == 200
    assert status(encoded(image=drawn(25, 41)), limits) == 413
    assert status(encoded(image=drawn(25, 41))[:60], limits) == 413  # there are no pixels


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("form", FORMS)
@attempts(60)
@given(changes=edits())
def test_damaged_image_is_decoded_or_refused(form: str, changes: list[Edit]) -> None:
    assert status(damaged(encoded(form), changes)) in (200, 400, 413)


@attempts(200)
@given(st.binary(max_size=300))
def test_random_bytes_are_refused(content: bytes) -> None:
    assert status(content) == 400


def received(
    *chunks: bytes, length: str | None = None, room: int = 10**8, **limits: float
) -> tuple[bytes, Store]:
    """Receive chunks; an empty one takes a while to come."""
    held, store = Limits(**limits), Store(room)

    async def sending() -> AsyncIterator[bytes]:
        for chunk in chunks:
            await asyncio.sleep(0 if chunk else 5)
            yield chunk

    async def receive() -> bytes:
        with store.body() as body:
            return await receive_body(sending(), length, held, body)

    return asyncio.run(receive()), store


def test_body_is_what_was_sent_and_is_forgotten_after_it() -> None:
    content, store = received(b"some", b" bytes")
    assert content == b"some bytes"
    assert store.held == 0


@pytest.mark.parametrize(
    ("chunks", "options", "expected", "told"),
    [
        ([b"x"], {"length": "30000000"}, 413, r"30000000 bytes; expected at most 20000000 \(20 MB"),
        ([b"x" * 600] * 2, {"body_mb": 0.001}, 413, "a body that is longer; expected at most 1000"),
        ([b"x" * 600] * 2, {"room": 1000}, 429, "no room for more; send this one again later"),
        ([b"x", b""], {"seconds": 0.05}, 408, "1 bytes have arrived in 0.05 seconds"),
        ([], {}, 400, "the body has 0 bytes"),
    ],
)
def test_too_much_too_slow_or_nothing_is_refused(
    chunks: list[bytes], options: dict[str, Any], expected: int, told: str
) -> None:
    with pytest.raises(RefusedError, match=told) as caught:
        received(*chunks, **options)
    assert caught.value.status == expected


def test_image_types_are_expected() -> None:
    for kind in ("image/jpeg", "IMAGE/PNG; q=1", "image/webp", "application/octet-stream", None):
        check_headers(kind, None, "5")
    for kind in ("image/gif", "text/plain", "multipart/form-data; boundary=x", ""):
        with pytest.raises(RefusedError, match="expected one of image/jpeg, image/png") as caught:
            check_headers(kind or "x", None, "5")
        assert caught.value.status == 415
    with pytest.raises(RefusedError, match="Content-Encoding 'gzip'; send the image's bytes"):
        check_headers("image/png", "gzip", None)
    with pytest.raises(RefusedError, match="0 bytes"):
        check_headers("image/png", None, "0")


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({"body_mb": 0}, "body_mb must be a positive number, got 0"),
        ({"body_mb": float("inf")}, "body_mb must be a positive number, got inf"),
        ({"body_mb": 501}, "body_mb 501 is more than all images together may take"),
        ({"megapixels": -1}, "megapixels must be a positive number"),
        ({"megapixels": 100}, r"megapixels must be at most 89\.\d+, which Pillow opens, got 100"),
    ],
)
def test_impossible_limits_are_refused(limits: dict[str, float], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Limits(**limits)


ALLOWED = (32, 48, 64)


def test_query_is_read() -> None:
    assert parse({}, HEADS["classification"], ALLOWED) == RequestOptions("json")
    assert parse(
        {"resolution": "48", "top": "2"}, HEADS["classification"], ALLOWED
    ) == RequestOptions("json", resolution=48, top=2)
    assert parse(
        {"budget_ms": "7.5", "format": "overlay"}, HEADS["segmentation"], ALLOWED
    ) == RequestOptions("overlay", budget_ms=7.5)


@pytest.mark.parametrize(
    ("task", "query", "told"),
    [
        ("classification", {"resolution": "50"}, "resolution '50'; expected one of 32, 48, 64"),
        ("classification", {"resolution": ""}, "resolution ''; expected one of"),
        ("classification", {"resolution": "6_4"}, "resolution '6_4'; expected one of"),
        ("classification", {"resolution": "9" * 5000}, r"resolution '9{40}\.\.\.'; expected"),
        ("classification", {"budget_ms": "nan"}, "budget_ms 'nan'; expected a positive number"),
        ("classification", {"budget_ms": "1_0"}, "budget_ms '1_0'; expected a positive number"),
        ("classification", {"budget_ms": " 5"}, "budget_ms ' 5'; expected a positive number"),
        ("classification", {"budget_ms": "1e-300"}, "expected a positive number"),
        ("classification", {"budget_ms": "-1"}, "budget_ms '-1'; expected a positive number"),
        ("classification", {"budget_ms": "fast"}, "budget_ms 'fast'; expected a positive number"),
        ("classification", {"top": "0"}, "top '0'; expected how many classes"),
        ("classification", {"format": "png"}, "format 'png'; expected json"),
        ("segmentation", {"format": "gif"}, "format 'gif'; expected png or overlay or json"),
        ("segmentation", {"top": "3"}, "unknown parameter 'top'; expected resolution, budget_ms"),
        ("segmentation", {"resoluton": "32"}, "'resoluton'; did you mean 'resolution'?"),
        (
            "segmentation",
            {"resolution": "32", "budget_ms": "5"},
            "resolution 32 and budget_ms 5 are both given",
        ),
    ],
)
def test_query_that_makes_no_sense_is_refused(task: str, query: dict[str, str], told: str) -> None:
    with pytest.raises(RefusedError, match=told) as caught:
        parse(query, HEADS[task], ALLOWED)
    assert caught.value.status == 400


@attempts(200)
@given(st.dictionaries(st.sampled_from(["resolution", "budget_ms", "format", "top"]), st.text()))
def test_any_query_is_read_or_refused(query: dict[str, str]) -> None:
    with contextlib.suppress(RefusedError):
        assert parse(query, HEADS["segmentation"], ALLOWED).resolution in (*ALLOWED, None)
