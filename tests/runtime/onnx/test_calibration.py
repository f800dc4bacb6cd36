"""Facts about rsseg/runtime/onnx/calibration.py: which images are taken, and how they are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pictures

from rsseg.images.preprocessing import Preprocessing
from rsseg.runtime.onnx.calibration import CalibrationViews, calibration_images
from tests.helpers.small_exported import write_clouds

SQUARE = Preprocessing(fit="square")


def drawn(mode: str = "RGB", size: tuple[int, int] = (90, 80)) -> Pictures.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    return Pictures.fromarray(pixels).resize(size).convert(mode)


def test_images_are_evenly_spaced_over_all_below_the_folder(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        for index in range(100):
            drawn(size=(8, 8)).save(tmp_path / name / f"{index:03}.bmp")
    images = calibration_images(tmp_path)
    assert len(images) == 128
    assert sum(path.parent.name == "a" for path in images) == 64


def test_images_of_every_mode_and_size_become_views_of_the_resolution(tmp_path: Path) -> None:
    write_clouds(tmp_path)
    for mode, name in (("L", "l.png"), ("CMYK", "c.jpg"), ("RGBA", "a.png"), ("P", "p.gif")):
        drawn(mode).save(tmp_path / name)
    drawn(size=(4000, 3000)).save(tmp_path / "large.jpg")  # 12 megapixels
    drawn(size=(1, 1)).save(tmp_path / "one.png")
    (tmp_path / "notes.txt").write_text("no image", encoding="utf-8")
    (tmp_path / "._0.png").write_bytes(b"what a Mac leaves on other disks")
    images = calibration_images(tmp_path)
    assert len(images) == 14
    (batch,) = CalibrationViews(images, SQUARE).batches(32)
    assert batch.shape == (14, 3, 32, 32)
    assert np.isfinite(batch).all()


def test_photo_that_lies_on_its_side_is_turned_upright(tmp_path: Path) -> None:
    """The same pixels, turned in the file and noted as turned, give the same view."""
    upright, exif = drawn(size=(64, 64)), Pictures.Exif()
    exif[0x0112] = 6  # Turned by 90 degrees to the left.
    upright.save(tmp_path / "upright.png")
    upright.transpose(Pictures.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    files = [tmp_path / "upright.png", tmp_path / "turned.png"]
    (batch,) = CalibrationViews(files, SQUARE).batches(32)
    np.testing.assert_array_equal(batch[0], batch[1])


def test_damaged_image_is_named(tmp_path: Path) -> None:
    write_clouds(tmp_path)
    drawn().save(tmp_path / "broken.jpg")
    content = (tmp_path / "broken.jpg").read_bytes()
    (tmp_path / "broken.jpg").write_bytes(content[: len(content) // 2])
    views = CalibrationViews(calibration_images(tmp_path), SQUARE)
    with pytest.raises(ValueError, match=r"broken.jpg: unreadable image .* replace it"):
        list(views.batches(32))


def test_label_maps_beside_images_are_refused(tmp_path: Path) -> None:
    for place in ("images", "labels"):
        (tmp_path / place).mkdir()
    write_clouds(tmp_path / "images")
    for index in range(8):
        drawn("L").save(tmp_path / "labels" / f"{index}.png")
    with pytest.raises(ValueError, match=r"labels/0.png looks like the label map of an image in"):
        calibration_images(tmp_path)
    assert len(calibration_images(tmp_path / "images")) == 8


def test_grey_images_of_class_folders_are_no_label_maps(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for index in range(4):
            drawn("L").save(tmp_path / name / f"{index}.png")
    assert len(calibration_images(tmp_path)) == 8
    drawn().save(tmp_path / "dog" / "0.png")  # One in colour among them.
    assert len(calibration_images(tmp_path)) == 8
