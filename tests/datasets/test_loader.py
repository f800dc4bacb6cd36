"""The loader: order, position, worker processes and what they must not touch."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from datasets import loader as loader_module
from datasets.faults import Faults
from datasets.loader import EpochSampler, TestBatch, TestLoader, TrainBatch, TrainLoader
from datasets.samples import Draw, Reader, Sample
from datasets.views import TestViews, TrainingViews
from rsseg.common import distributed
from rsseg.common.messages import message_of
from rsseg.images.preprocessing import Preprocessing
from rsseg.segmentation.config import AugmentationConfig
from tests.helpers.small_reader import SmallReader, noise, noisy_reader, still

WILD = AugmentationConfig(scale=(0.5, 2.0), shorter_side=20, crop=32)


def loader(
    reader: Reader,
    augmentation: AugmentationConfig = WILD,
    *,
    batch_size: int = 3,
    workers: int = 0,
    seed: int = 5,
) -> TrainLoader:
    views = TrainingViews(reader, [32, 16], Preprocessing(), augmentation)
    return TrainLoader(views, batch_size, seed=seed, workers=workers)


def evaluated_batches(
    reader: Reader, resolutions: list[int], fit: Preprocessing, *, workers: int
) -> list[TestBatch]:
    views = TestViews(reader, resolutions, fit)
    return list(TestLoader(views, fit, batch_size=2, workers=workers, faults=Faults(0)))


def numbered(count: int) -> SmallReader:
    """Make images whose every value is the number of the image."""
    images = [np.full((32, 32, 3), index, dtype=np.uint8) for index in range(count)]
    return SmallReader(images, [image[..., 0].copy() for image in images])


def numbers(batches: Iterable[TrainBatch]) -> list[int]:
    """Read the numbers of the images off the batches, and compare image and labels."""
    found: list[int] = []
    for (large, small), labels in batches:
        assert torch.equal(large[:, 0], labels)
        assert torch.equal(small[:, 0, 0, 0], labels[:, 0, 0])
        found += labels[:, 0, 0].tolist()
    return found


def flat(batches: Iterable[TrainBatch]) -> list[list[Tensor]]:
    return [[*views, labels] for views, labels in batches]


def assert_equal_batches(found: list[list[Tensor]], expected: list[list[Tensor]]) -> None:
    assert len(found) == len(expected)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_batch_holds_all_views_and_one_label_map_of_each_image() -> None:
    (large, small), labels = next(loader(noisy_reader(4, 40, 30)).epoch(0))
    assert large.shape == (3, 3, 32, 32)
    assert small.shape == (3, 3, 16, 16)
    assert labels.shape == (3, 32, 32)
    assert {large.dtype, small.dtype, labels.dtype} == {torch.uint8}


def test_epoch_holds_every_image_once_in_an_order_of_its_own() -> None:
    batches = loader(numbered(12), still(32))
    orders = [numbers(batches.epoch(epoch)) for epoch in range(4)]
    assert all(sorted(order) == list(range(12)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    assert numbers(batches.epoch(2)) == orders[2]
    assert numbers(loader(numbered(12), still(32), seed=6).epoch(0)) != orders[0]


def test_draws_of_an_epoch_have_seeds_of_their_own() -> None:
    sampler = EpochSampler(range(200), 2, seed=1)
    first = list(sampler)
    sampler.epoch = 1
    second = list(sampler)
    seeds = {draw.seed for draw in first + second}
    assert len(seeds) == 400
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert sorted(draw.sample for draw in second) == list(range(200))
    assert {type(part) for draw in first for part in draw} == {int}


def test_incomplete_last_batch_is_left_out() -> None:
    batches = loader(numbered(11), still(32), batch_size=4)
    assert batches.steps == 2
    assert len(set(numbers(batches.epoch(0)))) == 8


@pytest.mark.parametrize("workers", [0, 2])
def test_stopped_epoch_goes_on_where_it_was(workers: int) -> None:
    whole = flat(loader(noisy_reader(11, 40, 30)).epoch(1))
    resumed = loader(noisy_reader(11, 40, 30), workers=workers)
    for step in (2, 3, 0):
        assert_equal_batches(flat(resumed.epoch(1, step)), whole[step:])
    assert len(whole) == 3


def test_position_is_in_force_for_one_epoch_only() -> None:
    batches = loader(numbered(12), still(32))
    assert len(numbers(batches.epoch(0, 3))) == 3
    assert len(numbers(batches.epoch(1))) == 12


def test_samples_do_not_depend_on_the_number_of_workers() -> None:
    alone, two = (loader(noisy_reader(10, 40, 30), workers=workers) for workers in (0, 2))
    epochs = [flat(alone.epoch(epoch)) for epoch in range(3)]
    for epoch in (0, 1, 2, 1):
        assert_equal_batches(flat(two.epoch(epoch)), epochs[epoch])
    next(two.epoch(0))  # an epoch that is given up leaves nothing behind
    assert_equal_batches(flat(two.epoch(2)), epochs[2])
    assert not torch.equal(epochs[0][0][0], epochs[1][0][0])


class Witness(SmallReader):
    """Gives the process that reads as the labels of an image."""

    def read(self, index: int) -> Sample:
        labels = np.frombuffer(os.getpid().to_bytes(4, "little"), dtype=np.uint8)
        return Sample(self.images[index], np.tile(labels, (32, 8)), self.names[index])


def readers_of(batches: Iterable[TrainBatch]) -> set[int]:
    return {
        int.from_bytes(bytes(labels[0, 0, :4].tolist()), "little")
        for _, batch in batches
        for labels in batch[:, None]
    }


def test_workers_live_on_between_epochs() -> None:
    reader = Witness([noise(32, 32)] * 8, [noise(32, 32)[..., 0]] * 8)
    batches = loader(reader, still(32), batch_size=2, workers=2)
    first, second = (readers_of(batches.epoch(epoch)) for epoch in range(2))
    assert first == second
    assert len(first) == 2
    assert os.getpid() not in first
    alone = loader(reader, still(32), batch_size=2)
    assert readers_of(alone.epoch(0)) == {os.getpid()}


class Faulty(SmallReader):
    """Fails at its last image, as the given error says."""

    def __init__(self, error: type[Exception] | None) -> None:
        super().__init__([noise(32, 32)] * 4, [noise(32, 32)[..., 0]] * 4)
        self.error = error

    def read(self, index: int) -> Sample:
        if index == 3 and self.error:
            raise self.error(f"{self.where(index)}: holds the value 77; expected 0..39")
        if index == 3:
            os._exit(7)
        return super().read(index)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("error", [ValueError, OSError])
def test_error_of_a_reader_arrives_with_its_kind_and_the_name_of_the_file(
    workers: int, error: type[Exception]
) -> None:
    batches = loader(Faulty(error), batch_size=2, workers=workers)
    with pytest.raises(error, match=r"picture3\.png: holds the value 77; expected 0\.\.39"):
        list(batches.epoch(0))


@pytest.mark.parametrize("workers", [0, 1])
def test_message_of_an_error_is_the_same_from_a_worker(workers: int) -> None:
    batches = loader(Faulty(ValueError), batch_size=2, workers=workers)
    with pytest.raises(ValueError, match="picture3") as caught:
        list(batches.epoch(0))
    assert "Traceback" not in message_of(caught.value)
    assert message_of(caught.value) == "picture3.png: holds the value 77; expected 0..39"


def test_end_of_a_worker_is_an_error_and_no_endless_wait() -> None:
    with pytest.raises(RuntimeError, match="worker"):
        list(loader(Faulty(None), batch_size=2, workers=1).epoch(0))


def test_set_smaller_than_a_batch_is_refused_with_both_numbers() -> None:
    with pytest.raises(ValueError, match=r"has 4 images, fewer than one batch of 5; lower batch_"):
        loader(numbered(4), batch_size=5)
    assert loader(numbered(4), batch_size=4).steps == 1


def states() -> list[Any]:
    _, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
    return [torch.get_rng_state().tolist(), random.getstate(), list(keys), rest]


@pytest.mark.parametrize("workers", [0, 2])
def test_loading_draws_from_no_global_generator(workers: int) -> None:
    reader = noisy_reader(6, 40, 30)
    before = states()
    batches = loader(reader, workers=workers)
    for epoch in range(2):
        list(batches.epoch(epoch))
    evaluated_batches(reader, [16], Preprocessing(), workers=workers)
    assert states() == before


@pytest.mark.parametrize("workers", [0, 2])
def test_test_images_come_in_order_and_all_of_them(workers: int) -> None:
    sizes = [(32, 40), (16, 30), (20, 20), (31, 17), (50, 24)]
    images = [noise(*size) for size in sizes]
    reader = SmallReader(images, [np.full(size, n, np.uint8) for n, size in enumerate(sizes)])
    square = evaluated_batches(reader, [24, 16], Preprocessing(), workers=workers)
    assert [len(labels) for _, labels in square] == [2, 2, 1]
    assert [views[0].shape for views, _ in square] == [(2, 3, 24, 24)] * 2 + [(1, 3, 24, 24)]
    every = [label for _, labels in square for label in labels]
    assert [tuple(label.shape) for label in every] == sizes
    assert [int(label.max()) for label in every] == list(range(5))
    preprocessing = Preprocessing(fit="aspect")
    aspect = evaluated_batches(reader, [16], preprocessing, workers=workers)
    assert [tuple(views[0].shape) for views, _ in aspect] == [
        (1, 3, *preprocessing.size(16, *size)) for size in sizes
    ]


def test_sampler_knows_how_many_samples_are_left() -> None:
    sampler = EpochSampler(range(11), 2, seed=0)
    whole = list(sampler)
    sampler.start = 2
    assert len(sampler) == 6
    assert list(sampler) == whole[4:]
    assert len(whole) == 10
    assert all(isinstance(draw, Draw) for draw in whole)


def test_processes_share_the_batches_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = list(EpochSampler(range(25), 6, seed=0))
    monkeypatch.setattr(distributed, "world_size", lambda: 3)
    shares = []
    for rank in range(3):
        monkeypatch.setattr(loader_module, "rank", lambda rank=rank: rank)
        sampler = EpochSampler(range(25), 6, seed=0)
        assert len(sampler) == 8
        shares.append([list(sampler)[first : first + 2] for first in range(0, 8, 2)])
    assert [draw for batch in zip(*shares, strict=True) for part in batch for draw in part] == whole


def test_batch_that_cannot_be_shared_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: 4)
    with pytest.raises(ValueError, match=r"batch_size 6 is .* cannot be divided among 4"):
        EpochSampler(range(25), 6, seed=0)
