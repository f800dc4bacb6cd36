"""The bytes of an image are read as its file is, and faults carry the name that is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pictures

from rsseg.images.reading import ORIENTATION, Decoder, decode_image, read_image


def picture(mode: str) -> Pictures.Image:
    draw = np.random.default_rng(0)
    if mode == "I;16":
        return Pictures.fromarray(draw.integers(0, 65536, (20, 31)).astype(np.uint16))
    pixels = draw.integers(0, 256, (20, 31, 4), dtype=np.uint8)
    return Pictures.fromarray(pixels, "RGBA").convert(mode)


@pytest.mark.parametrize("decoder", ["fast", "pillow"])
@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("RGB", "jpg"), ("L", "jpg"), ("RGBA", "png"), ("I;16", "png"), ("P", "gif"), ("L", "webp")],
)
def test_bytes_are_read_as_their_file(
    tmp_path: Path, mode: str, suffix: str, decoder: Decoder
) -> None:
    path = tmp_path / f"a.{suffix}"
    picture(mode).save(path)
    image = decode_image(path.read_bytes(), "a", decoder=decoder)
    np.testing.assert_array_equal(image, read_image(path))


@pytest.mark.parametrize("decoder", ["fast", "pillow"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_orientation_of_bytes_is_applied(
    tmp_path: Path, orientation: int, decoder: Decoder
) -> None:
    path, exif = tmp_path / "a.jpg", Pictures.Exif()
    exif[ORIENTATION] = orientation
    picture("RGB").save(path, exif=exif)
    image = decode_image(path.read_bytes(), "a", decoder=decoder)
    assert image.shape == ((31, 20, 3) if orientation > 4 else (20, 31, 3))
    np.testing.assert_array_equal(image, read_image(path))


@pytest.mark.parametrize(
    "content", [b"", b"no image", b"\xff\xd8\xff nothing", b"%!PS-Adobe-3.0 EPSF"]
)
def test_foreign_bytes_are_named(content: Any) -> None:
    with pytest.raises(ValueError, match=r"^shard 3: a: "):
        decode_image(content, "shard 3: a")


def test_truncated_bytes_are_named(tmp_path: Path) -> None:
    picture("RGB").save(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match=r"^a: "):
        decode_image((tmp_path / "a.jpg").read_bytes()[:400], "a")
