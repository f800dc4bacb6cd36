"""Write a few samples of a data set as pairs of PNG files, for a look or a demonstration."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from datasets.nyudv2.prepare import write_image, write_label_map
from datasets.samples import Reader
from rsseg.common.messages import listed
from rsseg.images.reading import read_image
from rsseg.segmentation.label_files import read_label_values


def write_samples(reader: Reader, target: Path, count: int) -> list[str]:
    """Write a few samples, spread over a reader, as images/NAME.png and labels/NAME.png.

    Files that hold the same already are left as they are. Label maps hold classes 0..39, and 255
    for void.

    Returns:
        Names of the samples.

    Raises:
        ValueError: If the reader holds fewer samples than `count`, or `count` is below 1.
        FileExistsError: If the folders hold any other file; nothing is written then.
        OSError: If a file cannot be written.
    """
    if not 1 <= count <= len(reader):
        raise ValueError(f"count must be in 1..{len(reader)}, the samples there are, got {count}")
    indices = np.linspace(0, len(reader) - 1, count).round().astype(int).tolist()
    there = {path for folder in ("images", "labels") for path in (target / folder).glob("*")}
    _check_foreign(there, {f"{reader.names[index]}.png" for index in indices})
    for index in indices:
        _check_existing(reader, index, target, there)
    for sample in (reader[index] for index in indices):
        image, label = _sample_files(target, sample.name)
        if image not in there:
            write_image(image, sample.image)
        if label not in there:
            write_label_map(label, sample.labels, len(reader.classes))
    return [reader.names[index] for index in indices]


def _sample_files(target: Path, name: str) -> tuple[Path, Path]:
    return target / "images" / f"{name}.png", target / "labels" / f"{name}.png"


def _check_foreign(there: set[Path], names: set[str]) -> None:
    """Raise FileExistsError if a folder of samples holds a file of no sample."""
    # Whoever shows the folder would show what was left there by another data set.
    foreign = sorted(path for path in there if path.name not in names)
    if foreign:
        raise FileExistsError(
            f"{foreign[0]}: is none of the samples that are to be written "
            f"({listed(names)}); remove it or choose another target"
        )


def _check_existing(reader: Reader, index: int, target: Path, there: set[Path]) -> None:
    """Raise FileExistsError if a file of a sample exists and does not hold that sample."""
    image, label = _sample_files(target, reader.names[index])
    for path, read in ((image, read_image), (label, read_label_values)):
        if path not in there:
            continue
        sample = reader[index]
        try:
            same = np.array_equal(read(path), sample.image if path == image else sample.labels)
        except ValueError:
            same = False
        if not same:
            raise FileExistsError(
                f"{path}: exists and is not {reader.where(index)}; remove it or choose another "
                "target"
            )
