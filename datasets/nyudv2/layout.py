"""What a file in the layout of NYU Depth V2's .mat file claims to hold, checked before it is read.

The sizes in a damaged or made-up file can ask for more memory than there is, and HDF5 can point
into other files: a dataset counts only if the file holds it itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import h5py
import numpy as np

_LARGEST_FRAME: Final = 2**28  # pixels: more than Pillow opens
_LARGEST_CHUNK: Final = 2**30  # bytes


class Array(NamedTuple):
    """What a dataset claims to hold; `chunk` is the number of bytes that are unpacked at once."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunk: int


@contextmanager
def reading(where: str) -> Iterator[None]:
    """Read in the `with` block; whatever goes wrong becomes a ValueError that says where."""
    try:
        yield
    except Exception as error:  # Damaged files make HDF5 raise errors of any kind.
        reason = str(error) or type(error).__name__
        raise ValueError(
            f"{where}: unreadable ({reason}); the file is damaged, fetch it again"
        ) from error


def arrays(file: h5py.File, path: Path, names: Sequence[str]) -> dict[str, Array]:
    """Describe those of the named datasets that the file holds itself, without reading them.

    Raises:
        ValueError: If the file is damaged.
    """
    with reading(str(path)):
        return {name: _described(file[name]) for name in names if _is_held(file, name)}


def check_layout(held: dict[str, Array], file: h5py.File, path: Path) -> tuple[int, int]:
    """Check images and labels against the official layout; give height and width.

    Raises:
        ValueError: If they are missing, too large, or of another shape or type.
    """
    missing = [name for name in ("images", "labels") if name not in held]
    if missing:
        with reading(str(path)):
            names = sorted(file)[:10]
        raise ValueError(
            f"{path}: has no dataset {' and no dataset '.join(missing)}; it holds "
            f"{', '.join(names) or 'nothing'}; expected the layout of nyu_depth_v2_labeled.mat, "
            "and nothing of it in other files"
        )
    images, labels = held["images"], held["labels"]
    count, width, height = labels.shape if len(labels.shape) == 3 else (0, 0, 0)
    if images.shape != (count, 3, width, height) or 0 in images.shape:
        raise ValueError(
            f"{path}: images of shape {images.shape} and labels of shape {labels.shape}; expected "
            "(N, 3, width, height) and (N, width, height), as MATLAB v7.3 writes them"
        )
    if (images.dtype, labels.dtype) != (np.dtype(np.uint8), np.dtype(np.uint16)):
        raise ValueError(
            f"{path}: images are {images.dtype} and labels {labels.dtype}; expected uint8 and "
            "uint16, as in nyu_depth_v2_labeled.mat"
        )
    if width * height > _LARGEST_FRAME or max(images.chunk, labels.chunk) > _LARGEST_CHUNK:
        raise ValueError(
            f"{path}: frames of {width}x{height} pixels, of which {images.chunk} and "
            f"{labels.chunk} bytes are unpacked at once; expected at most {_LARGEST_FRAME} pixels "
            f"and {_LARGEST_CHUNK} bytes"
        )
    return height, width


def _is_held(file: h5py.File, name: str) -> bool:
    if name not in file or not isinstance(file.get(name, getlink=True), h5py.HardLink):
        return False
    item = file[name]
    return isinstance(item, h5py.Dataset) and not (item.external or item.is_virtual)


def _described(dataset: h5py.Dataset) -> Array:
    chunk = math.prod(dataset.chunks or ()) * dataset.dtype.itemsize
    return Array(tuple(dataset.shape or ()), dataset.dtype, chunk)
