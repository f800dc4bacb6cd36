"""Facts about rsseg/images/photo.py: a reduced photo shows what the whole one shows."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pictures

from rsseg.images import photo as photos
from rsseg.images.photo import Photo
from rsseg.images.preprocessing import Image, Preprocessing
from rsseg.images.reading import ORIENTATION, decode_image, read_image

Fit = Literal["square", "aspect", "crop"]


def drawn(height: int, width: int) -> Image:
    """Draw smooth noise with edges, as photos have them."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (-(-height // 40), -(-width // 40), 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(cv2.rectangle(smooth, (5, 5), (width // 2, height // 3), (250, 5, 90), -1))


def jpeg(image: Image, mode: str = "RGB", orientation: int = 1, **options: Any) -> bytes:
    exif, stream = Pictures.Exif(), BytesIO()
    if orientation != 1:
        exif[ORIENTATION] = orientation
    Pictures.fromarray(image).convert(mode).save(stream, "JPEG", quality=92, exif=exif, **options)
    return stream.getvalue()


def view_difference(content: bytes, resolution: int, fit: Fit = "square") -> float:
    """Return the mean difference, in grey levels, of views of the reduced and the whole photo."""
    preprocessing, photo = Preprocessing(fit=fit), Photo(content)
    height, width = preprocessing.resized(resolution, *photo.size)
    reduced = photo.decode((2 * height, 2 * width))
    assert reduced.extent[0] < photo.size[0]  # It is a reduced one.
    ours = preprocessing.view(reduced.pixels, resolution, reduced.extent)
    whole = preprocessing.view(decode_image(content, "a", decoder="pillow"), resolution)
    assert ours.shape == whole.shape
    return float((ours.float() - whole.float()).abs().mean())


@pytest.mark.parametrize("fit", ["square", "aspect", "crop"])
@pytest.mark.parametrize("size", [(480, 640), (333, 501), (375, 500), (601, 323)])
def test_views_of_reduced_photos_differ_by_less_than_a_grey_level(
    size: tuple[int, int], fit: Fit
) -> None:
    for resolution in (32, 64):
        assert view_difference(jpeg(drawn(*size)), resolution, fit) < 0.6


@pytest.mark.parametrize("orientation", range(1, 9))
def test_reduced_photo_is_turned_as_the_whole_one(orientation: int) -> None:
    content = jpeg(drawn(336, 504), orientation=orientation)
    assert Photo(content).size == decode_image(content, "a").shape[:2]
    assert view_difference(content, 48) < 0.6


def test_turned_photo_is_reduced_by_what_divides_its_sides() -> None:
    for height, width, expected in ((336, 504, 4), (334, 502, 2), (333, 502, 1)):
        photo = Photo(jpeg(drawn(height, width), orientation=3))
        assert photo.size[0] / photo.decode((64, 64)).extent[0] == expected


@pytest.mark.parametrize("mode", ["L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_grey_and_cmyk_photos_are_reduced_as_well(mode: str, progressive: bool) -> None:
    assert view_difference(jpeg(drawn(333, 501), mode, progressive=progressive), 48) < 0.6


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    least=st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
def test_pixels_are_the_fewest_that_are_enough(
    size: tuple[int, int], least: tuple[int, int]
) -> None:
    photo = Photo(jpeg(np.zeros((*size, 3), np.uint8)))
    decoded = photo.decode(least)
    assert decoded.size == photo.size == size
    reductions = [s for s in (8, 4, 2) if size[0] // s >= least[0] and size[1] // s >= least[1]]
    reduction = max([1, *reductions])
    assert decoded.extent == (size[0] / reduction, size[1] / reduction)
    assert decoded.pixels.shape == (-(-size[0] // reduction), -(-size[1] // reduction), 3)


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_either_decoder_gives_the_same_values(
    mode: str, subsampling: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for height, width in ((333, 501), (480, 640)):
        content = jpeg(drawn(height, width), mode, subsampling=subsampling)
        for side in (200, 100, 50, 40):
            with monkeypatch.context() as patched:
                patched.setattr(photos, "decode_jpeg", lambda *_: None)
                slow = Photo(content).decode((side, side))
            fast = Photo(content).decode((side, side))
            np.testing.assert_array_equal(fast.pixels, slow.pixels)
            assert fast.extent == slow.extent


@pytest.mark.parametrize("form", ["PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_other_formats_are_decoded_whole(form: str, tmp_path: Path) -> None:
    Pictures.fromarray(drawn(80, 120)).save(tmp_path / "a", form)
    photo = Photo.open(tmp_path / "a")
    np.testing.assert_array_equal(photo.decode((10, 10)).pixels, read_image(tmp_path / "a"))
    assert photo.size == (80, 120)


def test_orientation_behind_the_pixels_of_a_png_counts(tmp_path: Path) -> None:
    exif = Pictures.Exif()
    exif[ORIENTATION] = 6
    Pictures.fromarray(drawn(80, 120)).save(tmp_path / "a.png", exif=exif)
    photo = Photo.open(tmp_path / "a.png")
    assert photo.size == (120, 80) == photo.decode((5, 5)).size


@pytest.mark.parametrize("kind", ["I;16", "RGBA"])
def test_pixels_of_any_mode_are_those_of_the_file(kind: str, tmp_path: Path) -> None:
    grey = Pictures.fromarray(drawn(20, 30)[..., 0].astype(np.uint16) * 257)
    picture = grey if kind == "I;16" else Pictures.fromarray(drawn(20, 30)).convert("RGBA")
    picture.save(tmp_path / "a.png")
    pixels = Photo.open(tmp_path / "a.png").decode().pixels
    np.testing.assert_array_equal(pixels, read_image(tmp_path / "a.png"))


def test_whole_photo_is_the_file_and_is_decoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(drawn(333, 501)))
    photo = Photo.open(tmp_path / "a.jpg")
    first, reduced = photo.decode(), photo.decode((100, 100))
    np.testing.assert_array_equal(first.pixels, read_image(tmp_path / "a.jpg"))
    assert min(first.milliseconds, reduced.milliseconds) > 0
    monkeypatch.setattr(photos, "read_opened", None)
    monkeypatch.setattr(photos, "decode_jpeg", None)
    assert photo.decode() is first
    assert photo.decode((120, 90)) is reduced


@pytest.mark.parametrize("reduced", [False, True])
def test_damaged_photo_is_named(reduced: bool, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(drawn(333, 501))[:2000])
    photo = Photo.open(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match=r"a\.jpg: unreadable image \(.*truncated.*; replace it"):
        photo.decode((40, 40) if reduced else None)
    with pytest.raises(ValueError, match=r"^the image: unreadable image \(no format"):
        Photo(b"no image")


def test_photo_of_too_many_pixels_is_refused_by_its_header(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Pictures, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match="image of more than 1000 pixels; make it smaller first"):
        Photo(jpeg(drawn(30, 40)))
