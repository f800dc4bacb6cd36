"""Shards of webdataset: tar files in which the files of a sample stand together.

Of a sample, KEY.jpg (or another kind of image) is the image, KEY.cls its class as a number, or a
field of KEY.json. timm's reader finds the shards and the number of samples of a split. Shards that
are files are listed here, so that a test has every image once; training streams them, see
`streams`.

Source: https://github.com/webdataset/webdataset, and timm.data.readers.reader_wds.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import Any, Final

import numpy as np

from datasets.imagenet.images import limited, number_names
from datasets.imagenet.labels import class_numbers, read_class_names
from datasets.imagenet.tars import PackedImages, members_of, walk_tar
from datasets.samples import Split
from rsseg.classifiers.config import ImageDataConfig
from rsseg.common.extras import import_extra
from rsseg.common.messages import counted, first_line
from rsseg.images.reading import IMAGE_SUFFIXES

_KINDS: Final = tuple(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES)


@dataclass(frozen=True)
class Shards:
    """The shards of a split.

    Args:
        urls: Paths or URLs.
        samples: Number of samples, 0 where nothing tells it.
        label_key: Field of the json file that is the class; None for the cls file.
        layout: Name for the summary and for messages.
    """

    urls: tuple[str, ...]
    samples: int
    label_key: str | None
    layout: str

    @property
    def files(self) -> tuple[Path, ...]:
        """The shards as files.

        Raises:
            ValueError: If one is not a local file.
        """
        foreign = [url for url in self.urls if not is_local(url)]
        if foreign:
            raise ValueError(
                f"{self.layout}: {foreign[0]} is not a local file; training can stream it, but to "
                "list its images, as for a test or for --unseen recalibrate, copy the shards"
            )
        missing = [url for url in self.urls if not Path(url).is_file()]
        if missing:
            raise FileNotFoundError(
                f"{missing[0]}: no such file; {len(missing)} of {len(self.urls)} shards of "
                f"{self.layout} are missing; set data.root, data.train and data.val"
            )
        return tuple(Path(url) for url in self.urls)


def is_local(url: str) -> bool:
    """Return whether the URL of a shard is a path."""
    return "://" not in url and not url.startswith("pipe:")


def find_shards(data: ImageDataConfig, split: Split) -> Shards:
    """Find the shards of a split.

    Args:
        data: `root` is "wds/FOLDER"; `train` and `val` are a pattern of shards such as
            train-{0000..0099}.tar, with |N behind it for N samples, or the name of a split in
            _info.json of the folder.
        split: "train", or "test" for `data.val`.

    Raises:
        ValueError: If the split is not found.
        ImportError: If webdataset is not installed.
    """
    import_extra("webdataset")
    from timm.data.readers import create_reader  # noqa: PLC0415 (it is slow, and only needed here)

    key, name = ("data.train", data.train) if split == "train" else ("data.val", data.val)
    log = logging.getLogger("timm.data.readers.reader_wds")
    level = log.level
    log.setLevel(logging.ERROR)  # It warns of a missing _info.json, which a pattern needs not.
    try:
        reader = create_reader("wds/", root=_root(data), split=name)
    except Exception as error:  # Errors of any kind: no such split, no number behind the |.
        raise ValueError(
            f"{data.root}: {first_line(error)}; set {key} to a pattern of shards, such as "
            "train-{0000..0099}.tar, or to a split of _info.json"
        ) from error
    finally:
        log.setLevel(level)
    info: Any = reader.split_info
    urls = tuple(f"{_root(data)}/{file}" if is_local(file) else file for file in info.filenames)
    label_key = data.label_key or info.alt_label or None
    return Shards(urls, int(info.num_samples), label_key, f"{data.root} {name.partition('|')[0]}")


def open_shards(data: ImageDataConfig, split: Split, classes: int) -> PackedImages:
    """List the samples of local shards; no image is read.

    Raises:
        ValueError: If a shard is not a local file, or a sample lacks its image or its class.
        FileNotFoundError: If a shard is missing.
        ImportError: If webdataset is not installed.
    """
    shards = find_shards(data, split)
    rows, numbers = [], []
    for shard, file in enumerate(shards.files):
        for name, place, number in list_samples(file, shards.label_key):
            rows.append((name, shard, *place))
            numbers.append(number)
    if not rows:
        raise ValueError(f"{shards.layout}: no sample in {len(shards.urls)} shards")
    first = first_class(data, split, classes, numbers)
    labels = np.array(numbers, dtype=np.int64) - first
    index, labels = limited(np.arange(len(labels)), labels, split, data.limit)
    members = members_of(shards.files, rows).at(index)
    layout = f"{len(shards.urls)} webdataset shards"
    names = class_names(data, classes, first)
    return PackedImages(members, labels, names, decoder=data.decoder, layout=layout)


def count_samples(shards: Shards) -> int:
    """Return the number of samples of a split, counted in its headers where nothing tells it.

    Raises:
        ValueError: If nothing tells it and the shards are not local files.
    """
    if shards.samples:
        return shards.samples
    if not all(is_local(url) for url in shards.urls):
        raise ValueError(
            f"{shards.layout}: nothing tells the number of samples; write it behind data.train, as "
            "in train-{0000..0099}.tar|1281167"
        )
    return sum(1 for file in shards.files for _ in _samples(file))


def first_class(data: ImageDataConfig, split: Split, classes: int, labels: Iterable[int]) -> int:
    """Return the number of the first class, 0 or 1, as the labels prove it.

    Both splits get one answer: the training labels are asked first, and then those of the test.

    Args:
        data: Where `label_offset` may say it.
        split: Whose labels are given.
        classes: Number of classes.
        labels: The labels, read until one proves it.

    Raises:
        ValueError: If they do not prove it.
    """
    if data.label_offset is not None:
        return data.label_offset
    seen: set[int] = set()
    train = split == "train"
    others = _labels_if_there(data, "test" if train else "train")
    for label in chain(labels, others) if train else chain(others, labels):
        seen.add(label)
        if label in (0, classes):
            break
    names = [str(label) for label in seen] or ["0"]
    return int(class_numbers(Path(data.root), names, (), classes)[0])


def class_names(data: ImageDataConfig, classes: int, first: int) -> tuple[str, ...]:
    """Return the names of the classes: of `data.names`, of classes.txt, or "class 7".

    Args:
        data: Where the names are.
        classes: Number of classes.
        first: Number of the first class.
    """
    order = tuple(str(first + index) for index in range(classes))
    path = Path(_root(data)) / (data.names or "classes.txt")
    if data.names is not None or (is_local(data.source) and path.is_file()):
        return read_class_names(path, order)
    return number_names(order)


def parse_label(name: str, content: dict[str, bytes], key: str | None) -> int:
    """Return the class of a sample as its files give it.

    Args:
        name: Name of the sample, for messages.
        content: The bytes of its files by suffix.
        key: Field of the json file; None for the cls file.

    Raises:
        ValueError: If it has none, or one that is not a whole number.
    """
    try:
        value = json.loads(content["json"])[key] if key else content["cls"].decode()
        if not isinstance(value, bool) and float(value) == int(value):
            return int(value)
        reason = f"{value!r} is not a whole number"
    except KeyError as error:
        reason = f"{error} is missing (the sample has {', '.join(sorted(content))})"
    except (ValueError, TypeError, OverflowError) as error:
        reason = first_line(error)
    raise ValueError(
        f"{name}: no class: {reason}; expected a number in KEY.cls, or in KEY.json and "
        "data.label_key"
    )


def image_kind(kinds: Iterable[str], name: str) -> str:
    """Return which of a sample's files is its image.

    Raises:
        ValueError: If none is, or several are.
    """
    images = [kind for kind in kinds if kind in _KINDS]
    if len(images) != 1:
        raise ValueError(
            f"{name}: {counted(len(images), 'image')}; expected one ({', '.join(_KINDS)})"
        )
    return images[0]


def split_name(name: str) -> tuple[str, str]:
    """Split the name of a member at the first dot of its last part: key and lower-case suffix."""
    folder, slash, file = name.rpartition("/")
    key, _, kind = file.partition(".")
    return folder + slash + key, kind.lower()


def _root(data: ImageDataConfig) -> str:
    source = data.source.rstrip("/")
    return str(Path(source).expanduser()) if is_local(source) else source


def _samples(file: Path) -> Iterator[tuple[str, dict[str, tuple[int, int]]]]:
    """Yield each sample of a shard: its key, and offset and size of its files by suffix."""
    members = (
        (*split_name(name), (offset, size))
        for name, offset, size in walk_tar(file)
        if not name.rpartition("/")[2].startswith((".", "__"))
    )
    for key, group in groupby(members, key=_key):
        yield key, {kind: place for _, kind, place in group}


def _key(member: tuple[str, str, tuple[int, int]]) -> str:
    return member[0]


def list_samples(file: Path, label_key: str | None) -> Iterator[tuple[str, tuple[int, int], int]]:
    """Yield name, place of the image, and class of each sample of a shard."""
    wanted = "json" if label_key else "cls"
    with file.open("rb") as stream:
        for key, places in _samples(file):
            name = f"{file.name}/{key}"
            content = {kind: b"" for kind in places if kind != wanted}
            if wanted in places:
                content[wanted] = _read(stream.seek, stream.read, places[wanted])
            label = parse_label(f"{file}: {key}", content, label_key)
            yield name, places[image_kind(places, f"{file}: {key}")], label


def _read(
    seek: Callable[[int], int], read: Callable[[int], bytes], place: tuple[int, int]
) -> bytes:
    seek(place[0])
    return read(place[1])


def labels_of(shards: Shards) -> Iterator[int]:
    """Yield the labels of a split, one shard after the other."""
    if all(is_local(url) for url in shards.urls):
        for file in shards.files:
            yield from (label for _, _, label in list_samples(file, shards.label_key))
        return
    for sample in stream_samples(shards.urls):
        yield parse_label(sample["__key__"], sample, shards.label_key)


def _labels_if_there(data: ImageDataConfig, split: Split) -> Iterator[int]:
    """Yield the labels of a split, none where it is missing or damaged: its own reader says so."""
    with contextlib.suppress(ValueError, OSError):
        yield from labels_of(find_shards(data, split))


def stream_samples(urls: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Yield the samples of shards in their order: bytes by suffix, "__key__" and "__url__".

    Raises:
        ValueError: If a shard cannot be read.
    """
    tariterators = import_extra("webdataset").tariterators
    places = ({"url": url} for url in urls)
    try:
        yield from tariterators.tarfile_samples(places, handler=_raise)
    except Exception as error:  # Errors of any kind: of the network, of a damaged file.
        raise ValueError(f"{first_line(error)}; cannot read a shard, copy it anew") from error


def _raise(error: Exception) -> bool:
    raise error
