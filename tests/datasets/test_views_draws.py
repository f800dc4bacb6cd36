"""What is drawn for a training sample: scale, place, padding and flip, and from which seed."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import torch

from datasets.samples import Draw
from datasets.views import TrainingViews
from rsseg.images.preprocessing import Preprocessing
from rsseg.segmentation.augmentation import BoundedScale
from rsseg.segmentation.config import AugmentationConfig
from tests.datasets.test_views import MEAN, WILD, coordinates, pixels, training
from tests.helpers.processes import forkserver
from tests.helpers.small_reader import SmallReader, noisy_reader, parts, still


def test_padding_has_the_mean_colour_and_void_labels_and_any_place() -> None:
    reader = noisy_reader(1, 30, 44)
    labels = np.minimum(reader.labels[0], 254)
    views = training(SmallReader(reader.images, [labels]), still(64), 64)
    corners = []
    for seed in range(150):
        (view,), target = parts(views[Draw(0, seed)])
        rows, places = np.nonzero(target.numpy() != 255)
        top, left = int(rows.min()), int(places.min())
        assert len(rows) == 30 * 44
        part = np.s_[top : top + 30, left : left + 44]
        np.testing.assert_array_equal(target[part], labels)
        np.testing.assert_array_equal(pixels(view)[part], reader.images[0])
        assert (pixels(view)[target.numpy() == 255] == MEAN).all()
        corners.append((top, left))
    found = np.array(corners)
    assert found.min() == 0
    assert found.max(axis=0).tolist() == [34, 20]
    assert abs(found.mean(axis=0) - (17, 10)).max() < 3
    assert abs(np.corrcoef(found.T)[0, 1]) < 0.25


def test_padding_takes_the_mean_of_the_preprocessing() -> None:
    preprocessing = Preprocessing(mean=(0.2, 0.4, 0.6))
    views = TrainingViews(noisy_reader(1, 4, 4), [32], preprocessing, still(32))
    (view,), target = parts(views[Draw(0, 0)])
    assert (pixels(view)[target.numpy() == 255] == (51, 102, 153)).all()


def test_shorter_side_never_falls_below_its_bound() -> None:
    for side in range(20, 260):
        transform = BoundedScale((0.01, 0.01), 64)
        for shape in ((side, side + 31), (side + 31, side)):
            scaled = transform(image=np.zeros((*shape, 3), np.uint8))["image"].shape[:2]
            assert min(scaled) == 64, shape
            assert abs(max(scaled) - 64 * (side + 31) / side) <= 1


def test_scales_fill_their_range_evenly() -> None:
    transform = BoundedScale((0.5, 2.0), 1)
    transform.set_random_seed(0)
    image = np.zeros((100, 200), np.uint8)
    shapes = np.array([transform(image=image)["image"].shape for _ in range(400)])
    assert abs(shapes[:, 1] - 2 * shapes[:, 0]).max() <= 1
    counts, _ = np.histogram(shapes[:, 0], bins=[50, 80, 110, 140, 170, 201])
    assert counts.sum() == 400
    assert counts.min() > 50


def test_bound_raises_small_scales_and_leaves_large_ones() -> None:
    transform = BoundedScale((0.5, 2.0), 120)
    transform.set_random_seed(0)
    image = np.zeros((100, 200), np.uint8)
    sides = np.array([transform(image=image)["image"].shape[0] for _ in range(300)])
    assert sides.min() == 120
    assert sides.max() > 190
    assert 0.3 < (sides == 120).mean() < 0.65  # expected: 0.7 / 1.5


def test_scale_place_and_flip_are_drawn_independently() -> None:
    config = AugmentationConfig(scale=(0.5, 2.0), shorter_side=1, crop=40)
    views = training(coordinates(160, 84), config, 40)
    found = []
    for seed in range(300):
        (view,), _ = parts(views[Draw(0, seed)])
        red, green = pixels(view)[20, :, 0] / 3, pixels(view)[:, 20, 1]
        covered = int(green[-1] - green[0])  # rows of the image in the crop: scale turned over
        flipped = red[0] > red[-1]
        top, left = green[0] / (160 - covered), red.min() / (84 - covered)
        found.append((covered, top, left, flipped))
    measured = np.array(found, dtype=float)
    assert 18 <= measured[:, 0].min() < 22
    assert 70 < measured[:, 0].max() <= 80
    assert abs(measured[:, 1:].mean(axis=0) - 0.5).max() < 0.1
    assert abs(np.corrcoef(measured.T) - np.eye(4)).max() < 0.2


def digest(draws: list[Draw]) -> list[int]:
    """Sum up samples in numbers that hardly two of them share."""
    views = training(noisy_reader(3, 60, 80), dataclasses.replace(WILD, photometric=0.5), 64, 32)
    weights = torch.arange(1, 3 * 64 * 64 + 1)
    sums = []
    for draw in draws:
        (large, small), labels = parts(views[draw])
        values = torch.cat([large.flatten()[: 2 * 64 * 64], labels.flatten()]).long()
        sums.append(int((values * weights).sum()) + int(small.long().sum()))
    return sums


def test_sample_depends_on_the_seed_of_its_draw_alone() -> None:
    draws = [Draw(index % 3, seed) for index, seed in enumerate((0, 1, 2, 2**32 - 1, 7))]
    expected = digest(draws)
    assert len(set(expected)) == len(draws)
    random.seed(4)
    np.random.seed(4)  # noqa: NPY002
    torch.manual_seed(4)
    assert digest(draws[::-1]) == expected[::-1]
    with forkserver().Pool(1) as fresh:
        assert fresh.apply(digest, (draws,)) == expected


def test_other_seeds_give_other_samples() -> None:
    assert len(set(digest([Draw(0, seed) for seed in range(30)]))) == 30
