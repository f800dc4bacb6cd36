"""Batches of a stream of training images, epoch by epoch.

Every worker process reads a part of its own and makes whole batches of it; they come in turn. With
as many processes and workers as before, a run that stopped inside an epoch goes on with the next
sample, if the stream itself always comes in one order: what was trained is read past, undecoded.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from datasets.faults import Fault, Faults
from datasets.image_views import views_or_crops
from datasets.imagenet.streams import Part, Stream, StreamSample
from datasets.loader import Item, TrainBatch, collate_train, hash_of, worker_options
from rsseg.classifiers.random_crops import RandomCrops
from rsseg.common.distributed import rank, share_of_batch, world_size
from rsseg.common.messages import counted


class StreamViews(IterableDataset[Item]):
    """The samples of this process and worker as S views, without end.

    Args:
        stream: The images.
        crops: Makes views of an image.
        share: Images in a batch of this process.
        seed: Seed of order and augmentation.
        max_unreadable: How many images may be unreadable; another one stands in for each.
        resize: Whether to give views; else crops, which a `CropBatch` resizes on the device.

    Attributes:
        epoch: The epoch to read, from 0.
        start: Batches of the epoch to leave out at its beginning.
    """

    def __init__(
        self,
        stream: Stream,
        crops: RandomCrops,
        *,
        share: int,
        seed: int,
        max_unreadable: int = 0,
        resize: bool = True,
    ) -> None:
        self.stream, self.crops, self.share, self.seed = stream, crops, share, seed
        self.max_unreadable, self.resize = max_unreadable, resize
        self.epoch = self.start = 0

    def __iter__(self) -> Iterator[Item]:
        info = get_worker_info()
        workers, number = (info.num_workers, info.id) if info else (1, 0)
        # The first worker makes the first batch that is asked for.
        number = (number + self.start) % workers
        done = len(range(number, self.start, workers)) * self.share
        part = Part(self.seed, self.epoch, rank() * workers + number, world_size() * workers)
        samples = islice(enumerate(self.stream.part(part)), done, None)
        faults: list[Fault] = []
        position = done
        for index, sample in samples:
            image = self._read(sample, faults)
            if image is None:
                continue
            # The next image stands in for those that cannot be read. Its draws count from itself:
            # a run that goes on between them knows nothing of those before.
            for distance in range(index - position, -1, -1):
                draw = np.random.SeedSequence([*part[:3], index, distance]).generate_state(1)
                views = views_or_crops(image, self.crops, int(draw[0]), resize=self.resize)
                yield Item(views, torch.tensor(sample.label), faults)
                faults = []
            position = index + 1

    def _read(self, sample: StreamSample, faults: list[Fault]) -> Any:
        try:
            return sample.read()
        except (ValueError, OSError) as error:
            faults.append(Fault(sample.name, str(error)))
            # A stream repeats: an image may fail twice in a row, and counts once.
            many = len({fault.name for fault in faults}) > self.max_unreadable
            if many or len(faults) > self.stream.samples:
                raise
            return None


class StreamLoader:
    """Batches of training views of a stream; like `TrainLoader`, as far as a stream can be.

    Args:
        stream: The images.
        crops: Makes views of an image.
        batch_size: Images in a batch, of all processes together.
        seed: Seed of order and augmentation.
        workers: Processes that load images, started anew in each epoch; 0 loads in this process.
        max_unreadable: How many images may be unreadable.
        resize: See `StreamViews`.

    Attributes:
        fingerprint: Plain values that distinguish these training samples from others.
        summary: One line about the images.
        steps: Batches in an epoch.

    Raises:
        ValueError: If there are fewer images than a batch holds, or it cannot be shared.
    """

    def __init__(
        self,
        stream: Stream,
        crops: RandomCrops,
        batch_size: int,
        *,
        seed: int,
        workers: int,
        max_unreadable: int = 0,
        resize: bool = True,
    ) -> None:
        if stream.samples < batch_size:
            raise ValueError(
                f"the training set has {counted(stream.samples, 'image')}, fewer than one batch of "
                f"{batch_size}; lower batch_size"
            )
        self.batch_size = batch_size
        self.steps = stream.samples // batch_size
        self.views = StreamViews(
            stream,
            crops,
            share=share_of_batch(batch_size),
            seed=seed,
            max_unreadable=max_unreadable,
            resize=resize,
        )
        self.fingerprint = {
            "train_samples": stream.samples,
            "train_names": hash_of(stream.identity),
        }
        self.summary = stream_summary(stream)
        self._faults = Faults(max_unreadable)
        self._workers = workers

    @property
    def faults(self) -> dict[str, str]:
        """The images that could not be read so far, and why."""
        return self._faults.reasons

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[TrainBatch]:
        """Yield the batches of an epoch (from 0), beginning with step `first_step`."""
        self.views.epoch, self.views.start = epoch, first_step
        # Each epoch has its own worker processes: they read on without end.
        options = worker_options(self._workers) | {"persistent_workers": False}
        options["generator"].manual_seed(int(np.random.SeedSequence(epoch).generate_state(1)[0]))
        batches: DataLoader[Any] = DataLoader(
            self.views, batch_size=self.views.share, collate_fn=collate_train, **options
        )
        for views, target, faults in islice(batches, self.steps - first_step):
            self._faults.add(faults)
            yield views, target
        self._faults.share()


def stream_summary(stream: Stream) -> str:
    """Return one line about a stream, and about what it cannot promise."""
    classes = counted(len(stream.classes), "class")
    again = "exact with the same number of processes and workers"
    return "; ".join(
        [
            f"{stream.layout}, {counted(stream.samples, 'image')}, {classes}",
            "shares of the classes are not known before it is read",
            "each worker reads its own part, so in an epoch some images may come twice, others not",
            f"going on inside an epoch is {again if stream.exact else 'not exact'}",
        ]
    )
