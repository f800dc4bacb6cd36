"""Views of labelled images: one crop for all resolutions, as PIL would resize it; skipped files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pictures
from torch import Tensor

from datasets.classification import TestImages, training_batches
from datasets.image_views import TrainingImages
from datasets.imagenet.reader import open_images
from datasets.samples import Draw
from rsseg.classifiers.config import CropConfig, ImageDataConfig
from rsseg.classifiers.random_crops import RandomCrops
from rsseg.images.preprocessing import Preprocessing
from tests.helpers.small_images import CLASSES, image_config, write_images

RESOLUTIONS = (64, 48, 32, 16)


def views_of(image: np.ndarray[Any, Any], seed: int, **settings: Any) -> list[Tensor]:
    crops = RandomCrops(RESOLUTIONS, CropConfig(**settings))
    return crops.views(torch.from_numpy(image).permute(2, 0, 1), seed)


def coordinates(height: int, width: int) -> np.ndarray[Any, Any]:
    """An image whose red is the column and whose green the row: a view tells where it is from."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0], image[..., 1] = np.arange(width), np.arange(height)[:, None]
    return image


def corners(view: Tensor) -> Tensor:
    """Where left, right, top and bottom of a view lie in the image of coordinates."""
    side = view.shape[-1]
    centres = view[:2].double()
    # Pixel centres lie half a pixel of the view inside its border.
    x, y = centres[0].mean(0), centres[1].mean(1)
    step = torch.stack([(x[-1] - x[0]) / (side - 1), (y[-1] - y[0]) / (side - 1)])
    low = torch.stack([x[0], y[0]]) - step / 2
    high = torch.stack([x[-1], y[-1]]) + step / 2
    return torch.cat([low, high])


@given(st.integers(0, 2**32 - 1), st.integers(120, 250), st.integers(120, 250))
def test_all_views_show_the_same_crop_and_flip(seed: int, height: int, width: int) -> None:
    views = views_of(coordinates(height, width), seed, area=(0.3, 1.0))
    assert [view.shape for view in views] == [(3, side, side) for side in RESOLUTIONS]
    found = [corners(view) for view in views]
    # Antialiasing at the border and rounding move the estimate by a few pixels at most.
    for other in found[1:]:
        assert (found[0] - other).abs().max() < 6


def test_crops_of_their_own_differ_and_the_first_is_the_single_one() -> None:
    image, same = coordinates(200, 200), 0
    for seed in range(20):
        single = views_of(image, seed)
        own = views_of(image, seed, crops="per_resolution")
        assert torch.equal(single[0], own[0])
        first, last = (corners(own[index]) for index in (0, -1))
        same += bool((first - last).abs().max() < 6)
    assert same < 4


def test_flips_are_shared_by_default_and_drawn_for_each_on_request() -> None:
    def flipped(view: Tensor) -> bool:
        return bool(view[0, 0, 0] > view[0, 0, -1])

    image = coordinates(100, 100)
    shared = [[flipped(v) for v in views_of(image, seed)] for seed in range(60)]
    assert all(len(set(row)) == 1 for row in shared)
    assert 15 < sum(row[0] for row in shared) < 45
    drawn = [[flipped(v) for v in views_of(image, s, flips="per_resolution")] for s in range(60)]
    assert any(len(set(row)) > 1 for row in drawn)
    assert all(15 < sum(row[s] for row in drawn) < 45 for s in range(len(RESOLUTIONS)))
    assert not any(flipped(v) for seed in range(20) for v in views_of(image, seed, flip=0.0))


@pytest.mark.parametrize("seed", range(5))
def test_views_equal_the_resize_of_pil_within_one_level(seed: int) -> None:
    draw = np.random.default_rng(seed)
    image = draw.integers(0, 256, (90, 130, 3), dtype=np.uint8)
    image = np.array(Pictures.fromarray(image).resize((260, 180), Pictures.Resampling.BICUBIC))
    crops = RandomCrops(RESOLUTIONS, CropConfig(flip=0.0))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.rand(len(RESOLUTIONS))
        box = crops._crop.make_params([torch.from_numpy(image).permute(2, 0, 1)])
    top, left = box["top"], box["left"]
    cut = Pictures.fromarray(image[top : top + box["height"], left : left + box["width"]])
    for view in crops.views(torch.from_numpy(image).permute(2, 0, 1), seed):
        theirs = cut.resize((view.shape[-1],) * 2, Pictures.Resampling.BILINEAR)
        difference = view.permute(1, 2, 0).numpy().astype(int) - np.asarray(theirs).astype(int)
        assert np.abs(difference).mean() < 1
        assert np.abs(difference).max() <= 2


