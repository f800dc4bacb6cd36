"""Look through labelled samples: counts, sizes, labels, shares of the classes, and every fault."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from datasets.samples import Reader, Sample, Split
from rsseg.common.messages import counted
from rsseg.images.preprocessing import VOID
from rsseg.segmentation.labels import value_ranges

SPLITS: Final[tuple[Split, ...]] = ("train", "test")
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
        colours: Sum of the mean colours of the samples, RGB, 0..255, shape (3,).
        examples: Some samples, spread over the split.
        faults: Every fault, with the file's name.
    """

    names: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    source: str = "unknown"
    pixels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, dtype=np.int64))
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    colours: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    examples: list[Sample] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def shares(self) -> NDArray[np.float64]:
        """Share of all pixels of each label 0..255 (255: void) in percent, shape (256,)."""
        return 100 * self.pixels / max(1, int(self.pixels.sum()))


def report_of(reader: Reader, split: Split) -> SplitReport:
    """Read every sample of a split; faults are in the report and are not raised."""
    report = SplitReport(reader.names, reader.classes, reader.meaning)
    examples = set(np.linspace(0, len(reader) - 1, _EXAMPLES).astype(int).tolist())
    for index in tqdm(range(len(reader)), desc=f"checking {split}", unit="image"):
        try:
            sample = reader[index]
        except (ValueError, OSError) as error:
            report.faults.append(str(error))
            continue
        report.pixels += np.bincount(sample.labels.ravel(), minlength=256)
        report.colours += sample.image.reshape(-1, 3).mean(axis=0)
        height, width = sample.labels.shape
        report.sizes[width, height] += 1
        if index in examples:
            report.examples.append(sample)
    return report


def reports_of(
    open_split: Callable[[Split], Reader],
    more_faults: Callable[[Reader, SplitReport, Split], Iterable[str]],
    where: object,
) -> dict[Split, SplitReport]:
    """Read every sample of both splits.

    Args:
        open_split: Opens the samples of a split.
        more_faults: Returns what else is wrong with them.
        where: What names the data set in faults.

    Returns:
        The report of each split; faults are in it and are not raised.
    """
    reports: dict[Split, SplitReport] = {}
    for split in SPLITS:
        try:
            reader = open_split(split)
        except (ValueError, OSError) as error:
            reports[split] = SplitReport(faults=[str(error)])
        else:
            reports[split] = report_of(reader, split)
            reports[split].faults += more_faults(reader, reports[split], split)
    both = {*reports["train"].names} & {*reports["test"].names}
    reports["test"].faults += [f"{where}: {name} is in train and in test" for name in sorted(both)]
    return reports


def examples_of(reports: Mapping[Split, SplitReport]) -> list[tuple[str, Sample]]:
    """Return the examples of all splits with their captions, for a contact sheet."""
    return [
        (f"{split} {sample.name}", sample)
        for split, report in reports.items()
        for sample in report.examples
    ]


def classes_of(reports: Mapping[Split, SplitReport]) -> tuple[str, ...]:
    """Return the names of the classes; a split that could not be opened has none."""
    return max((report.classes for report in reports.values()), key=len)


def describe(reports: Mapping[Split, SplitReport], *, limit: int = 20) -> Iterator[str]:
    """Yield the lines that describe reports, with at most `limit` faults of each split."""
    for split, report in reports.items():
        sizes = ", ".join(f"{w}x{h} ({n})" for (w, h), n in report.sizes.most_common(5))
        present = np.flatnonzero(report.pixels)
        values = value_ranges(present) if len(present) else "none"
        yield f"{split}: {counted(len(report.names), 'sample')}; sizes {sizes or 'unknown'}"
        yield f"  labels {values} ({VOID} is void), read as {report.source}"
        read = sum(report.sizes.values())
        if read:
            colour = ", ".join(f"{channel / read / 255:.3f}" for channel in report.colours)
            yield f"  mean colour {colour} (RGB, 0..1)"
    yield from _table(reports)
    for split, report in reports.items():
        if report.faults:
            yield f"{split}: {counted(len(report.faults), 'fault')}"
            yield from (f"  {fault}" for fault in report.faults[:limit])
            if len(report.faults) > limit:
                yield f"  ... and {len(report.faults) - limit} more"
    if not any(report.faults for report in reports.values()):
        yield "no faults"


def _table(reports: Mapping[Split, SplitReport]) -> Iterator[str]:
    """Yield the lines of a table: the share of each class in all pixels."""
    yield f"{'% of all pixels':24}" + "".join(f"{split:>8}" for split in reports)
    names = classes_of(reports)
    for label, name in [(VOID, "void"), *enumerate(names)]:
        shares = "".join(f"{report.shares[label]:8.2f}" for report in reports.values())
        yield f"{label:5} {name:18}{shares}"
