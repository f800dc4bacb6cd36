"""Colours of label maps: distinct, repeatable, and put where the labels say."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Pictures

from rsseg.segmentation.label_files import read_label_values
from rsseg.segmentation.palette import (
    VOID_COLOUR,
    class_colours,
    colourise,
    label_picture,
    label_png,
    overlay,
    palette,
)


def test_palette_gives_every_class_another_colour() -> None:
    for classes in (1, 2, 40, 150, 255):
        colours = palette(classes)
        assert colours.shape == (classes, 3)
        assert colours.dtype == np.uint8
        assert len(np.unique(colours, axis=0)) == classes


def test_colours_of_forty_classes_are_far_apart_and_far_from_void() -> None:
    colours = np.vstack([palette(40), [VOID_COLOUR]]).astype(int)
    distance = np.abs(colours[:, None] - colours[None]).max(axis=-1)
    np.fill_diagonal(distance, 255)
    assert distance.min() >= 30


def test_palette_is_the_same_at_every_call_and_grows_by_appending() -> None:
    np.testing.assert_array_equal(palette(40), palette(40))
    np.testing.assert_array_equal(palette(7), palette(40)[:7])


@pytest.mark.parametrize("classes", [0, -1, 256])
def test_palette_refuses_a_number_of_classes_that_uint8_cannot_hold(classes: int) -> None:
    with pytest.raises(ValueError, match=f"1 to 255 classes, got {classes}"):
        palette(classes)


def test_colourised_pixels_have_the_colour_of_their_class() -> None:
    labels = np.array([[0, 2, 255], [1, 1, 0]], dtype=np.uint8)
    painted = colourise(labels, 3)
    colours = [*(tuple(map(int, colour)) for colour in palette(3)), VOID_COLOUR]
    for place, label in np.ndenumerate(labels):
        assert tuple(painted[place]) == colours[3 if label == 255 else label]


def test_colourise_names_a_label_that_is_no_class() -> None:
    with pytest.raises(ValueError, match=r"value 3, expected 0..2 or 255"):
        colourise(np.array([[0, 3]], dtype=np.uint8), 3)


def test_colourise_accepts_a_map_of_void_alone() -> None:
    labels = np.full((2, 2), 255, dtype=np.uint8)
    assert (colourise(labels, 5) == VOID_COLOUR).all()


@pytest.mark.parametrize("classes", [1, 2, 16, 40, 255])
def test_written_label_map_is_read_back_and_has_the_colours_of_the_overlay(
    tmp_path: Path, classes: int
) -> None:
    labels = np.resize(np.array([*range(classes), 255], dtype=np.uint8), (19, 23))
    (tmp_path / "x.png").write_bytes(label_png(labels, classes))
    np.testing.assert_array_equal(read_label_values(tmp_path / "x.png"), labels)
    with Pictures.open(tmp_path / "x.png") as picture:
        np.testing.assert_array_equal(np.array(picture), labels)
        np.testing.assert_array_equal(np.array(picture.convert("RGB")), colourise(labels, classes))
    # Documented in docs/RUNTIME.md: OpenCV gives the colours, not the classes.
    by_opencv = cv2.imread(str(tmp_path / "x.png"), cv2.IMREAD_UNCHANGED)
    assert by_opencv is not None
    np.testing.assert_array_equal(by_opencv[..., 2::-1], colourise(labels, classes))


def test_overlay_mixes_image_and_colours_by_the_opacity() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    labels = rng.integers(0, 6, (4, 5), dtype=np.uint8)
    painted = colourise(labels, 6)
    np.testing.assert_array_equal(overlay(image, labels, 6, opacity=0), image)
    np.testing.assert_array_equal(overlay(image, labels, 6, opacity=1), painted)
    half = overlay(image, labels, 6, opacity=0.5).astype(float)
    assert np.abs(half - (image.astype(float) + painted) / 2).max() <= 0.5


def test_overlay_refuses_other_sizes_and_opacities() -> None:
    image = np.zeros((4, 5, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match=r"one size, got \(4, 5\) and \(5, 4\)"):
        overlay(image, np.zeros((5, 4), dtype=np.uint8), 2)
    with pytest.raises(ValueError, match=r"0..1, got 55"):
        overlay(image, np.zeros((4, 5), dtype=np.uint8), 2, opacity=55)


def test_given_colours_take_the_place_of_the_palette() -> None:
    given = class_colours(3, [(1, 2, 3), (4, 5, 6), (7, 8, 9)])
    labels = np.array([[0, 2, 255]], dtype=np.uint8)
    expected = [[[1, 2, 3], [7, 8, 9], [*VOID_COLOUR]]]
    assert colourise(labels, given).tolist() == expected
    assert np.asarray(label_picture(labels, given).convert("RGB")).tolist() == expected
    np.testing.assert_array_equal(class_colours(3), palette(3))
    with pytest.raises(ValueError, match="2 colours for 3 classes"):
        class_colours(3, [(1, 2, 3), (4, 5, 6)])
    with pytest.raises(ValueError, match=r"value 3, expected 0\.\.2"):
        colourise(np.array([[3]], dtype=np.uint8), given)