@given(st.integers(0, 2**32 - 1))
def test_share_of_the_area_stays_in_its_range(seed: int) -> None:
    views = views_of(coordinates(250, 250), seed, area=(0.3, 0.5), flip=0.0)
    left, top, right, bottom = corners(views[0])
    assert 0.25 < (right - left) * (bottom - top) / 250**2 < 0.55


def test_drawing_views_leaves_the_generator_of_torch_alone() -> None:
    before = torch.get_rng_state()
    views_of(coordinates(50, 50), 3)
    assert torch.equal(torch.get_rng_state(), before)


def test_test_images_are_resized_and_cropped_as_the_paper_says() -> None:
    fit = Preprocessing(fit="crop")
    sides = [fit.resized(s, 500, 700)[0] for s in (224, 192, 160, 128, 96)]
    assert sides == [256, 219, 182, 146, 109]
    image = coordinates(100, 200)
    left, top, right, bottom = corners(fit.view(image, 56)).tolist()
    # 64 of 100 rows stay of a shorter side of 64: 12.5 % are cut off, half on each side.
    assert (left, top) == pytest.approx((56.25, 6.25), abs=1.5)
    assert (right, bottom) == pytest.approx((143.75, 93.75), abs=1.5)
    own = Preprocessing(fit="crop", crop_ratios={56: 1.0})
    assert corners(own.view(image, 56))[1] == pytest.approx(0, abs=1)
    assert own.resized(48, 100, 200) == (54, 108)


def damaged(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.write_bytes(path.read_bytes()[:60])
    return root


def test_unreadable_images_are_replaced_and_counted_once(tmp_path: Path) -> None:
    root = damaged(write_images(tmp_path), "train/ant/0.png", "train/bee/3.png")
    config = image_config(root, data={"root": str(root), "max_unreadable": 2})
    batches = training_batches(config)
    for epoch in range(2):
        sizes = [len(target) for _, target in batches.epoch(epoch)]
        assert sizes == [4, 4, 4]
    assert set(batches.faults) == {"ant/0.png", "bee/3.png"}
    assert all("unreadable image" in reason for reason in batches.faults.values())


@pytest.mark.parametrize("workers", [0, 1])
def test_one_unreadable_image_too_many_stops_with_its_file(tmp_path: Path, workers: int) -> None:
    root = damaged(write_images(tmp_path), "train/ant/0.png", "train/bee/3.png")
    for limit, message in ((0, r"train/\w+/\d\.png: unreadable"), (1, "allows 1; the last is")):
        data = {"root": str(root), "max_unreadable": limit}
        batches = training_batches(image_config(root, data=data, workers=workers))
        with pytest.raises(ValueError, match=message):
            list(batches.epoch(0))


def test_unreadable_test_images_are_left_out_and_named(tmp_path: Path) -> None:
    root = damaged(write_images(tmp_path), "val/bee/1.png")
    tests = TestImages(image_config(root, data={"root": str(root), "max_unreadable": 1}))
    targets = [target for _, target in tests.batches([32])]
    assert torch.cat([torch.as_tensor(t) for t in targets]).tolist() == [0, 0, 0, 1, 1, 2, 2, 2]
    assert "bee/1.png" not in tests.names
    assert len(tests.names) == 8
    assert list(tests.faults) == ["bee/1.png"]


def test_labels_and_views_come_together(tmp_path: Path) -> None:
    root = write_images(tmp_path)
    images = open_images(ImageDataConfig(root=str(root)), "train", len(CLASSES))
    views = TrainingImages(images, (32, 16), CropConfig())
    for index in range(len(views)):
        item = views[Draw(index, 5)]
        view = item.views[0]
        assert isinstance(view, Tensor)
        assert int(view.float().mean(dim=(1, 2)).argmax()) == int(item.target)
