"""Image files: every kind of image becomes upright RGB, and what is no image is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pictures

from rsseg.images.preprocessing import Image
from rsseg.images.reading import Decoder, image_size, read_image


def some_image(height: int = 5, width: int = 7) -> Image:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        *[("RGB", ".png"), ("RGB", ".bmp"), ("RGB", ".webp"), ("L", ".png"), ("1", ".png")],
        *[("P", ".png"), ("P", ".gif"), ("CMYK", ".tif"), ("RGBA", ".png"), ("LA", ".png")],
    ],
)
def test_every_mode_becomes_the_rgb_that_pillow_gives(
    tmp_path: Path, mode: str, suffix: str
) -> None:
    picture = Pictures.fromarray(some_image()).convert(mode)
    picture.save(tmp_path / f"x{suffix}", lossless=True)  # heard by WebP alone
    np.testing.assert_array_equal(
        read_image(tmp_path / f"x{suffix}"), np.array(picture.convert("RGB"))
    )


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_grey_of_16_bits_is_scaled_to_8(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 256, 257], [32768, 65534, 65535]], dtype=np.uint16)
    Pictures.fromarray(values).save(tmp_path / f"x{suffix}")
    expected = [[0, 0, 1], [127, 254, 255]]
    for channel in np.moveaxis(read_image(tmp_path / f"x{suffix}"), -1, 0):
        np.testing.assert_array_equal(channel, expected)


def test_transparent_pixels_become_white(tmp_path: Path) -> None:
    pixels = np.array([[[10, 20, 30, 255], [10, 20, 30, 0]]], dtype=np.uint8)
    Pictures.fromarray(pixels, "RGBA").save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), [[[10, 20, 30], [255] * 3]])


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_orientation_noted_by_a_camera_is_applied(tmp_path: Path, orientation: int) -> None:
    exif = Pictures.Exif()
    exif[0x0112] = orientation
    image = some_image(5, 7)
    Pictures.fromarray(image).save(tmp_path / "x.png", exif=exif)
    turns = {1: 0, 3: 2, 6: 3, 8: 1}[orientation]
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), np.rot90(image, turns))
    assert image_size(tmp_path / "x.png") == np.rot90(image, turns).shape[:2]


def test_values_without_a_range_are_refused(tmp_path: Path) -> None:
    Pictures.fromarray(np.full((2, 2), 0.5, dtype=np.float32)).save(tmp_path / "x.tif")
    with pytest.raises(ValueError, match=r"x\.tif holds values from 0\.5 to 0\.5 of mode F"):
        read_image(tmp_path / "x.tif")


def test_foreign_and_truncated_files_are_named(tmp_path: Path) -> None:
    foreign, cut = tmp_path / "notes.jpg", tmp_path / "cut.jpg"
    foreign.write_text("no image")
    with pytest.raises(ValueError, match=r"notes\.jpg: unreadable image \(no format .* replace it"):
        read_image(foreign)
    Pictures.fromarray(some_image(64, 64)).save(cut)
    cut.write_bytes(cut.read_bytes()[:1500])
    with pytest.raises(ValueError, match=r"cut\.jpg: unreadable image \(.*\); replace it"):
        read_image(cut)


@pytest.mark.parametrize("read", [image_size, read_image])
@pytest.mark.parametrize("name", ["x.png", "x.jpg"])
@pytest.mark.parametrize("limit", [50, 20])
def test_images_too_large_to_be_safe_are_refused(
    tmp_path: Path,
    name: str,
    limit: int,
    read: Callable[[Path], object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Between the limit and twice the limit Pillow warns, beyond it raises.
    Pictures.fromarray(some_image(8, 8)).save(tmp_path / name)
    monkeypatch.setattr(Pictures, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(ValueError, match=rf"{name}: image of more than {limit} pixels; make"):
        read(tmp_path / name)


def test_missing_file_is_told_as_the_file_system_does(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"x\.png"):
        read_image(tmp_path / "x.png")


@pytest.mark.parametrize("orientation", [0, 1, 3, 6, 8, 5])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_fast_decoder_gives_the_values_of_pillow(
    tmp_path: Path, mode: str, orientation: int
) -> None:
    exif = Pictures.Exif()
    if orientation:
        exif[0x0112] = orientation
    smooth = Pictures.fromarray(some_image()).resize((90, 61))
    path = tmp_path / "x.jpg"
    for options in ({"progressive": True}, {"quality": 30}, {"subsampling": 0}):
        smooth.convert(mode).save(path, exif=exif, **options)
        fast, exact = (read_image(path, decoder=name) for name in ("fast", "pillow"))
        np.testing.assert_array_equal(fast, exact)
        assert fast.flags.writeable
        assert fast.flags.c_contiguous


@pytest.mark.parametrize("decoder", ["fast", "pillow"])
def test_orientation_noted_in_xmp_is_applied(tmp_path: Path, decoder: Decoder) -> None:
    note = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    )
    path = tmp_path / "x.jpg"
    Pictures.fromarray(some_image()).save(path, xmp=note)
    assert read_image(path, decoder=decoder).shape == (7, 5, 3)


def test_images_without_limit_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pictures, "MAX_IMAGE_PIXELS", None)
    Pictures.fromarray(some_image()).save(tmp_path / "x.jpg")
    assert read_image(tmp_path / "x.jpg").shape == (5, 7, 3)


@pytest.mark.parametrize("share", [0.2, 0.6, 0.99])
@pytest.mark.parametrize("decoder", ["fast", "pillow"])
def test_truncated_jpeg_is_named_by_either_decoder(
    tmp_path: Path, share: float, decoder: Decoder
) -> None:
    path = tmp_path / "x.jpg"
    Pictures.fromarray(some_image()).resize((90, 61)).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"x\.jpg: unreadable image"):
        read_image(path, decoder=decoder)
