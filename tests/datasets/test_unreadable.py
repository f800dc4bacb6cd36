"""Samples of a segmenter that cannot be read: skipped and counted up to a limit, else an error."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from datasets.faults import Faults
from datasets.loader import TestLoader, TrainLoader
from datasets.samples import Draw, Sample
from datasets.views import TestViews, TrainingViews
from rsseg.images.preprocessing import Preprocessing
from tests.helpers.small_reader import SmallReader, noise, parts, still


class BrokenReader(SmallReader):
    """Samples of which some cannot be read."""

    broken: tuple[int, ...] = ()

    def read(self, index: int) -> Sample:
        if index in self.broken:
            raise OSError(f"sample {index} cannot be read: stale file handle")
        return super().read(index)


def broken_reader(count: int, *broken: int) -> BrokenReader:
    images = [noise(40, 40) for _ in range(count)]
    reader = BrokenReader(images, [np.full((40, 40), 3, np.uint8)] * count)
    reader.broken = broken
    return reader


def test_unreadable_sample_of_a_segmenter_is_replaced_and_counted() -> None:
    views = TrainingViews(broken_reader(5, 1), [32], Preprocessing(), still(32), max_unreadable=1)
    replaced, whole = views[Draw(1, 7)], views[Draw(2, 7)]
    assert [fault.name for fault in replaced.faults] == ["picture1"]
    assert isinstance(replaced.views, list)
    assert torch.equal(replaced.views[0], parts(whole)[0][0])
    batches = TrainLoader(views, 5, seed=0, workers=0, max_unreadable=1)
    ((_, labels),) = list(batches.epoch(0))
    assert len(labels) == 5
    assert batches.faults == {"picture1": "sample 1 cannot be read: stale file handle"}


def test_unreadable_sample_of_a_segmenter_stops_by_default() -> None:
    views = TrainingViews(broken_reader(5, 1), [32], Preprocessing(), still(32))
    with pytest.raises(OSError, match="sample 1 cannot be read"):
        views[Draw(1, 7)]
    with pytest.raises(OSError, match="sample 1 cannot be read"):
        TestViews(broken_reader(5, 1), [32], Preprocessing())[1]


def test_too_many_unreadable_samples_stop_with_the_last_one() -> None:
    views = TrainingViews(
        broken_reader(4, 0, 1), [32], Preprocessing(), still(32), max_unreadable=1
    )
    batches = TrainLoader(views, 4, seed=0, workers=0, max_unreadable=1)
    with pytest.raises(ValueError, match=r"2 images cannot be read, .* allows 1; .*stale"):
        list(batches.epoch(0))


def test_unreadable_sample_is_left_out_of_a_test() -> None:
    views = TestViews(broken_reader(4, 2), [32], Preprocessing(), max_unreadable=1)
    faults = Faults(1)
    loader = TestLoader(views, Preprocessing(), batch_size=2, workers=0, faults=faults)
    assert sum(len(batch[0]) for batch, _ in loader) == 3
    assert list(faults.reasons) == ["picture2"]
