"""Look through the images of any configuration: counts, sizes, shares of the classes, every fault.

    python -m datasets.check configs/own/camvid.yaml --set data.root=PATH --sheet sheet.png

Every image and label map is read once, before a training finds the broken one in its third hour.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from tqdm import tqdm

from datasets.class_sheet import write_class_sheet
from datasets.contact_sheet import write_sheet
from datasets.imagenet.images import LabelledImages, summary_of
from datasets.imagenet.reader import open_images
from datasets.init.image_measures import class_rows
from datasets.label_report import (
    SPLITS,
    SplitReport,
    classes_of,
    describe,
    examples_of,
    reports_of,
)
from datasets.nyudv2.check import folder_faults
from datasets.samples import Reader, Split
from datasets.segmentation import open_reader
from rsseg.classifiers.config import ImageDataConfig
from rsseg.common.files import check_output
from rsseg.common.messages import counted, message_of
from rsseg.doctor.configuration import read_run
from rsseg.images.preprocessing import Image
from rsseg.segmentation.config import DataConfig, SegmentationConfig
from rsseg.segmentation.label_files import Colour

_MOST: Final = 20  # faults of a split that are shown


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code: 0, or 1 if something is wrong with the data."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {message_of(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _run(options: argparse.Namespace) -> int:
    if options.sheet:
        check_output(options.sheet)  # now, and not when all images have been read
    _, config = read_run(options.config, options.overrides)
    if not isinstance(config, SegmentationConfig):
        labels, classes = config.reads_labels, config.model.classes
        return _check_classes(config.data, classes, options.sheet, train_labels=labels)
    reports = check_samples(config.data, config.model.classes, train_labels=config.reads_labels)
    print(*describe(reports, limit=_MOST), sep="\n")
    examples = examples_of(reports)
    if options.sheet and examples:
        write_sheet(options.sheet, examples, classes_of(reports), _colours(config.data))
        print(f"contact sheet: {options.sheet}")
    return int(any(report.faults for report in reports.values()))


def check_samples(
    data: DataConfig, classes: int, *, train_labels: bool = True
) -> dict[Split, SplitReport]:
    """Read every sample of both splits; faults are in the reports and are not raised."""

    def more_faults(reader: Reader, report: SplitReport, split: Split) -> list[str]:
        return [*folder_faults(reader), *(_absent(report, data, split) if train_labels else ())]

    def opened(split: Split) -> Reader:
        return open_reader(data, split, classes, train_labels=train_labels)

    reports = reports_of(opened, more_faults, data.root)
    if not train_labels:
        reports["train"].pixels[:] = 0  # What stands in the place of labels is none.
    return reports


def _absent(report: SplitReport, data: DataConfig, split: Split) -> Iterator[str]:
    """Yield the classes that a training would refuse for want of a pixel."""
    if split == "train" and not data.allow_absent:
        for index, name in enumerate(report.classes):
            if not report.pixels[index]:
                yield f"class {index} ({name}) has no pixel; set data.allow_absent: true if so"


def _colours(data: DataConfig) -> Sequence[Colour] | None:
    """Return the colours of the classes that the settings give, for pictures or as labels."""
    return data.colours or (data.labels.colours if data.labels else None)


def _check_classes(
    data: ImageDataConfig, classes: int, sheet: Path | None, *, train_labels: bool
) -> int:
    """Read every image with a class of both splits, and draw some; return the exit code."""
    rows: list[tuple[str, list[Image]]] = []
    faults = []
    for split in SPLITS:
        try:
            images = open_images(data, split, classes, train_labels=train_labels)
        except (ValueError, OSError) as error:
            print(f"{split}: {error}")
            faults.append(str(error))
            continue
        faults += _check_images(images, split)
        if sheet:
            rows += [(f"{split} {caption}", pictures) for caption, pictures in class_rows(images)]
    if sheet and rows:
        write_class_sheet(sheet, rows)
        print(f"contact sheet: {sheet}")
    return int(bool(faults))


def _check_images(images: LabelledImages, split: Split) -> list[str]:
    """Read every image of a split, print what there is, and return the faults."""
    print(f"{split}: {summary_of(images)}")
    sizes: Counter[tuple[int, int]] = Counter()
    faults = [*_faults(images, lambda height, width: sizes.update([(width, height)]), split)]
    counts = np.bincount(images.labels, minlength=len(images.classes))
    for index, name in enumerate(images.classes):
        print(f"{index:5} {name:24}{counts[index]:8}")
    print(f"  sizes {', '.join(f'{w}x{h} ({n})' for (w, h), n in sizes.most_common(5))}")
    print(f"  {counted(len(faults), 'fault')}" if faults else "  no faults")
    print(*(f"  {fault}" for fault in faults[:_MOST]), sep="\n", end="\n" if faults else "")
    return faults


def _faults(
    images: LabelledImages, note_size: Callable[[int, int], None], split: Split
) -> Iterator[str]:
    for index in tqdm(range(len(images)), desc=f"checking {split}", unit="image"):
        try:
            image = images.read(index)
        except (ValueError, OSError) as error:
            yield str(error)
        else:
            note_size(*image.shape[:2])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m datasets.check", description=__doc__)
    add = parser.add_argument
    add("config", type=Path, help="YAML file of a run, for train_seg.py or train_cls.py")
    add("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", dest="overrides")
    add("--sheet", type=Path, help="write a contact sheet PNG here, a new file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
