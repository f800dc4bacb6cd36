"""From a configuration to batches: what is opened, which images are used, what they become."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pictures

from datasets.segmentation import Subset, TestSamples, open_reader, training_batches
from rsseg.images.preprocessing import Preprocessing
from rsseg.segmentation.config import AugmentationConfig, DataConfig, SegmentationConfig
from rsseg.segmentation.labels import LabelReading
from rsseg.segmentation.model import ModelConfig
from rsseg.switchable.resolutions import Resolutions
from rsseg.training.config import OptimConfig
from tests.helpers.small_reader import noise, noisy_reader

TRAINING = [f"room{index}" for index in range(10)]
TEST = ["hall0", "hall1", "hall2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared folder of 13 small images with labels 0 (void) to 40."""
    root = tmp_path_factory.mktemp("prepared")
    for part in ("images", "labels40"):
        (root / part).mkdir()
    for seed, name in enumerate(TRAINING + TEST):
        pixels = noise(36, 44 + seed, seed)
        Pictures.fromarray(pixels).save(root / "images" / f"{name}.png")
        Pictures.fromarray(pixels[..., 0] % 41).save(root / "labels40" / f"{name}.png")
    (root / "train.txt").write_text("\n".join(TRAINING), encoding="utf-8")
    (root / "test.txt").write_text("\n".join(TEST), encoding="utf-8")
    return root


def config(root: Path, **data: int) -> SegmentationConfig:
    return SegmentationConfig(
        resolutions=Resolutions([40, 32]),
        epochs=1,
        batch_size=2,
        optim=OptimConfig(lr=0.1),
        data=DataConfig(root=str(root), **data),  # type: ignore[arg-type]
        augmentation=AugmentationConfig(shorter_side=30, crop=48),
        workers=0,
        seed=3,
    )


@pytest.mark.parametrize(
    ("count", "indices"),
    [(1, [0]), (2, [0, 9]), (3, [0, 4, 9]), (4, [0, 3, 6, 9]), (10, list(range(10)))],
)
def test_subset_is_spread_evenly_from_first_to_last(count: int, indices: list[int]) -> None:
    reader = noisy_reader(10, 4, 4)
    subset = Subset(reader, count)
    assert len(subset) == count
    assert subset.names == tuple(f"picture{index}" for index in indices)
    assert [sample.name for sample in subset] == list(subset.names)
    assert subset.where(count - 1) == f"picture{indices[-1]}.png"
    assert subset.classes == reader.classes
    np.testing.assert_array_equal(subset[-1].image, reader.images[indices[-1]])


def test_subset_larger_than_its_reader_is_the_reader() -> None:
    assert Subset(noisy_reader(3, 4, 4), 99).names == ("picture0", "picture1", "picture2")


def test_subset_travels_to_worker_processes() -> None:
    subset = pickle.loads(pickle.dumps(Subset(noisy_reader(5, 4, 4), 2)))
    assert subset[1].name == "picture4"


def test_split_decides_which_images_are_opened(folder: Path) -> None:
    data = DataConfig(root=str(folder))
    assert open_reader(data, "train", 40).names == tuple(TRAINING)
    assert open_reader(data, "test", 40).names == tuple(TEST)


def test_limit_holds_for_training_images_only(folder: Path) -> None:
    data = DataConfig(root=str(folder), limit=2)
    assert open_reader(data, "train", 40).names == ("room0", "room9")
    assert open_reader(data, "test", 40).names == tuple(TEST)


def test_label_convention_of_the_configuration_reaches_the_reader(folder: Path) -> None:
    stored = np.asarray(Pictures.open(folder / "labels40" / "room0.png"))
    stated = LabelReading(offset=1, void=(0,))
    for told in (DataConfig(root=str(folder)), DataConfig(root=str(folder), labels=stated)):
        labels = open_reader(told, "train", 40)[0].labels
        np.testing.assert_array_equal(labels, stored - np.uint8(1))
    shifted = DataConfig(root=str(folder), labels=LabelReading(offset=0, void=(40,)))
    labels = open_reader(shifted, "train", 40)[0].labels
    np.testing.assert_array_equal(labels, np.where(stored == 40, 255, stored))


def test_crop_of_the_configuration_reaches_the_reader(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"room0\.png: the crop 'gupta' is meant for"):
        open_reader(DataConfig(root=str(folder), crop="gupta"), "train", 40)


def test_number_of_classes_comes_from_the_model(folder: Path) -> None:
    few = dataclasses.replace(config(folder), model=ModelConfig(classes=7))
    for opened in (training_batches, TestSamples):
        with pytest.raises(ValueError, match=r"\.png: 0\.\.40.*does not prove .* 7 classes"):
            opened(few)


def test_training_batches_follow_the_configuration(folder: Path) -> None:
    batches = training_batches(config(folder))
    assert batches.steps == 5
    for (large, small), labels in batches.epoch(0):
        assert large.shape == (2, 3, 40, 40)
        assert small.shape == (2, 3, 32, 32)
        assert labels.shape == (2, 40, 40)
        assert set(labels.flatten().tolist()) <= {*range(40), 255}
    assert training_batches(config(folder, limit=5)).steps == 2


def test_training_batches_follow_the_seed(folder: Path) -> None:
    first, same, other = (
        next(training_batches(dataclasses.replace(config(folder), seed=seed)).epoch(0))[1]
        for seed in (3, 3, 4)
    )
    assert first.equal(same)
    assert not first.equal(other)


def test_test_batches_are_whole_images_at_the_given_resolutions(folder: Path) -> None:
    samples = TestSamples(config(folder, limit=1))
    assert len(samples.classes) == 40
    found = list(samples.batches([48, 32, 40]))
    assert [views[0].shape[0] for views, _ in found] == [2, 1]
    assert [view.shape[-1] for view in found[0][0]] == [48, 32, 40]
    sizes = [tuple(label.shape) for _, labels in found for label in labels]
    assert sizes == [(36, 54), (36, 55), (36, 56)]
    aspect = dataclasses.replace(config(folder), preprocessing=Preprocessing(fit="aspect"))
    assert [views[0].shape for views, _ in TestSamples(aspect).batches([36])] == [
        (1, 3, 36, width) for width in (54, 55, 56)
    ]


def test_fingerprint_tells_data_sets_apart_by_their_test_samples(folder: Path) -> None:
    first = TestSamples(config(folder)).fingerprint
    assert first == TestSamples(config(folder, limit=1)).fingerprint
    assert first["test_samples"] == len(TEST)
    (folder / "test.txt").write_text("\n".join(TEST[:2]) + "\n")
    assert TestSamples(config(folder)).fingerprint != first


def test_limit_smaller_than_a_batch_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="has 1 image, fewer than one batch of 2"):
        training_batches(config(folder, limit=1))
