"""Data sets of Hugging Face, read through timm, whose rows are images by index.

Their library has the name of this folder, `datasets`: it is imported beside ours, and our modules
are out of the way while it runs.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from datasets.imagenet.images import LabelledImages, limited, number_names
from datasets.imagenet.labels import class_numbers, read_class_names
from datasets.samples import Split
from rsseg.classifiers.config import ImageDataConfig
from rsseg.common.extras import extra_message
from rsseg.common.messages import counted, first_line
from rsseg.images.preprocessing import Image
from rsseg.images.reading import Decoder, decode_image

_NAME: Final = "datasets"  # of their package and of ours
_CHECKOUT: Final = Path(__file__).resolve().parents[2]
_theirs: dict[str, ModuleType] = {}  # Their modules, while ours are in sys.modules.


class Rows(LabelledImages):
    """The images of one split of a data set of Hugging Face.

    Args:
        reader: timm's reader of the split.
        index: The rows that are used, shape (N,).
        labels: Class of each, shape (N,), 0..K-1.
        classes: Readable name of each class.
        decoder: See `read_image`.
        layout: Name of data set and split, for the summary and for messages.
    """

    def __init__(
        self,
        reader: Any,
        index: NDArray[np.int64],
        labels: NDArray[np.int64],
        classes: tuple[str, ...],
        *,
        decoder: Decoder,
        layout: str,
    ) -> None:
        super().__init__(labels, classes, layout)
        self._reader, self._index = reader, index
        self._decoder: Decoder = decoder

    def read(self, index: int) -> Image:
        """Read an image, see `LabelledImages`."""
        with their_datasets():
            file, *_ = self._reader[int(self._index[index])]
            with file:
                content = file.read()
        return decode_image(content, f"{self.layout}, {self.name(index)}", decoder=self._decoder)

    def name(self, index: int) -> str:
        """Return the number of an image's row."""
        return f"row {self._index[index]}"


def open_rows(data: ImageDataConfig, split: Split, classes: int) -> Rows:
    """Open a split of `data.root`, "hfds/NAME"; NAME is on the hub, or a folder.

    Raises:
        ValueError: If it cannot be opened, or its classes are not as many as `classes`.
        ImportError: If the library is not installed.
    """
    name, other = (data.train, data.val) if split == "train" else (data.val, data.train)
    layout = f"{data.root} {name}"
    with their_datasets():
        reader = _open_reader(data, name)
        numbers = _column(reader, data)
        own_names = dict(reader.class_to_idx)
    if own_names:  # Its labels are places in a list of names: counted from 0.
        order = tuple(sorted(own_names, key=lambda key: own_names[key]))
        labels, readable = numbers, order
    else:
        order = _numbers_of_both(data, numbers, other, classes)
        labels, readable = numbers - int(order[0]), number_names(order)
    if len(order) != classes:
        raise ValueError(
            f"{layout} has {counted(len(order), 'class')} and model.classes is {classes}; set "
            f"model.classes to {len(order)}, or data.label_key to another column"
        )
    if data.names is not None:
        readable = read_class_names(Path(data.names).expanduser(), order)
    index, labels = limited(np.arange(len(labels)), labels, split, data.limit)
    return Rows(reader, index, labels, readable, decoder=data.decoder, layout=layout)


def _numbers_of_both(
    data: ImageDataConfig, numbers: NDArray[np.int64], other: str, classes: int
) -> tuple[str, ...]:
    """Return the number of each class, as the labels of both splits prove it together."""
    if data.label_offset is None:
        # A missing split is named when it is opened itself.
        with contextlib.suppress(ValueError, OSError), their_datasets():
            numbers = np.concatenate([numbers, _column(_open_reader(data, other), data)])
    names = [str(number) for number in np.unique(numbers)]
    return class_numbers(Path(data.root), names, (), classes, offset=data.label_offset)


def _open_reader(data: ImageDataConfig, split: str) -> Any:
    from timm.data.readers import create_reader  # noqa: PLC0415 (it is slow, and only needed here)

    keys = {"input_key": data.image_key, "target_key": data.label_key}
    try:
        return create_reader(f"hfds/{data.source}", split=split, **keys)
    except Exception as error:  # Errors of any kind: no network, no such name, split or column.
        raise ValueError(
            f"{data.root}, split {split!r}: {first_line(error)}; set data.root, the splits "
            "data.train and data.val (often train and validation), data.image_key and "
            "data.label_key"
        ) from error


def _column(reader: Any, data: ImageDataConfig) -> NDArray[np.int64]:
    """Read the column of the classes alone."""
    key = data.label_key or "label"
    if key not in reader.dataset.column_names:
        raise ValueError(
            f"{data.root} has no column {key!r} of classes; set data.label_key to one of "
            f"{', '.join(reader.dataset.column_names)}"
        )
    values = np.asarray(reader.dataset.select_columns(key)[:][key])
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise ValueError(
            f"{data.root}: column {key!r} holds {values.dtype} of shape {values.shape}; expected "
            "one whole number for each image; set data.label_key to another column"
        )
    return values.astype(np.int64)


@contextmanager
def their_datasets() -> Iterator[None]:
    """Let `datasets` be the package of Hugging Face inside a `with` block; ours is put back.

    Raises:
        ImportError: If it is not installed.
    """
    if not _theirs and find_theirs() is None:
        raise ImportError(extra_message(_NAME), name=_NAME)
    ours, path = _taken(), sys.path[:]
    sys.modules.update(_theirs)
    sys.path[:] = [entry for entry in path if not _is_ours(entry)]
    try:
        yield
    finally:
        sys.path[:] = path
        _theirs.update(_taken())
        sys.modules.update(ours)


def find_theirs() -> ModuleSpec | None:
    """Return where the package of Hugging Face is installed, or None."""
    entries = [entry for entry in sys.path if not _is_ours(entry)]
    return PathFinder.find_spec(_NAME, entries)


def _is_ours(entry: str) -> bool:
    return Path(entry or ".").resolve() == _CHECKOUT


def _taken() -> dict[str, ModuleType]:
    """Take all modules of the name out of `sys.modules`."""
    names = [name for name in sys.modules if name == _NAME or name.startswith(f"{_NAME}.")]
    return {name: sys.modules.pop(name) for name in names}
