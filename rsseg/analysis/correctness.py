"""The file correctness.npz of a classification run: which images each resolution classified right.

An array's size is compared with the file's before room is made for it, and nothing is run: the
file holds no objects.
"""

from __future__ import annotations

import math
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from rsseg.common.files import RunError

CORRECTNESS: Final = "correctness.npz"
_PREFIX: Final = "correct_"
_MARGIN: Final = "margin_"
_LARGEST: Final = 2**30  # bytes of an array: more than a million names


@dataclass(frozen=True)
class Answers:
    """The answers of one run: names of the images, sorted, and whether each answer was right.

    `correct` has one array of shape (N,) for each resolution, and for "ensemble" if there is one;
    `margins`, how sure the answers were (0..1), as well. Runs of older versions have none.
    """

    names: NDArray[np.str_]
    correct: dict[str, NDArray[np.bool_]]
    margins: dict[str, NDArray[np.float32]] = field(default_factory=dict)


def read_answers(run: Path) -> Answers:
    """Read the correctness.npz of a run; nothing in the file is run.

    Raises:
        RunError: If there is none, it is damaged, or it holds something else.
    """
    path = run / CORRECTNESS
    if not path.is_file():
        raise RunError(
            f"{run} holds no {CORRECTNESS}; give the folder of a classification run, or the --out "
            "of its evaluation"
        )
    try:
        arrays = _arrays(path)
        names = arrays.pop("names")
        margins = {key: arrays.pop(key) for key in list(arrays) if key.startswith(_MARGIN)}
        names.tolist()  # Raises on characters that there are not.
    except Exception as error:  # Damaged files make numpy and zipfile raise errors of any kind.
        raise RunError(
            f"{path} is damaged or holds no answers of a run ({_error_message(error)}); evaluate "
            "the checkpoint again"
        ) from error
    _check_arrays(path, names, arrays)
    _check_margins(path, len(names), margins)
    order = np.argsort(names)
    correct = {key.removeprefix(_PREFIX): value[order] for key, value in arrays.items()}
    sure = {key.removeprefix(_MARGIN): value[order] for key, value in margins.items()}
    return Answers(names[order], correct, sure)


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    with zipfile.ZipFile(path) as archive:
        for record in archive.infolist():
            _check_size(archive, record)
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
        prefixes = (_PREFIX, _MARGIN)
        return {key: file[key] for key in file.files if key == "names" or key.startswith(prefixes)}


def _check_size(archive: zipfile.ZipFile, record: zipfile.ZipInfo) -> None:
    """Check that an array is as large as it claims to be, before room is made for it."""
    with archive.open(record) as stream:
        if npy.read_magic(stream) == (1, 0):
            shape, _, dtype = npy.read_array_header_1_0(stream)
        else:
            shape, _, dtype = npy.read_array_header_2_0(stream)
    size = math.prod(shape) * max(dtype.itemsize, 1)
    if size > record.file_size or record.file_size > _LARGEST:
        raise ValueError(
            f"{record.filename} claims {size} bytes, unpacked it has {record.file_size}, and at "
            f"most {_LARGEST} are read"
        )


def _error_message(error: Exception) -> str:
    if "pickle" in str(error):  # Numpy goes on to advise to run what the file says. We don't.
        return "it is not an NPZ file of plain arrays"
    if isinstance(error, KeyError):
        return f"it has no array {error}"
    return str(error) or type(error).__name__


def _check_arrays(path: Path, names: NDArray[Any], correct: dict[str, NDArray[Any]]) -> None:
    fits = names.ndim == 1 and names.size > 0 and names.dtype.kind == "U" and len(correct) > 0
    if not fits or any(a.dtype != np.bool_ or a.shape != names.shape for a in correct.values()):
        shapes = [f"{key} {a.dtype} {a.shape}" for key, a in {"names": names, **correct}.items()]
        raise RunError(
            f"{path} holds {', '.join(shapes)}; expected names, and {_PREFIX}R, bool, for each "
            "resolution R, all of the same length above 0"
        )
    unique, counts = np.unique(names, return_counts=True)
    if len(unique) < len(names):
        raise RunError(
            f"{path} holds answers to several images named '{unique[counts.argmax()]}', which "
            "cannot be told apart; give the test images different names"
        )


def _check_margins(path: Path, images: int, margins: dict[str, NDArray[Any]]) -> None:
    for key, values in margins.items():
        fits = values.dtype == np.float32 and values.shape == (images,)
        if not fits or not ((values >= 0) & (values <= 1)).all():
            raise RunError(
                f"{path} holds {key} {values.dtype} {values.shape}; expected {_MARGIN}R, float32, "
                f"0..1, for each of the {images} images"
            )
