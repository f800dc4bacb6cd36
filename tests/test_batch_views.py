"""Facts about rsseg/batch_views.py: an own loop sees what the loaders show, and its faults."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pictures

import rsseg
from datasets.image_views import TrainingImages
from datasets.imagenet.reader import ImageFiles
from datasets.samples import Draw
from datasets.views import TrainingViews
from rsseg.classifiers.config import CropConfig
from rsseg.images.preprocessing import Preprocessing
from rsseg.losses.pixelwise import pixelwise_mred_loss
from rsseg.segmentation.config import AugmentationConfig
from tests.helpers.processes import ROOT
from tests.helpers.small_reader import SmallReader, noise, parts

SIDES = [(60, 80), (33, 47), (90, 50)]
SMALL = AugmentationConfig(shorter_side=40, crop=48, photometric=0.5)


def images() -> list[np.ndarray[Any, Any]]:
    return [noise(*size) for size in SIDES]


def label_maps() -> list[np.ndarray[Any, Any]]:
    draw = np.random.default_rng(4)
    return [np.where(draw.random(size) < 0.1, 255, draw.integers(0, 5, size)) for size in SIDES]


def seeds(seed: int, count: int) -> list[int]:
    drawn: list[int] = np.random.default_rng(seed).integers(2**32, size=count).tolist()
    return drawn


def test_classification_views_are_those_of_the_loader(tmp_path: Path) -> None:
    for index, image in enumerate(images()):
        Pictures.fromarray(image).save(tmp_path / f"{index}.png")
    names = np.array([f"{index}.png".encode() for index in range(3)])
    files = ImageFiles(tmp_path, names, np.zeros(3, np.int64), ("any",))
    loader = TrainingImages(files, (64, 48, 17), CropConfig())
    batch, nothing = rsseg.views(images(), None, (64, 48, 17), seed=9)
    assert nothing is None
    for index, seed in enumerate(seeds(9, 3)):
        for own, theirs in zip(batch, loader[Draw(index, seed)].views, strict=True):
            assert own.dtype == torch.uint8
            assert torch.equal(own[index], torch.as_tensor(theirs))


def test_segmentation_views_are_those_of_the_loader() -> None:
    maps = [one.astype(np.uint8) for one in label_maps()]
    preprocessing = Preprocessing(mean=(0.2, 0.4, 0.6))
    loader = TrainingViews(SmallReader(images(), maps), (64, 32), preprocessing, SMALL)
    batch, targets = rsseg.views(
        images(), label_maps(), (64, 32), seed=3, augmentation=SMALL, preprocessing=preprocessing
    )
    assert targets is not None
    assert (targets.shape, targets.dtype) == ((3, 64, 64), torch.uint8)
    for index, seed in enumerate(seeds(3, 3)):
        expected, target = parts(loader[Draw(index, seed)])
        assert all(torch.equal(o[index], e) for o, e in zip(batch, expected, strict=True))
        assert torch.equal(targets[index], target)


def test_losses_take_the_label_maps_as_they_come() -> None:
    _, targets = rsseg.views(images(), label_maps(), [32, 16], seed=0, augmentation={"crop": 40})
    assert targets is not None
    logits = [torch.zeros(3, 5, side, side) for side in (32, 16)]
    # Equal logits: the entropy of five equal classes, whatever is void.
    loss = pixelwise_mred_loss(logits, targets, torch.zeros(2)).classification
    torch.testing.assert_close(loss, torch.tensor(2 * np.log(5.0), dtype=loss.dtype))


def test_every_kind_of_image_gives_the_same_views() -> None:
    arrays = [noise(40, 50), noise(40, 50)]
    tensors = torch.stack([torch.from_numpy(a).permute(2, 0, 1) for a in arrays])
    pictures = [Pictures.fromarray(array) for array in arrays]
    expected, _ = rsseg.views(arrays, None, [32, 16], seed=1)
    for kind in (np.stack(arrays), tensors, list(tensors), pictures):
        given, _ = rsseg.views(kind, None, [np.int64(32), np.int32(16)], seed=np.int64(1))
        assert all(torch.equal(a, b) for a, b in zip(given, expected, strict=True))
    maps = np.zeros((2, 40, 50), np.int64)
    kinds = (maps, torch.from_numpy(maps), [Pictures.fromarray(maps[0].astype(np.uint8))] * 2)
    first, *others = (rsseg.views(arrays, kind, [32], seed=1)[1] for kind in kinds)
    assert first is not None
    assert all(other is not None and torch.equal(first, other) for other in others)


def test_views_follow_the_seed_or_the_generator_that_is_given() -> None:
    def drawn(seed: Any) -> torch.Tensor:
        return rsseg.views(images(), None, [32], seed=seed).images[0]

    assert torch.equal(drawn(5), drawn(5))
    assert not torch.equal(drawn(5), drawn(6))
    assert torch.equal(
        drawn(torch.Generator().manual_seed(2)), drawn(torch.Generator().manual_seed(2))
    )
    generator = torch.Generator().manual_seed(2)
    assert not torch.equal(drawn(generator), drawn(generator))
    torch.manual_seed(3)
    first = drawn(None)
    assert not torch.equal(drawn(None), first)
    torch.manual_seed(3)
    assert torch.equal(drawn(None), first)


def test_a_given_seed_leaves_the_generator_of_torch_alone() -> None:
    before = torch.get_rng_state()
    rsseg.views(images(), label_maps(), [32], seed=0, augmentation=SMALL)
    rsseg.views(images(), None, [32], seed=0)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": []}, "no image given"),
        ({"images": noise(40, 50)}, r"one image, of shape \(40, 50, 3\); give a list of images"),
        ({"images": torch.zeros(3, 9, 8, dtype=torch.uint8)}, r"\(3, 9, 8\); give a list of im"),
        ({"images": Pictures.new("RGB", (8, 9))}, "one image, of 8x9 pixels; give a list of im"),
        ({"images": torch.zeros(1, 40, 50, 3, dtype=torch.uint8)}, r"shape \(B, 3, H, W\)"),
        ({"images": torch.zeros(1, 3, 40, 50)}, "float32"),
        ({"images": [np.zeros((40, 50, 3))]}, "expected an RGB array, uint8"),
        ({"resolutions": [16, 32]}, r"write \[32, 16\]"),
        ({"seed": -1}, "seed must be a whole number from 0"),
        ({"seed": True}, "seed must be a whole number from 0"),
        ({"augmentation": {"crops": "two"}}, "'crops' in the augmentation of views"),
        ({"augmentation": AugmentationConfig()}, "the augmentation of views"),
        ({"label_maps": []}, "1 image and 0 label maps"),
        ({"label_maps": [np.zeros((50, 40), np.uint8)]}, "50x40 pixels, its label map 40x50"),
        ({"label_maps": [np.zeros((40, 50))]}, "label map of integers"),
        ({"label_maps": [np.zeros((40, 50, 3), np.uint8)]}, "make colours classes first"),
        ({"label_maps": [np.zeros((40, 50), np.bool_)]}, r"true and false; give labels\.astype"),
        ({"label_maps": [np.full((40, 50), 300)]}, "values from 300 to 300"),
    ],
)
def test_fault_is_named_at_the_door(change: dict[str, Any], message: str) -> None:
    given = {"images": [noise(40, 50)], "label_maps": None, "resolutions": [32, 16]} | change
    with pytest.raises(ValueError, match=message):
        rsseg.views(**given)


def test_missing_albumentations_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "rsseg.segmentation.augmentation", raising=False)
    monkeypatch.setitem(sys.modules, "albumentations", None)
    with pytest.raises(ImportError, match=r"pip install 'rsseg\[data\]'"):
        rsseg.views(images(), label_maps(), [32], seed=0)
    assert len(rsseg.views(images(), None, [32], seed=0).images) == 1


def test_views_of_labels_do_not_load_albumentations() -> None:
    code = (
        "import numpy, rsseg, sys\n"
        "rsseg.views([numpy.zeros((9, 9, 3), 'uint8')], None, [8], seed=0)\n"
        "assert 'albumentations' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_picture_that_viewers_turn_is_refused_beside_a_label_map() -> None:
    picture = Pictures.fromarray(images()[0])
    picture.getexif()[0x0112] = 3
    labels = np.zeros((picture.height, picture.width), np.uint8)
    with pytest.raises(ValueError, match=r"EXIF orientation 3.*exif_transpose"):
        rsseg.views([picture], [labels], [32, 16], seed=0)
    rsseg.views([picture], None, [32, 16], seed=0)
