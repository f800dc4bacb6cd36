"""Training images that come as a stream: shards of webdataset, TensorFlow Datasets.

A stream has no images by index. Each worker process of each training process reads a part of it
without end, in an order that seed and epoch decide, and an epoch is as many samples as the split
has: some may come twice in it and others not at all. See docs/OWN_DATA.md.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from datasets.imagenet.images import label_error, number_names
from datasets.imagenet.labels import read_class_names
from datasets.imagenet.shards import (
    Shards,
    class_names,
    count_samples,
    find_shards,
    first_class,
    image_kind,
    labels_of,
    parse_label,
    stream_samples,
)
from rsseg.classifiers.config import ImageDataConfig
from rsseg.common.distributed import world_size
from rsseg.common.messages import counted, first_line
from rsseg.images.preprocessing import Image
from rsseg.images.reading import Decoder, as_rgb, decode_image

BUFFER: Final = 1000  # samples that a worker holds to shuffle them: undecoded, 0.1 GB of ImageNet


class Part(NamedTuple):
    """A part of an epoch of a stream.

    Attributes:
        seed: Seed of the order.
        epoch: The epoch, from 0.
        number: Number of the part.
        parts: How many parts there are.
    """

    seed: int
    epoch: int
    number: int
    parts: int


class StreamSample(NamedTuple):
    """One image of a stream.

    Attributes:
        name: Its name, for messages.
        read: Decodes it: RGB, uint8, shape (H, W, 3); raises ValueError if it is damaged.
        label: Its class, 0..K-1.
    """

    name: str
    read: Callable[[], Image]
    label: int


class Stream(ABC):
    """The training images of a split as a stream.

    Attributes:
        samples: Number of images in an epoch.
        classes: Readable name of each class.
        layout: How they are kept, for the summary.
        most_parts: How many processes can read different parts of it.
        exact: Whether the same part always comes in the same order.
    """

    samples: int
    classes: tuple[str, ...]
    layout: str
    most_parts: int
    exact: bool

    @abstractmethod
    def part(self, part: Part) -> Iterator[StreamSample]:
        """Yield the samples of a part without end, undecoded.

        Raises:
            ValueError: If a sample has no class 0..K-1; names it.
        """

    @property
    @abstractmethod
    def identity(self) -> tuple[str, ...]:
        """Texts that distinguish these images from others."""


class ShardStream(Stream):
    """The shards of webdataset, each read from its beginning by one process at a time.

    Args:
        shards: The shards.
        first: Number of the first class, 0 or 1.
        classes: Readable name of each class.
        samples: Number of samples.
        decoder: See `read_image`.
    """

    def __init__(
        self,
        shards: Shards,
        first: int,
        classes: tuple[str, ...],
        samples: int,
        *,
        decoder: Decoder = "fast",
    ) -> None:
        self.shards, self.first, self.classes, self.samples = shards, first, classes, samples
        self.layout = f"stream of {len(shards.urls)} webdataset shards"
        self.most_parts, self.exact = len(shards.urls), True
        self._decoder: Decoder = decoder

    @property
    def identity(self) -> tuple[str, ...]:
        """Names of the shards, without the folder, and the number of samples."""
        return (*(url.rpartition("/")[2] for url in self.shards.urls), str(self.samples))

    def part(self, part: Part) -> Iterator[StreamSample]:
        """Yield the samples of a part, see `Stream`: every `parts`-th shard of an order."""
        draw = np.random.default_rng([part.seed, part.epoch, part.number])
        buffer: list[StreamSample] = []
        for sample in self._unshuffled(part):
            if len(buffer) < min(BUFFER, self.samples // part.parts):
                buffer.append(sample)
                continue
            place = int(draw.integers(len(buffer))) if buffer else 0
            buffer.append(sample)
            buffer[place], buffer[-1] = buffer[-1], buffer[place]
            yield buffer.pop()

    def _unshuffled(self, part: Part) -> Iterator[StreamSample]:
        order = np.random.default_rng([part.seed, part.epoch])
        while True:
            own = order.permutation(len(self.shards.urls))[part.number :: part.parts]
            count = 0
            for sample in stream_samples([self.shards.urls[index] for index in own]):
                yield self._sample(sample)
                count += 1
            if not count:
                raise ValueError(f"{self.layout}: no sample in {len(own)} shards of a process")

    def _sample(self, content: dict[str, Any]) -> StreamSample:
        kinds = {kind.lower(): kind for kind in content if not kind.startswith("__")}
        name = f"{content['__url__']}: {content['__key__']}"
        files = {kind: content[own] for kind, own in kinds.items()}
        label = parse_label(name, files, self.shards.label_key) - self.first
        if not 0 <= label < len(self.classes):
            raise label_error(name, label + self.first, len(self.classes))
        image = files[image_kind(files, name)]
        read = partial(decode_image, image, name, decoder=self._decoder)
        return StreamSample(name, read, label)


class TimmStream(Stream):
    """A stream that a reader of timm gives as pictures, which it has decoded itself.

    Args:
        reader: Iterable reader of timm, for training; it divides itself among worker processes.
        classes: Readable name of each class.
        layout: Name of data set and split.
        first: Number of the first class, 0 or 1.
    """

    def __init__(
        self, reader: Any, classes: tuple[str, ...], layout: str, *, first: int = 0
    ) -> None:
        self._reader, self.classes, self.layout = reader, classes, f"stream of {layout}"
        self.first = first
        self.samples = int(reader.num_samples)
        self.most_parts, self.exact = self.samples, False

    @property
    def identity(self) -> tuple[str, ...]:
        """Name of data set and split, and the number of samples."""
        return (self.layout, str(self.samples))

    def part(self, part: Part) -> Iterator[StreamSample]:
        """Yield the samples of a part, see `Stream`."""
        self._reader.set_epoch(part.epoch)
        number = 0
        while True:
            begin = number
            for picture, label in self._reader:
                name = f"{self.layout}: sample {number} of part {part.number}"
                if not 0 <= int(label) - self.first < len(self.classes):
                    raise label_error(name, int(label), len(self.classes))
                yield StreamSample(name, partial(as_rgb, picture), int(label) - self.first)
                number += 1
            if number == begin:
                raise ValueError(f"{self.layout}: no sample for part {part.number}")


def open_stream(
    data: ImageDataConfig, classes: int, *, seed: int, parts: int, batch_size: int
) -> Stream:
    """Open the training images of "wds/FOLDER" or "tfds/NAME".

    Args:
        data: Where the images are.
        classes: Number of classes.
        seed: Seed of the order that the library draws.
        parts: How many processes read.
        batch_size: Images in a batch of one process.

    Raises:
        ValueError: If they cannot be opened, have other classes or too few shards, or settings
            need images by index.
        ImportError: If the library is not installed.
    """
    if data.limit is not None:
        raise ValueError(
            f"data.limit needs images by index, {data.root} is a stream; leave it out, and name "
            "fewer shards or a part of the split in data.train"
        )
    stream: Stream
    if data.reader == "wds":
        shards = find_shards(data, "train")
        first = first_class(data, "train", classes, labels_of(shards))
        names, samples = class_names(data, classes, first), count_samples(shards)
        stream = ShardStream(shards, first, names, samples, decoder=data.decoder)
    else:
        reader = open_tfds(data, data.train, is_training=True, seed=seed, batch_size=batch_size)
        names, first = tfds_classes(reader, data, classes), data.label_offset or 0
        stream = TimmStream(reader, names, f"{data.root} {data.train}", first=first)
    if stream.most_parts < parts:
        raise ValueError(
            f"{stream.layout}: {counted(parts, 'process')} read (the workers of every training "
            "process), and each needs a shard of its own; set workers to at most "
            f"{stream.most_parts // world_size()}, or write more, smaller shards"
        )
    return stream


def open_tfds(data: ImageDataConfig, split: str, **options: Any) -> Any:
    """Open timm's reader of TensorFlow Datasets.

    Raises:
        ValueError: If the data set is not prepared, or has no such split.
        ImportError: If the library is not installed.
    """
    from timm.data.readers import create_reader  # noqa: PLC0415 (it is slow, and only needed here)

    keys = {"input_key": data.image_key, "target_key": data.label_key}
    try:
        return create_reader(f"tfds/{data.source}", split=split, **keys, **options)
    except ImportError as error:
        raise ImportError(
            f"{data.root} needs TensorFlow Datasets ({first_line(error)}); pip install tensorflow "
            "tensorflow-datasets",
            name="tensorflow_datasets",
        ) from error
    except Exception as error:  # Errors of any kind: not prepared, no such name or split.
        raise ValueError(
            f"{data.root}, split {split!r}: {first_line(error)}; prepare it with tfds build, set "
            "data.root, data.train and data.val, and TFDS_DATA_DIR to its folder"
        ) from error


def tfds_classes(reader: Any, data: ImageDataConfig, classes: int) -> tuple[str, ...]:
    """Return the names of the classes, which the data set counts from 0.

    Raises:
        ValueError: If they are not as many as `classes`.
    """
    own, first = dict(reader.class_to_idx), data.label_offset
    if not own and first is None:
        raise ValueError(
            f"{data.root} gives numbers as classes and no names; say what they are counted from: "
            "data: {label_offset: 0}, or data: {label_offset: 1}"
        )
    numbers = [str((first or 0) + index) for index in range(classes)]
    order = tuple(sorted(own, key=lambda key: own[key]) or numbers)
    if len(order) != classes:
        raise ValueError(
            f"{data.root} has {counted(len(order), 'class')} and model.classes is {classes}; set "
            f"model.classes to {len(order)}"
        )
    if data.names is not None:
        return read_class_names(Path(data.names).expanduser(), order)
    return order if own else number_names(order)
