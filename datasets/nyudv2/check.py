"""Look through a data set: counts, sizes, label values, shares of the classes, and every fault."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from datasets.nyudv2.folder import FolderReader
from datasets.nyudv2.reader import open_nyudv2
from datasets.samples import Reader, Sample, Split
from rsseg.images.preprocessing import VOID
from rsseg.segmentation.labels import value_ranges

_SPLITS: Final[tuple[Split, ...]] = ("train", "test")
_EXAMPLES: Final = 4  # samples of a split on the contact sheet


@dataclass
class SplitReport:
    """The counts, examples and faults of one split.

    Attributes:
        names: Names of the samples.
        classes: Names of the classes.
        source: What the label files hold, in words.
        pixels: Number of pixels of each label 0..255, shape (256,), int64.
        sizes: Number of samples of each width and height.
        examples: Some samples, spread over the split.
        faults: Every fault, with the file's name.
    """

    names: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    source: str = "unknown"
    pixels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, dtype=np.int64))
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    examples: list[Sample] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def shares(self) -> NDArray[np.float64]:
        """Share of all pixels of each label 0..255 (255: void) in percent, shape (256,)."""
        return 100 * self.pixels / max(1, int(self.pixels.sum()))


def check(
    root: Path,
    *,
    crop: str | None = None,
    label_offset: int | None = None,
    void_value: int | None = None,
    classes: int = 40,
) -> dict[Split, SplitReport]:
    """Read every sample of both splits.

    Args:
        root: What open_nyudv2 opens.
        crop: As for open_nyudv2.
        label_offset: As for open_nyudv2.
        void_value: As for open_nyudv2.
        classes: Number of classes.

    Returns:
        The report of each split; faults are in it and are not raised.
    """
    reports: dict[Split, SplitReport] = {}
    for split in _SPLITS:
        try:
            reader = open_nyudv2(
                root,
                split,
                crop=crop,
                label_offset=label_offset,
                void_value=void_value,
                classes=classes,
                partial=True,
                packed=False,
            )
        except (ValueError, OSError) as error:
            reports[split] = SplitReport(faults=[str(error)])
        else:
            reports[split] = _look_through(reader, split)
    both = set(reports["train"].names) & set(reports["test"].names)
    reports["test"].faults += [f"{root}: {name} is in train and in test" for name in sorted(both)]
    return reports


def _look_through(reader: Reader, split: Split) -> SplitReport:
    report = SplitReport(reader.names, reader.classes, reader.meaning)
    if isinstance(reader, FolderReader):
        report.faults += [f"{reader.root}: {path} is missing" for path in reader.missing]
        report.faults += _packed_faults(reader)
    examples = set(np.linspace(0, len(reader) - 1, _EXAMPLES).astype(int).tolist())
    for index in tqdm(range(len(reader)), desc=f"checking {split}", unit="image"):
        try:
            sample = reader[index]
        except (ValueError, OSError) as error:
            report.faults.append(str(error))
            continue
        report.pixels += np.bincount(sample.labels.ravel(), minlength=256)
        height, width = sample.labels.shape
        report.sizes[width, height] += 1
        if index in examples:
            report.examples.append(sample)
    return report


def _packed_faults(reader: FolderReader) -> Iterator[str]:
    """Compare the packed file of a split, if there is one, with its checksums."""
    try:
        packed = reader.open_packed()
    except (ValueError, OSError) as error:
        yield str(error)
        return
    if packed is None:
        return
    for index in range(len(packed.names)):
        try:
            packed.read(index)
        except (ValueError, OSError) as error:
            yield str(error)


def describe(reports: dict[Split, SplitReport], *, limit: int = 20) -> Iterator[str]:
    """Yield the lines that describe reports, with at most `limit` faults of each split."""
    for split, report in reports.items():
        sizes = ", ".join(f"{w}x{h} ({n})" for (w, h), n in report.sizes.most_common(5))
        present = np.flatnonzero(report.pixels)
        values = value_ranges(present) if len(present) else "none"
        yield f"{split}: {len(report.names)} samples; sizes {sizes or 'unknown'}"
        yield f"  values {values} ({VOID} is void), read from {report.source}"
    yield from _table(reports)
    for split, report in reports.items():
        if report.faults:
            yield f"{split}: {len(report.faults)} faults"
            yield from (f"  {fault}" for fault in report.faults[:limit])
            if len(report.faults) > limit:
                yield f"  ... and {len(report.faults) - limit} more"
    if not any(report.faults for report in reports.values()):
        yield "no faults"


def _table(reports: dict[Split, SplitReport]) -> Iterator[str]:
    """Yield the lines of a table: the share of each class in all pixels."""
    yield f"{'% of all pixels':24}" + "".join(f"{split:>8}" for split in reports)
    names = max((report.classes for report in reports.values()), key=len)
    for label, name in [(VOID, "void"), *enumerate(names)]:
        shares = "".join(f"{report.shares[label]:8.2f}" for report in reports.values())
        yield f"{label:5} {name:18}{shares}"
