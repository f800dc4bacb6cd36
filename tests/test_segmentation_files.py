"""The user's own files: every kind of image becomes RGB, and what is no image is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pictures

from rsseg.preprocessing import Image
from rsseg.segmentation.files import TruthFiles, find_images, image_size, read_image


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
    with pytest.raises(ValueError, match=r"notes\.jpg is not an image"):
        read_image(foreign)
    Pictures.fromarray(some_image(64, 64)).save(cut)
    cut.write_bytes(cut.read_bytes()[:1500])
    with pytest.raises(ValueError, match=r"cut\.jpg cannot be read as an image: .* replace it"):
        read_image(cut)


@pytest.mark.parametrize("limit", [50, 20])
def test_images_too_large_to_be_safe_are_refused(
    tmp_path: Path, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Between the limit and twice the limit Pillow warns, beyond it raises.
    Pictures.fromarray(some_image(8, 8)).save(tmp_path / "x.png")
    monkeypatch.setattr(Pictures, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(ValueError, match=rf"x\.png is too large: an image may have {limit} pixels"):
        image_size(tmp_path / "x.png")


def test_folders_are_searched_for_images_in_order(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "notes.txt", "._a.jpg"):
        (tmp_path / name).touch()
    other = tmp_path / "sub" / "c.raw"
    other.parent.mkdir()
    other.touch()
    found = find_images([other, tmp_path, tmp_path / "a.jpg"])
    assert found == [other, tmp_path / "a.jpg", tmp_path / "b.PNG"]


def test_missing_and_empty_places_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere does not exist"):
        find_images([tmp_path / "nowhere"])
    with pytest.raises(ValueError, match=r"holds no image \(searched for .*\.png"):
        find_images([tmp_path])


def write_labels(path: Path, values: list[list[int]], mode: str = "L") -> Path:
    picture = Pictures.fromarray(np.array(values, dtype=np.uint8))
    if mode == "P":
        picture.putpalette([7] * 768)
    (picture if mode == "P" else picture.convert(mode)).save(path)
    return path


@pytest.mark.parametrize("mode", ["L", "P"])
def test_both_conventions_of_labels_give_the_same_map(tmp_path: Path, mode: str) -> None:
    from_zero = write_labels(tmp_path / "zero.png", [[0, 1, 2], [2, 255, 0]], mode)
    from_one = write_labels(tmp_path / "one.png", [[1, 2, 3], [3, 0, 1]], mode)
    expected = [[0, 1, 2], [2, 255, 0]]
    read = TruthFiles(tmp_path, 3).read(from_zero, (2, 3))
    np.testing.assert_array_equal(read, expected)
    read = TruthFiles(tmp_path, 3, label_offset=1, void_value=0).read(from_one, (2, 3))
    np.testing.assert_array_equal(read, expected)


def test_values_that_are_no_class_are_named_with_the_remedy(tmp_path: Path) -> None:
    path = write_labels(tmp_path / "x.png", [[0, 3]])
    with pytest.raises(ValueError, match=r"x\.png holds the value 3, .*0\.\.2 and void 255; .*--l"):
        TruthFiles(tmp_path, 3).read(path, (1, 2))


def test_labels_of_another_size_are_refused(tmp_path: Path) -> None:
    path = write_labels(tmp_path / "x.png", [[0, 1]])
    with pytest.raises(ValueError, match=r"x\.png has the size 2x1, expected .* 1x2"):
        TruthFiles(tmp_path, 3).read(path, (2, 1))


@pytest.mark.parametrize("mode", ["RGB", "1"])
def test_colours_and_stretched_values_are_no_labels(tmp_path: Path, mode: str) -> None:
    path = write_labels(tmp_path / "x.png", [[0, 1]], mode)
    with pytest.raises(ValueError, match=rf"x\.png is PNG of mode {mode}, expected"):
        TruthFiles(tmp_path, 3).read(path, (1, 2))


def test_labels_are_found_by_the_names_of_the_images(tmp_path: Path) -> None:
    labels = write_labels(tmp_path / "x.png", [[0]])
    assert TruthFiles(tmp_path, 3).find([Path("a/x.jpg")]) == {Path("a/x.jpg"): labels}
    assert TruthFiles(labels, 3).find([Path("y.jpg")]) == {Path("y.jpg"): labels}
    with pytest.raises(ValueError, match=r"1 of 2 images have no label file, .* expected .*y\.png"):
        TruthFiles(tmp_path, 3).find([Path("x.jpg"), Path("y.jpg")])
    with pytest.raises(ValueError, match="one label file for 2 images"):
        TruthFiles(labels, 3).find([Path("x.jpg"), Path("y.jpg")])
    with pytest.raises(ValueError, match="does not exist"):
        TruthFiles(tmp_path / "nowhere", 3).find([Path("x.jpg")])


@pytest.mark.parametrize(("offset", "void", "message"), [(1, 3, "also"), (0, 256, "not fit")])
def test_impossible_conventions_are_refused(offset: int, void: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TruthFiles(Path(), 3, offset, void)
