"""The normalisation that weights were trained with, from everyone who writes it down."""

from __future__ import annotations

import pytest
import timm
import torchvision

from rsseg.classifiers.build import ClassifierConfig, weights_record
from rsseg.segmentation.encoders import encoder_record
from rsseg.weights.record import record_of


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "resnet18", "inception_v4"])
def test_timm_says_how_its_own_weights_were_trained(name: str) -> None:
    cfg = timm.get_pretrained_cfg(name)
    config = ClassifierConfig(name=f"timm/{name}", weights="imagenet")
    for record in (
        weights_record(config, None),
        encoder_record(f"tu-{name}", "imagenet", None, offline=True),
    ):
        assert record is not None
        assert (record.mean, record.std) == (cfg.mean, cfg.std)
        assert record.certain


def test_torchvision_says_how_its_own_weights_were_trained() -> None:
    images = torchvision.models.ResNet18_Weights.DEFAULT.transforms()
    record = weights_record(ClassifierConfig(name="resnet18", weights="imagenet"), None)
    assert record is not None
    assert [list(record.mean), list(record.std)] == [images.mean, images.std]


def test_no_weights_have_no_record() -> None:
    assert weights_record(ClassifierConfig(name="timm/resnet18"), None) is None
    assert encoder_record("resnet18", None, None) is None


@pytest.mark.parametrize(
    ("values", "mean"),
    [
        ({"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}, 0.5),
        ({"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}, 0.5),
        ({"mean": [51, 51, 51], "std": [51, 51, 51], "input_range": [0, 255]}, 0.2),
    ],
)
def test_record_is_read_in_the_range_of_one(values: dict[str, list[float]], mean: float) -> None:
    record = record_of(values, "the test")
    assert record is not None
    assert record.mean == record.std == (mean, mean, mean)


def test_settings_without_three_channels_are_none() -> None:
    assert record_of({"mean": [0.5], "std": [0.5]}, "the test") is None
    assert record_of({}, "the test") is None
