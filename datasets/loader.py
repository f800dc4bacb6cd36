"""From views to batches: the order of the samples, the worker processes, and where to go on.

Each sample carries its own seed, so an epoch is the same for any number of workers, and a run
that stopped inside an epoch continues with the next sample.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator, Sized
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from datasets.views import Draw, TestViews, TrainingViews

TrainBatch = tuple[list[Tensor], Tensor]
TestBatch = tuple[list[Tensor], list[Tensor]]


class EpochSampler(Sampler[Draw]):
    """All samples of a data set once, in an order that the seed and the epoch decide.

    Attributes:
        epoch: The epoch to draw, from 0.
        start: Samples of the epoch to leave out at its beginning.
    """

    def __init__(self, samples: Sized, seed: int) -> None:
        self.samples = samples
        self.seed = seed
        self.epoch = 0
        self.start = 0

    def __len__(self) -> int:
        return len(self.samples) - self.start

    def __iter__(self) -> Iterator[Draw]:
        draw = np.random.default_rng([self.seed, self.epoch])
        order = draw.permutation(len(self.samples))
        seeds = draw.integers(2**32, size=len(self.samples))
        for index, seed in list(zip(order, seeds, strict=True))[self.start :]:
            yield Draw(int(index), int(seed))


class TrainLoader:
    """Batches of training views, epoch by epoch; the incomplete last batch is left out.

    A last batch of one image would have no BatchNorm statistics.

    Args:
        views: The training samples.
        batch_size: Images in a batch.
        seed: Seed of order and augmentation.
        workers: Processes that load images, kept between epochs; 0 loads in this process.

    Raises:
        ValueError: If there are fewer images than a batch holds.
    """

    def __init__(self, views: TrainingViews, batch_size: int, *, seed: int, workers: int) -> None:
        if len(views) < batch_size:
            raise ValueError(
                f"the training set has {len(views)} images, fewer than one batch of {batch_size}; "
                "lower batch_size"
            )
        self.batch_size = batch_size
        self.sampler = EpochSampler(views, seed)
        self.batches: DataLoader[TrainBatch] = DataLoader(
            views,
            batch_size=batch_size,
            sampler=self.sampler,
            drop_last=True,
            **_workers(workers),
        )
        self.steps = len(views) // batch_size

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[TrainBatch]:
        """Give the batches of an epoch (from 0), beginning with step `first_step`."""
        self.sampler.epoch = epoch
        self.sampler.start = first_step * self.batch_size
        return iter(self.batches)


def test_loader(views: TestViews, batch_size: int, *, workers: int) -> DataLoader[TestBatch]:
    """Return all test samples in order; label maps stay a list, their sizes may differ."""
    square = views.preprocessing.fit == "square"
    return DataLoader(
        views,  # type: ignore[arg-type]
        batch_size=batch_size if square else 1,
        collate_fn=_collate_test,
        **_workers(workers),
    )


test_loader.__test__ = False  # type: ignore[attr-defined]


def _collate_test(samples: list[tuple[list[Tensor], Tensor]]) -> TestBatch:
    views = [torch.stack(same) for same in zip(*(views for views, _ in samples), strict=True)]
    return views, [labels for _, labels in samples]


def _start_worker(worker: int) -> None:
    torch.set_num_threads(1)
    # Ctrl-C reaches every process of the terminal; only the training process decides what follows.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def message_of(error: BaseException) -> str:
    r"""Return an error's message; that of a worker process without its traceback.

    Example:
        >>> text = "Caught ValueError in DataLoader worker process 0.\nOriginal Traceback"
        >>> message_of(ValueError(text + " ...\nValueError: a.png: no image\n"))
        'a.png: no image'
    """
    text = str(error)
    if not text.startswith("Caught "):
        return text
    last = list(re.finditer(r"^[\w.]*(?:Error|Exception): ", text, re.MULTILINE))
    return text[last[-1].end() :].strip() if last else text


def _workers(count: int) -> dict[str, Any]:
    return {
        "num_workers": count,
        "persistent_workers": count > 0,
        "pin_memory": torch.cuda.is_available(),
        "worker_init_fn": _start_worker,
        # Its own generator: else each epoch would draw from the one that dropout uses.
        "generator": torch.Generator(),
    }
