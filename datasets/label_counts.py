"""What label maps hold: the one line that every training and evaluation prints."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from datasets.samples import Reader
from rsseg.common.messages import counted, listed
from rsseg.images.preprocessing import VOID

_ENOUGH: Final = 256  # label maps that are counted, if every class occurs in them


class LabelCounts(NamedTuple):
    """The pixels of each label in some label maps.

    Attributes:
        pixels: Pixels of each label 0..255 (255: void), shape (256,), int64.
        maps: Number of label maps that were counted.
        faults: Why others could not be.
    """

    pixels: NDArray[np.int64]
    maps: int
    faults: tuple[str, ...] = ()

    @property
    def void_share(self) -> float:
        """Share of the pixels without class, 0..1."""
        return float(self.pixels[VOID] / max(1, int(self.pixels.sum())))

    def absent(self, classes: Sequence[str]) -> list[str]:
        """Return the names of the classes without a pixel."""
        return [name for index, name in enumerate(classes) if not self.pixels[index]]


def count_labels(reader: Reader) -> LabelCounts:
    """Count the pixels of each class in 256 label maps, or in all if a class is in none of those.

    Label maps that cannot be read are left out: training decides what becomes of them.
    """
    classes, count = len(reader.classes), len(reader)
    first = np.unique(np.linspace(0, count - 1, min(_ENOUGH, count)).astype(int)).tolist()
    counts = _count(reader, first)
    if counts.pixels[:classes].all() or len(first) == count:
        return counts
    rest = _count(reader, sorted({*range(count)} - {*first}))
    return LabelCounts(
        counts.pixels + rest.pixels, counts.maps + rest.maps, counts.faults + rest.faults
    )


def _count(reader: Reader, indices: Sequence[int]) -> LabelCounts:
    def of_map(index: int) -> NDArray[np.int64] | str:
        try:
            return np.bincount(reader.read_labels(index).ravel(), minlength=256)
        except (ValueError, OSError) as error:
            return str(error)

    pixels, maps, faults = np.zeros(256, dtype=np.int64), 0, []
    # Threads: unpacking a PNG lets others run. HDF5 has one lock for all.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        total = len(indices)
        results = tqdm(pool.map(of_map, indices), "counting labels", total, delay=2, unit="map")
        for result in results:
            if isinstance(result, str):
                faults.append(result)
            else:
                pixels += result
                maps += 1
    return LabelCounts(pixels, maps, tuple(faults))


def label_summary(reader: Reader, *, allow_absent: bool) -> str:
    """Return one line: reading, number of classes, share of void, classes without a pixel.

    Args:
        reader: The samples.
        allow_absent: Whether a class may have no pixel.

    Raises:
        ValueError: If a class has no pixel and may not; names the classes, the values found and
            what to do. If no label map can be read: the first one's error.
    """
    counts = count_labels(reader)
    if not counts.maps:
        raise ValueError(counts.faults[0] if counts.faults else "there are no label maps")
    absent = counts.absent(reader.classes)
    looked_at = f"{counts.maps} of {len(reader)}" if counts.maps < len(reader) else f"{counts.maps}"
    if absent and not allow_absent:
        raise ValueError(
            f"{len(absent)} of {counted(len(reader.classes), 'class')} have no pixel in the "
            f"{looked_at} label maps: {listed(absent)}; the labels are read as {reader.meaning}; "
            "correct data.labels and model.classes, or set data.allow_absent: true if the data "
            "have no such pixels"
        )
    skipped = f" ({reader.skipped} without label map left out)" if reader.skipped else ""
    images = f"{counted(len(reader), 'image')}{skipped}"
    return (
        f"{images}, labels {reader.meaning}; {counted(len(reader.classes), 'class')}, void "
        f"{100 * counts.void_share:.1f} % of the pixels, classes without a pixel: "
        f"{listed(absent) or 'none'} (in {looked_at} label maps)"
    )
