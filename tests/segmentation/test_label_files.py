"""Label files: which PNGs are read, with the values that they hold."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pictures

from rsseg.segmentation.label_files import read_label_colours, read_label_values

VALUES = np.resize(np.array([0, 5, 40, 254], dtype=np.uint8), (5, 11))


def palette_picture(values: NDArray[np.uint8]) -> Pictures.Image:
    picture = Pictures.new("P", values.shape[::-1])
    picture.putdata(values.ravel().tolist())
    picture.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
    return picture


def test_palette_files_give_their_indices_and_their_colours(tmp_path: Path) -> None:
    picture = palette_picture(VALUES)
    picture.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_label_values(tmp_path / "a.png"), VALUES)
    expected = np.asarray(picture.convert("RGB"))
    np.testing.assert_array_equal(read_label_colours(tmp_path / "a.png"), expected)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_grey_values_are_read_from_every_mode_that_keeps_them(tmp_path: Path, mode: str) -> None:
    Pictures.fromarray(VALUES).convert(mode).save(tmp_path / "a.png")
    values = read_label_values(tmp_path / "a.png")
    assert values.dtype == np.uint8
    np.testing.assert_array_equal(values, VALUES)


def test_files_of_1_and_16_bits_are_read(tmp_path: Path) -> None:
    Pictures.fromarray(VALUES > 0).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_label_values(tmp_path / "a.png"), VALUES > 0)
    wide = VALUES.astype(np.uint16) * 257
    Pictures.fromarray(wide).save(tmp_path / "b.png")
    np.testing.assert_array_equal(read_label_values(tmp_path / "b.png"), wide)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_grey_files_of_fewer_bits_are_not_stretched(tmp_path: Path, bits: int) -> None:
    path = tmp_path / "a.png"
    values = np.resize(np.arange(2**bits, dtype=np.uint8), (5, 11))
    picture = palette_picture(values)
    picture.putpalette(list(range(3 * 2**bits)))
    picture.save(path, bits=bits)
    np.testing.assert_array_equal(read_label_values(path), values)
    content = bytearray(path.read_bytes())
    assert content[24:26] == bytes([bits, 3])
    content[25] = 0  # colour type: from palette to grey; the checksum of the header follows
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)
    np.testing.assert_array_equal(read_label_values(path), values)


def test_colours_are_no_values_and_values_no_colours(tmp_path: Path) -> None:
    coloured = np.stack([VALUES, VALUES, VALUES[::-1]], axis=-1)
    Pictures.fromarray(coloured).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png: holds colours .* list the colour of each class"):
        read_label_values(tmp_path / "a.png")
    np.testing.assert_array_equal(read_label_colours(tmp_path / "a.png"), coloured)
    Pictures.fromarray(VALUES).save(tmp_path / "b.png")
    with pytest.raises(ValueError, match=r"b\.png: .* has no colours \(mode L, 8 bits\)"):
        read_label_colours(tmp_path / "b.png")


def test_transparent_pixels_are_refused(tmp_path: Path) -> None:
    alpha = np.where(VALUES == 0, 0, 255).astype(np.uint8)
    Pictures.fromarray(np.stack([VALUES, alpha], axis=-1)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png: 25% of the pixels are transparent"):
        read_label_values(tmp_path / "a.png")


@pytest.mark.parametrize(("kind", "reason"), [("JPEG", "changes the values"), ("BMP", "to PNG")])
def test_other_formats_are_refused_with_the_reason(tmp_path: Path, kind: str, reason: str) -> None:
    Pictures.fromarray(VALUES).save(tmp_path / "a.png", format=kind)
    with pytest.raises(ValueError, match=rf"a\.png: .* this is {kind} of mode L: .*{reason}"):
        read_label_values(tmp_path / "a.png")
