"""Facts about rsseg/runtime/description.py: what a checkpoint and an exported file say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rsseg.common.config import plain
from rsseg.images.preprocessing import Preprocessing
from rsseg.runtime.checkpoints import describe
from rsseg.runtime.description import name_of, parse
from rsseg.switchable.resolutions import Resolutions
from rsseg.training.metadata import RunMetadata
from tests.helpers.small_exported import description

PATH = Path("net.onnx")
METADATA = RunMetadata(
    task="segmentation",
    model={},
    classes=("wall", "floor"),
    resolutions=Resolutions([64, 64, 32]),
    preprocessing=Preprocessing(),
    epoch=3,
)


def test_description_survives_its_file() -> None:
    told = description(preprocessing=Preprocessing(fit="crop", crop_ratios={32: 0.5}))
    assert parse(json.dumps(plain(told)), PATH) == told


def test_what_later_versions_add_is_passed_over() -> None:
    text = json.dumps({**plain(description()), "licence": "MIT"})
    assert parse(text, PATH) == description()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "format"),
        ({"task": "detection"}, "task"),
        ({"classes": []}, "classes"),
        ({"resolutions": [32, 64]}, "must run from large to small"),
        ({"preprocessing": {"std": [0, 1, 1]}}, "std must be above 0"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(json.dumps({**plain(description()), **change}), PATH)


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000])
def test_what_is_no_mapping_is_refused_with_its_file(text: str) -> None:
    with pytest.raises(ValueError, match=r"net\.onnx: what it says about its network is no"):
        parse(text, PATH)


def test_checkpoint_is_named_by_itself_its_file_or_its_folder() -> None:
    def named(path: str, **values: Any) -> str:
        told = describe(replace(METADATA, **values), Path(path), unseen="nearest")
        return told.name

    assert named("runs/rooms/last.pt") == "rooms"
    assert named("runs/rooms/small.pt") == "small"
    assert named("runs/rooms/last.pt", name="RS-Net") == "RS-Net"
    assert name_of(Path("runs/rooms/best.pt")) == "rooms"


def test_resolutions_that_can_be_computed_are_named_once() -> None:
    told = describe(METADATA, PATH, unseen="nearest")
    assert (told.usable, told.unseen, told.layout) == ((64, 32), "nearest", "all")
    assert description(layout="one", resolution=32).usable == (32,)


def test_checkpoint_without_classes_is_refused() -> None:
    with pytest.raises(ValueError, match="classes"):
        describe(replace(METADATA, classes=()), PATH, unseen="nearest")


@pytest.mark.parametrize(
    ("data", "settings", "expected"),
    [
        ({"labels": {"offset": 1, "void": [0]}}, {"labels": None}, "{offset: 1, void: [0]}"),
        ({}, {"labels": {"map": {"7": 0, "8": 1}}}, "{map: {7: 0, 8: 1}}"),
        ({}, {"label_offset": 0, "void_value": None}, "{offset: 0, void: [255]}"),  # version 0.2
        ({}, {"label_offset": None, "void_value": None}, "None"),
        ({}, {}, "None"),
    ],
)
def test_what_label_maps_meant_is_described_and_survives_an_exported_file(
    data: dict[str, Any], settings: dict[str, Any], expected: str
) -> None:
    colours = [[1, 2, 3], [4, 5, 6]]
    metadata = RunMetadata(
        task="segmentation",
        model={},
        resolutions=Resolutions((64, 32)),
        preprocessing=Preprocessing(),
        classes=("a", "b"),
        data=data,
        config={"data": {**settings, "colours": colours}},
    )
    described = describe(metadata, Path("net.pt"), unseen="nearest")
    assert str(described.labels) == expected
    parsed = parse(json.dumps(plain(described)), Path("net.onnx"))
    assert (parsed.labels, parsed.colours) == (described.labels, ((1, 2, 3), (4, 5, 6)))
