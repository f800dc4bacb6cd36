"""From views to batches: the order of the samples, the worker processes, and where to go on.

Each sample carries its own seed, so an epoch is the same for any number of workers, and a run
that stopped inside an epoch continues with the next sample.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence, Sized
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from datasets.faults import Fault, Faults
from datasets.samples import Draw
from datasets.workers import start_worker
from rsseg.common.distributed import rank, share_of_batch
from rsseg.common.messages import counted
from rsseg.images.crops import Crop, CropBatch, stack_images
from rsseg.images.preprocessing import Preprocessing

TrainBatch = tuple[Any, Tensor]  # views as a list of tensors, or a CropBatch
TestBatch = tuple[list[Tensor], Tensor | list[Tensor]]


class Item(NamedTuple):
    """A sample of a data set.

    Attributes:
        views: One for each resolution, uint8, shape (3, h, w); or crops to resize later.
        target: Class, shape (), or label map, shape (H, W).
        faults: Files that could not be read, for which this sample stands in.
    """

    views: list[Tensor] | Crop
    target: Tensor
    faults: Sequence[Fault] = ()


class EpochSampler(Sampler[Draw]):
    """The samples of an epoch's batches, in an order that the seed and the epoch decide.

    Of several processes each gets its share of every batch: together they train with the same
    batches as one process would.

    Args:
        samples: The data set; an incomplete last batch is left out.
        batch_size: Samples in a batch, of all processes together.
        seed: Seed of the order.

    Attributes:
        epoch: The epoch to draw, from 0.
        start: Batches of the epoch to leave out at its beginning.

    Raises:
        ValueError: If a batch cannot be shared among the processes.
    """

    def __init__(self, samples: Sized, batch_size: int, seed: int) -> None:
        self.samples = samples
        self.batch_size = batch_size
        self.share = share_of_batch(batch_size)
        self.seed = seed
        self.epoch = 0
        self.start = 0

    def __len__(self) -> int:
        return (len(self.samples) // self.batch_size - self.start) * self.share

    def __iter__(self) -> Iterator[Draw]:
        draw = np.random.default_rng([self.seed, self.epoch])
        order = draw.permutation(len(self.samples))
        seeds = draw.integers(2**32, size=len(self.samples))
        # By number: pairs of a million images would take longer to make than to draw.
        for batch in range(self.start, len(order) // self.batch_size):
            first = batch * self.batch_size + rank() * self.share
            for place in range(first, first + self.share):
                yield Draw(int(order[place]), int(seeds[place]))


class TrainLoader:
    """Batches of training views, epoch by epoch; the incomplete last batch is left out.

    BatchNorm has no statistics in a last batch of one image.

    Args:
        views: The training samples: from a `Draw` to views, target and, where a file could not be
            read, the faults.
        batch_size: Images in a batch, of all processes together.
        seed: Seed of order and augmentation.
        workers: Processes that load images, kept between epochs; 0 loads in this process.
        names: Hash of the samples' names, see `hash_of`.
        max_unreadable: How many images may be unreadable.
        summary: One line about the images.

    Attributes:
        fingerprint: Plain values that distinguish these training samples from others.
        summary: As above.

    Raises:
        ValueError: If there are fewer images than a batch holds, or it cannot be shared.
    """

    def __init__(
        self,
        views: Dataset[Any],
        batch_size: int,
        *,
        seed: int,
        workers: int,
        names: str = "",
        max_unreadable: int = 0,
        summary: str = "",
    ) -> None:
        assert isinstance(views, Sized)
        if len(views) < batch_size:
            raise ValueError(
                f"the training set has {counted(len(views), 'image')}, fewer than one batch of "
                f"{batch_size}; "
                "lower batch_size"
            )
        self.batch_size, self.summary = batch_size, summary
        self.fingerprint = {"train_samples": len(views), "train_names": names}
        self.sampler = EpochSampler(views, batch_size, seed)
        self._faults = Faults(max_unreadable)
        self.batches: DataLoader[Any] = DataLoader(
            views,
            batch_size=self.sampler.share,
            sampler=self.sampler,
            drop_last=True,
            collate_fn=collate_train,
            **worker_options(workers),
        )
        self.steps = len(views) // batch_size

    @property
    def faults(self) -> dict[str, str]:
        """The images that could not be read so far, and why."""
        return self._faults.reasons

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[TrainBatch]:
        """Yield the batches of an epoch (from 0), beginning with step `first_step`."""
        self.sampler.epoch = epoch
        self.sampler.start = first_step
        for views, target, faults in self.batches:
            self._faults.add(faults)
            yield views, target
        self._faults.share()


def collate_train(items: list[Any]) -> tuple[list[Tensor] | CropBatch, Tensor, list[Fault]]:
    """Stack training samples: views or crops, targets, and the faults met on the way."""
    items = [Item(*item) for item in items]
    faults = [fault for item in items for fault in item.faults]
    targets = torch.stack([item.target for item in items])
    if isinstance(items[0].views, Crop):
        return CropBatch.of([item.views for item in items]), targets, faults
    return _stacked(items), targets, faults


def _stacked(items: list[Any]) -> list[Tensor]:
    return [stack_images(same) for same in zip(*(item.views for item in items), strict=True)]


class TestLoader:
    """All test samples in order; label maps stay a list, their sizes may differ.

    Args:
        views: The test samples: from an index to views and target, or to a fault.
        preprocessing: How the views are made; those that keep the aspect ratio differ in size and
            come one by one.
        batch_size: Images in a batch.
        workers: Processes that load images.
        faults: Where unreadable images are counted, which are left out.
    """

    __test__ = False  # Not a class of tests.

    def __init__(
        self,
        views: Dataset[Any],
        preprocessing: Preprocessing,
        *,
        batch_size: int,
        workers: int,
        faults: Faults,
    ) -> None:
        size = 1 if preprocessing.fit == "aspect" else batch_size
        self.faults = faults
        self.batches: DataLoader[Any] = DataLoader(
            views, batch_size=size, collate_fn=_collate_test, **worker_options(workers)
        )

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[TestBatch]:
        # What failed the last time may be read now, and then has an answer of its own.
        self.faults.reasons.clear()
        for views, target, faults in self.batches:
            self.faults.add(faults)
            if views:
                yield views, target
        self.faults.share()


def _collate_test(items: list[Any]) -> tuple[list[Tensor], Tensor | list[Tensor], list[Fault]]:
    faults = [item for item in items if isinstance(item, Fault)]
    samples = [Item(*item) for item in items if not isinstance(item, Fault)]
    targets = [item.target for item in samples]
    classes = bool(samples) and targets[0].dim() == 0
    return _stacked(samples), torch.stack(targets) if classes else targets, faults


def hash_of(names: Sequence[str], labels: NDArray[np.int64] | None = None) -> str:
    """Hash the names of samples, and their labels where each has one."""
    digest = hashlib.sha256("\n".join(names).encode())
    if labels is not None:
        digest.update(np.ascontiguousarray(labels, dtype=np.int64).tobytes())
    return digest.hexdigest()[:16]


def worker_options(count: int) -> dict[str, Any]:
    """Return the options of a DataLoader for so many worker processes."""
    return {
        "num_workers": count,
        "persistent_workers": count > 0,
        "pin_memory": torch.cuda.is_available(),
        "worker_init_fn": start_worker,
        # Its own generator: else each epoch would draw from the one that dropout uses.
        "generator": torch.Generator(),
    }
