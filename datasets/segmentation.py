"""The batches of a segmentation run, as its configuration describes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from datasets.folders import FoldersReader
from datasets.label_counts import label_summary
from datasets.loader import TrainLoader, hash_of
from datasets.nyudv2.folder import FolderReader, looks_like_nyudv2
from datasets.nyudv2.reader import open_nyudv2
from datasets.samples import Reader, Sample, Split
from datasets.test_data import TestData
from datasets.unlabelled import open_unlabelled
from datasets.views import TestViews, TrainingViews
from rsseg.common.config import plain
from rsseg.common.distributed import is_main_process
from rsseg.common.messages import counted
from rsseg.images.preprocessing import LabelMap
from rsseg.segmentation.config import DataConfig, SegmentationConfig

NYUDV2: Final = "nyudv2"  # Its preset.


class Subset(Reader):
    """`count` samples of a reader, spread evenly over it."""

    def __init__(self, reader: Reader, count: int) -> None:
        self.reader = reader
        self.indices = np.linspace(0, len(reader) - 1, min(count, len(reader))).astype(int).tolist()
        self.names = tuple(reader.names[index] for index in self.indices)
        self.classes = reader.classes
        self.meaning, self.reading, self.skipped = reader.meaning, reader.reading, reader.skipped
        self.crop = None  # The reader has cropped already.

    def read(self, index: int) -> Sample:
        """Read a sample."""
        return self.reader[self.indices[index]]

    def read_labels(self, index: int) -> LabelMap:
        """Read the label map of a sample alone."""
        return self.reader.read_labels(self.indices[index])

    def where(self, index: int) -> str:
        """Return where a sample lies, for messages."""
        return self.reader.where(self.indices[index])


def open_reader(
    data: DataConfig, split: Split, classes: int, *, train_labels: bool = True
) -> Reader:
    """Open the samples of a split, "train" or "test".

    Args:
        data: Where they are.
        split: Which.
        classes: Number of classes.
        train_labels: Whether the label maps of the training images are read; see `unlabelled`.

    Raises:
        ValueError: If the files, the label values or the number of classes do not fit.
        OSError: If a folder or a file is missing.
    """
    if split == "train" and not train_labels:
        reader = open_unlabelled(data)
    else:
        reader = _reader(data, split, classes, train_labels=train_labels)
    if split == "train" and data.limit is not None:
        return Subset(reader, data.limit)
    return reader


def _reader(data: DataConfig, split: Split, classes: int, *, train_labels: bool) -> Reader:
    if data.train is not None:
        return FoldersReader(data, split, classes, train_labels=train_labels)
    root = Path(data.root).expanduser()
    if not (root / "images").is_dir():
        return open_nyudv2(root, split, crop=data.crop, reading=data.labels, classes=classes)
    return FolderReader(
        root,
        split,
        crop=data.crop,
        classes=classes,
        reading=data.labels,
        is_nyudv2=data.preset == NYUDV2 or looks_like_nyudv2(root),
        convention=("train", "test") if train_labels else ("test",),
    )


def training_batches(config: SegmentationConfig) -> TrainLoader:
    """Return the augmented training batches of a run.

    Raises:
        ValueError: If the samples do not fit the settings, or a class has no pixel in them.
        OSError: If a folder or a file is missing.
    """
    data = config.data
    labels = config.reads_labels
    reader = open_reader(data, "train", config.model.classes, train_labels=labels)
    views = TrainingViews(
        reader,
        config.resolutions,
        config.preprocessing,
        config.augmentation,
        max_unreadable=data.max_unreadable,
    )
    loader = TrainLoader(
        views,
        config.batch_size,
        seed=config.seed,
        workers=config.workers,
        names=hash_of(reader.names),
        max_unreadable=data.max_unreadable,
    )
    if not labels:
        loader.summary = f"{counted(len(reader), 'image')}, {reader.meaning}"
    elif is_main_process():  # The other processes would look at the same label maps.
        loader.summary = label_summary(reader, allow_absent=data.allow_absent)
    return loader


class TestSamples(TestData):
    """The test samples of a segmentation run.

    Args:
        config: Settings of the run.

    Attributes:
        classes: Names of the classes.
    """

    __test__ = False  # Not a class of tests.

    def __init__(self, config: SegmentationConfig) -> None:
        self.config = config
        self.reader = self._open("test")
        self.classes = self.reader.classes
        super().__init__(
            self.reader.names,
            config.preprocessing,
            batch_size=config.batch_size,
            workers=config.workers,
            max_unreadable=config.data.max_unreadable,
        )

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Number of test samples, a hash of their names, and what their label values mean."""
        reading = self.reader.reading
        return {**super().fingerprint, **({"labels": plain(reading)} if reading else {})}

    @property
    def summary(self) -> str:
        """One line: what the label values mean, classes, share of void, classes without a pixel."""
        return label_summary(self.reader, allow_absent=True)

    def views(self, resolutions: Sequence[int]) -> TestViews:
        """Return the test samples as views at the given resolutions."""
        return self._views(self.reader, resolutions)

    def training_views(self, resolution: int) -> TestViews:
        """Return the training samples as views of test."""
        return self._views(self._open("train"), (resolution,))

    def _open(self, split: Split) -> Reader:
        config = self.config
        labels = config.reads_labels
        return open_reader(config.data, split, config.model.classes, train_labels=labels)

    def _views(self, reader: Reader, resolutions: Sequence[int]) -> TestViews:
        return TestViews(
            reader,
            resolutions,
            self.preprocessing,
            max_unreadable=self.config.data.max_unreadable,
        )
