"""Streams of pictures: our side of timm's readers, with a reader that stands in for theirs.

The library behind "tfds/" is not part of the tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pictures

from datasets import test_stream
from datasets.imagenet import streams
from datasets.imagenet.streams import Part, TimmStream, open_stream
from datasets.stream_loader import StreamLoader
from datasets.test_stream import TestStream
from rsseg.classifiers.config import CropConfig, ImageDataConfig
from rsseg.classifiers.random_crops import RandomCrops
from tests.datasets.imagenet.test_reader import some_image
from tests.helpers.small_images import image_config


class StandIn:
    """An iterable reader as timm has them: pictures and numbers, in order."""

    def __init__(self, labels: list[int], names: tuple[str, ...] = ("ant", "bee")) -> None:
        self.labels, self.num_samples = labels, len(labels)
        self.class_to_idx = {name: index for index, name in enumerate(names)}
        self.epochs: list[int] = []

    def set_epoch(self, epoch: int) -> None:
        self.epochs.append(epoch)

    def __iter__(self) -> Iterator[tuple[Pictures.Image, int]]:
        for index, label in enumerate(self.labels):
            yield Pictures.fromarray(some_image(40, 48, index)), label


def test_stream_repeats_the_pictures_of_a_reader() -> None:
    reader = StandIn([0, 1, 1])
    stream = TimmStream(reader, ("ant", "bee"), "tfds/x train")
    samples = list(islice(stream.part(Part(0, 4, 0, 1)), 7))
    assert [sample.label for sample in samples] == [0, 1, 1, 0, 1, 1, 0]
    assert reader.epochs == [4]
    np.testing.assert_array_equal(samples[4].read(), some_image(40, 48, 1))


@pytest.mark.parametrize(
    ("labels", "message"), [([0, 2], "sample 1 .* class 2"), ([], "no sample")]
)
def test_wrong_class_and_empty_reader_are_errors(labels: list[int], message: str) -> None:
    stream = TimmStream(StandIn(labels), ("ant", "bee"), "tfds/x train")
    with pytest.raises(ValueError, match=message):
        list(islice(stream.part(Part(0, 0, 0, 1)), 3))


def test_epoch_has_the_steps_of_its_samples_and_says_that_it_is_not_exact() -> None:
    stream = TimmStream(StandIn([0, 1, 1, 0, 1]), ("ant", "bee"), "tfds/x train")
    crops = RandomCrops([32, 16], CropConfig())
    batches = StreamLoader(stream, crops, 2, seed=0, workers=0)
    targets = [target.tolist() for _, target in batches.epoch(0)]
    assert targets == [[0, 1], [1, 0]]
    assert [target.tolist() for _, target in batches.epoch(0, 1)] == [[1, 0]]
    assert "going on inside an epoch is not exact" in batches.summary


def test_test_images_come_once_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    requested = []

    def opened(_data: object, split: str, **_options: Any) -> StandIn:
        requested.append(split)
        return StandIn([0, 1, 1, 0, 1])

    monkeypatch.setattr(test_stream, "open_tfds", opened)
    model = {"name": "test_resnet", "classes": 2}
    data = {"root": "tfds/x", "val": "validation"}
    tests = TestStream(image_config(Path(), model=model, data=data, batch_size=2))
    for _ in range(2):
        targets = [torch.as_tensor(target) for _, target in tests.batches([32])]
        assert torch.cat(targets).tolist() == [0, 1, 1, 0, 1]
    assert requested == ["validation", "validation[0:5]", "validation[0:5]"]
    assert (tests.classes, len(tests.names)) == (("ant", "bee"), 5)
    with pytest.raises(ValueError, match="recalibration needs training images by index"):
        next(iter(tests.calibration(32, 2)))


def test_numbers_without_names_need_to_be_told_from_what_they_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "open_tfds", lambda *_, **__: StandIn([1, 2], names=()))
    options: dict[str, Any] = {"seed": 0, "parts": 1, "batch_size": 2}
    with pytest.raises(ValueError, match=r"label_offset: 0\}, or data: \{label_offset: 1\}"):
        open_stream(ImageDataConfig(root="tfds/x"), 2, **options)
    stream = open_stream(ImageDataConfig(root="tfds/x", label_offset=1), 2, **options)
    assert [one.label for one in islice(stream.part(Part(0, 0, 0, 1)), 2)] == [0, 1]
    assert stream.classes == ("class 1", "class 2")


def test_missing_library_is_named_with_its_command() -> None:
    with pytest.raises(ImportError, match="pip install tensorflow tensorflow-datasets"):
        open_stream(ImageDataConfig(root="tfds/x"), 2, seed=0, parts=1, batch_size=2)
