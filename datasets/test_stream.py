"""Test images of TensorFlow Datasets, which come in order and not by index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch.utils.data import Dataset, IterableDataset

from datasets.faults import Fault, read_or_fault
from datasets.image_run import ImageRun
from datasets.imagenet.images import label_error
from datasets.imagenet.streams import open_tfds, tfds_classes
from datasets.loader import Item, TestLoader
from datasets.test_data import TestData
from rsseg.common.distributed import share_of_items
from rsseg.common.messages import counted
from rsseg.images.reading import as_rgb


class TestStream(TestData):
    """The test images of a run on "tfds/NAME", read by the process that evaluates.

    Each of several processes reads its slice of the split, every image once.

    Args:
        config: Settings of the run.

    Attributes:
        classes: Names of the classes.
    """

    __test__ = False  # Not a class of tests.

    def __init__(self, config: ImageRun) -> None:
        self.config, data = config, config.data
        reader = open_tfds(data, data.val)
        count = int(reader.num_samples)
        self.classes = tfds_classes(reader, data, config.model.classes)
        name = f"{data.root} {data.val}"
        super().__init__(
            [f"{name} {index}" for index in range(count)],
            config.preprocessing,
            batch_size=config.batch_size,
            workers=0,
            max_unreadable=data.max_unreadable,
        )

    @property
    def summary(self) -> str:
        """One line about the images."""
        counts = f"{counted(len(self._every), 'image')}, {counted(len(self.classes), 'class')}"
        data = self.config.data
        return f"stream of {data.root} {data.val}, {counts}; shares of the classes are not known"

    def batches(self, resolutions: Sequence[int]) -> TestLoader:
        """Return views at the given resolutions, those of this process's slice of the split."""
        return self._loader(self.views(resolutions), self._faults)

    def views(self, resolutions: Sequence[int]) -> Dataset[Any]:
        """Return the test images of this process as views at the given resolutions."""
        own, data = share_of_items(len(self._every)), self.config.data
        reader = open_tfds(data, f"{data.val}[{own.start}:{own.stop}]")
        names = self._every[own.start : own.stop]
        first = 0 if dict(reader.class_to_idx) else data.label_offset or 0
        return _Views(self, reader, names, resolutions, first)

    def training_views(self, _resolution: int) -> Dataset[Any]:
        """Raise a ValueError: the training images have no index."""
        raise ValueError(
            f"recalibration needs training images by index, {self.config.data.root} is a stream; "
            "choose another rule for --unseen or adapt.recalibrate 0, or hfds/"
        )


class _Views(IterableDataset[Item | Fault]):
    """The pictures of a reader of timm as views of test, in its order."""

    def __init__(
        self,
        data: TestStream,
        reader: Any,
        names: Sequence[str],
        resolutions: Sequence[int],
        first: int,
    ) -> None:
        self.data, self.reader, self.names = data, reader, names
        self.resolutions, self.first = tuple(resolutions), first

    def __iter__(self) -> Iterator[Item | Fault]:
        limit = self.data.config.data.max_unreadable
        for name, (picture, number) in zip(self.names, self.reader, strict=True):
            label = int(number) - self.first
            if not 0 <= label < len(self.data.classes):
                raise label_error(name, int(number), len(self.data.classes))
            image = read_or_fault(partial(as_rgb, picture), name, limit)
            if isinstance(image, Fault):
                yield image
                continue
            views = [self.data.preprocessing.view(image, side) for side in self.resolutions]
            yield Item(views, torch.tensor(label))
