"""Facts about rsseg/runtime/predict/truth.py: which label file belongs to which image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pictures

from rsseg.runtime.predict.truth import TruthFiles, pixel_accuracy
from rsseg.segmentation.labels import LabelConvention


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
    with pytest.raises(
        ValueError, match=r"x\.png: .* 3 beside classes 0\.\.2, void 255 .*--label-"
    ):
        TruthFiles(tmp_path, 3).read(path, (1, 2))


def test_labels_of_another_size_are_refused(tmp_path: Path) -> None:
    path = write_labels(tmp_path / "x.png", [[0, 1]])
    with pytest.raises(ValueError, match=r"x\.png has the size 2x1, expected .* 1x2"):
        TruthFiles(tmp_path, 3).read(path, (2, 1))


@pytest.mark.parametrize("mode", ["RGB", "1"])
def test_colours_and_stretched_values_are_no_labels(tmp_path: Path, mode: str) -> None:
    path = write_labels(tmp_path / "x.png", [[0, 1]], mode)
    with pytest.raises(ValueError, match=rf"x\.png: a label file is .* of mode {mode}"):
        TruthFiles(tmp_path, 3).read(path, (1, 2))


def test_half_a_convention_is_completed_as_for_training(tmp_path: Path) -> None:
    from_zero, from_one = LabelConvention(3, 0, 255), LabelConvention(3, 1, 0)
    assert TruthFiles(tmp_path, 3).convention == from_zero
    assert TruthFiles(tmp_path, 3, label_offset=1).convention == from_one
    assert TruthFiles(tmp_path, 3, void_value=0).convention == from_one


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


def test_pixel_accuracy_counts_valid_pixels_alone() -> None:
    labels = np.array([[0, 1, 2, 3]], dtype=np.uint8)
    assert pixel_accuracy(labels, np.array([[0, 1, 0, 255]], dtype=np.uint8)) == 2 / 3
    assert pixel_accuracy(labels, np.full((1, 4), 255, dtype=np.uint8)) is None
