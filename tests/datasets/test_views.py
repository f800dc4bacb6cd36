"""Views: images whose colours tell class or place are augmented, and read off again."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image as Pictures
from torch import Tensor

from datasets.samples import Draw
from datasets.views import TestViews, TrainingViews
from rsseg.images.preprocessing import Preprocessing
from rsseg.segmentation.config import AugmentationConfig
from tests.helpers.small_reader import SmallReader, noise, noisy_reader, parts, still

MEAN = Preprocessing().mean_colour
SIZES = [(60, 80), (30, 44), (200, 150), (97, 61), (40, 400)]
WILD = AugmentationConfig(scale=(0.5, 2.0), shorter_side=40, crop=64)


def training(
    reader: SmallReader, augmentation: AugmentationConfig, *resolutions: int
) -> TrainingViews:
    return TrainingViews(reader, resolutions, Preprocessing(), augmentation)


def pixels(view: Tensor) -> NDArray[np.int64]:
    """Turn a view, (3, h, w), into an array one can subtract, (h, w, 3)."""
    return view.permute(1, 2, 0).numpy().astype(np.int64)


def by_pillow(view: Tensor, size: tuple[int, int]) -> NDArray[np.int64]:
    picture = Pictures.fromarray(pixels(view).astype(np.uint8))
    return np.asarray(picture.resize(size[::-1], Pictures.Resampling.BILINEAR)).astype(np.int64)


def coordinates(height: int, width: int) -> SmallReader:
    """Red is three times the column, green the row and the label the column."""
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    return SmallReader([np.stack([3 * columns, rows, rows], axis=-1)], [columns])


def inside(labels: NDArray[np.uint8], margin: int) -> NDArray[np.bool_]:
    """Mark the pixels whose neighbours up to `margin` away are there and have their label."""
    padded = np.pad(labels, margin, constant_values=254)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * margin + 1,) * 2)
    same: NDArray[np.bool_] = windows.min(axis=(2, 3)) == windows.max(axis=(2, 3))
    return same


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("largest", [64, 90])
def test_colour_at_each_pixel_is_that_of_its_label(size: tuple[int, int], largest: int) -> None:
    rows, places = np.mgrid[: size[0], : size[1]]
    labels = ((rows // 15 * 7 + places // 15 * 3) % 11).astype(np.uint8)
    labels[labels == 10] = 255
    colours = np.random.default_rng(5).integers(0, 256, (256, 3)).astype(np.uint8)
    views = training(SmallReader([colours[labels]], [labels]), WILD, largest, 32)
    colours_or_padding = 0
    for seed in range(12):
        (view, _), target = parts(views[Draw(0, seed)])
        found, seen = target.numpy(), pixels(view)
        padding = (found == 255) & (abs(seen - MEAN).max(axis=-1) <= 1)
        certain = inside(found, 3) & inside(padding.astype(np.uint8), 3) & ~padding
        assert abs(seen - colours[found])[certain].max(initial=0) <= 1
        colours_or_padding += int(certain.sum() + padding.sum())
    assert colours_or_padding > 0.25 * 12 * largest**2


@pytest.mark.parametrize("scale", [0.55, 0.7, 0.9, 1.3, 1.9])
def test_label_map_is_not_shifted_against_the_image(scale: float) -> None:
    config = AugmentationConfig(scale=(scale, scale), shorter_side=1, crop=40)
    views = training(coordinates(120, 84), config, 40)
    for seed in range(4):
        (view,), target = parts(views[Draw(0, seed)])
        shift = pixels(view)[..., 0] / 3 - target.numpy()
        assert abs(shift).max() < 1
        assert abs(shift.mean()) < 0.12  # in pixels of the original image


@pytest.mark.parametrize("size", SIZES)
def test_every_view_is_an_antialiased_resize_of_one_crop(size: tuple[int, int]) -> None:
    reader = noisy_reader(1, *size)
    for seed in range(3):
        (crop,), labels = parts(training(reader, WILD, 64)[Draw(0, seed)])
        views, target = parts(training(reader, WILD, 80, 48, 33, 17)[Draw(0, seed)])
        for view, side in zip(views, (80, 48, 33, 17), strict=True):
            assert view.shape == (3, side, side)
            assert view.dtype == torch.uint8
            assert abs(pixels(view) - by_pillow(crop, (side, side))).max() <= 1
        centres = ((np.arange(80) + 0.5) * 64 / 80).astype(int)
        np.testing.assert_array_equal(target, labels[np.ix_(centres, centres)])


def test_flip_mirrors_all_views_and_the_labels() -> None:
    reader = noisy_reader(1, 60, 80)
    never, always = (
        parts(training(reader, dataclasses.replace(WILD, flip=share), 64, 32)[Draw(0, 3)])
        for share in (0.0, 1.0)
    )
    torch.testing.assert_close(always[1], never[1].flip(-1), rtol=0, atol=0)
    torch.testing.assert_close(always[0][0], never[0][0].flip(-1), rtol=0, atol=0)
    torch.testing.assert_close(always[0][1], never[0][1].flip(-1), rtol=0, atol=1)


def test_resizing_labels_invents_no_value() -> None:
    labels = np.where(np.indices((61, 75)).sum(axis=0) % 2, 3, 200).astype(np.uint8)
    labels[::7] = 255
    views = training(SmallReader([noise(61, 75)], [labels]), WILD, 50, 32)
    for seed in range(20):
        assert set(parts(views[Draw(0, seed)])[1].flatten().tolist()) <= {3, 200, 255}


def test_without_changes_the_pixels_stay_as_they_are() -> None:
    reader = noisy_reader(1, 64, 64)
    (view,), target = parts(training(reader, still(64), 64)[Draw(0, 9)])
    np.testing.assert_array_equal(pixels(view), reader.images[0])
    np.testing.assert_array_equal(target, reader.labels[0])
    target.zero_()
    assert reader.labels[0].any()  # the reader's own array is not handed out


def test_photometric_changes_reach_the_image_and_never_the_labels() -> None:
    reader = noisy_reader(1, 60, 80)
    plain = training(reader, WILD, 64)
    coloured = training(reader, dataclasses.replace(WILD, photometric=1.0), 64)
    seldom = training(reader, dataclasses.replace(WILD, photometric=0.3), 64)
    changed = 0
    for seed in range(40):
        (view,), labels = parts(plain[Draw(0, seed)])
        (other,), same = parts(coloured[Draw(0, seed)])
        assert (view != other).any()
        assert torch.equal(labels, same)
        changed += int((parts(seldom[Draw(0, seed)])[0][0] != view).any())
    assert 4 <= changed <= 20


def test_training_views_check_their_resolutions() -> None:
    with pytest.raises(ValueError, match="must run from large to small"):
        training(noisy_reader(1, 8, 8), still(8), 32, 64)


@pytest.mark.parametrize("size", [(48, 64), (30, 20), (61, 97)])
@pytest.mark.parametrize("fit", ["square", "aspect"])
def test_test_views_are_resizes_of_the_whole_image(fit: str, size: tuple[int, int]) -> None:
    reader = noisy_reader(2, *size)
    preprocessing = Preprocessing(fit=fit)  # type: ignore[arg-type]
    views, target = parts(TestViews(reader, [24, 40, 16], preprocessing)[1])
    image = torch.from_numpy(reader.images[1].copy()).permute(2, 0, 1)
    for view, side in zip(views, (24, 40, 16), strict=True):
        ratio = side / min(size)
        shape = (
            (side, side) if fit == "square" else (round(size[0] * ratio), round(size[1] * ratio))
        )
        assert view.shape == (3, *shape)
        assert abs(pixels(view) - by_pillow(image, shape)).mean() <= 1
    np.testing.assert_array_equal(target, reader.labels[1])
    assert target.dtype == torch.uint8


def test_test_views_are_as_many_as_the_reader_has() -> None:
    views = TestViews(noisy_reader(3, 8, 8), [8], Preprocessing())
    assert len(views) == 3
    assert len(training(noisy_reader(2, 8, 8), still(8), 8)) == 2
