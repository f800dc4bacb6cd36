"""Label PNGs: which files are read, and which convention their values follow."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pictures

from rsseg.segmentation.labels import (
    LabelConvention,
    complete_convention,
    detect_convention,
    read_label_values,
)


def write(path: Path, *values: int) -> Path:
    """Write a label file in which just these values occur."""
    Pictures.fromarray(np.resize(np.array(values, dtype=np.uint8), (5, 11))).save(path)
    return path


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0, 1, 40), LabelConvention(40, label_offset=1, void_value=0)),
        ((3, 40), LabelConvention(40, label_offset=1, void_value=0)),
        ((0, 1, 39, 255), LabelConvention(40, label_offset=0, void_value=255)),
    ],
)
def test_last_class_or_void_gives_the_convention_away(
    tmp_path: Path, values: tuple[int, ...], expected: LabelConvention
) -> None:
    paths = [write(tmp_path / "a.png", 1, 2), write(tmp_path / "b.png", *values)]
    assert detect_convention(paths, 40) == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0, 7, 39), r"neither 40 nor 255 occurs.*a\.png: 0, 7, 39"),
        ((1, 40, 255), r"40 says that classes begin at 1, 255 .*a\.png: 1, 40, 255"),
        ((0, 1, 2, 40, 200), r"values above 40 are not classes .*a\.png: 0..2, 40, 200"),
    ],
)
def test_doubtful_convention_is_refused_with_values_and_remedy(
    tmp_path: Path, values: tuple[int, ...], message: str
) -> None:
    path = write(tmp_path / "a.png", *values)
    with pytest.raises(ValueError, match=rf"{message}.*set label_offset=1, void_value=0"):
        detect_convention([path], 40)


def test_files_that_contradict_each_other_are_both_named(tmp_path: Path) -> None:
    paths = [write(tmp_path / "a.png", 0, 40), write(tmp_path / "b.png", 3, 255)]
    with pytest.raises(ValueError, match=r"a\.png: 0, 40; .*b\.png: 3, 255"):
        detect_convention(paths, 40)


def test_half_a_convention_is_completed() -> None:
    assert complete_convention(40, None, None) is None
    from_one, from_zero = LabelConvention(40, 1, 0), LabelConvention(40, 0, 255)
    assert complete_convention(40, 1, None) == complete_convention(40, None, 0) == from_one
    assert complete_convention(40, 0, None) == complete_convention(40, None, 255) == from_zero


@pytest.mark.parametrize(("classes", "offset", "void"), [(40, 1, 0), (40, 0, 255), (13, 3, 200)])
def test_decoding_shifts_the_classes_and_makes_void_255(
    classes: int, offset: int, void: int
) -> None:
    expected = np.array([[0, 1, classes - 1, 255]], dtype=np.uint8)
    values = np.array([[offset, offset + 1, offset + classes - 1, void]], dtype=np.uint8)
    convention = LabelConvention(classes, offset, void)
    np.testing.assert_array_equal(convention.decode(values, where="a.png"), expected)


def test_foreign_values_are_named_with_the_file_and_the_remedy() -> None:
    values = np.array([[0, 1, 39, 40, 41, 255]], dtype=np.uint8)
    message = r"a\.png: holds the values 40..41 beside classes 0..39, void 255 .*set label_offset"
    with pytest.raises(ValueError, match=message):
        LabelConvention(40, 0, 255).decode(values, where="a.png")


def test_palette_files_give_their_indices(tmp_path: Path) -> None:
    values = np.resize(np.array([0, 5, 40], dtype=np.uint8), (5, 11))
    picture = Pictures.new("P", (11, 5))
    picture.putdata(values.ravel().tolist())
    picture.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
    picture.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_label_values(tmp_path / "a.png"), values)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "1", "I;16"])
def test_files_without_one_byte_for_each_pixel_are_refused(tmp_path: Path, mode: str) -> None:
    Pictures.new(mode, (11, 5)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=rf"a\.png: a label file is .* of mode {mode}"):
        read_label_values(tmp_path / "a.png")


def test_jpeg_under_the_name_of_a_png_is_refused(tmp_path: Path) -> None:
    Pictures.new("L", (11, 5)).save(tmp_path / "a.png", format="JPEG")
    with pytest.raises(ValueError, match=r"a\.png: .* this is JPEG of mode L"):
        read_label_values(tmp_path / "a.png")


def test_grey_files_of_four_bits_are_refused_and_not_stretched(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    picture = Pictures.new("P", (11, 5), 2)
    picture.putpalette(list(range(3 * 16)))
    picture.save(path, bits=4)
    assert (read_label_values(path) == 2).all()
    content = bytearray(path.read_bytes())
    assert content[24:26] == bytes([4, 3])
    content[25] = 0  # colour type: from palette to grey; the checksum of the header follows
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.png: a label file is a PNG .* 8-bit"):
        read_label_values(path)
