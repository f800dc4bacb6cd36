"""The configuration of a classifier that is written for a folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from datasets.init.configuration import image_lines, yaml_text
from datasets.init.image_layout import ImageLayout
from datasets.init.image_measures import Measures
from rsseg.common.config import QUESTION
from rsseg.common.messages import counted

_LARGEST: Final = 224  # pixels: the largest resolution that is proposed
_SHARES: Final = (1.0, 0.72, 0.43)  # of the largest resolution
_MOST: Final = 40  # classes whose images are counted one by one
_FAULTS: Final = 5  # unreadable images that are named


def write_image_configuration(layout: ImageLayout, measures: Measures, out: Path) -> str:
    """Return the text of the configuration.

    Args:
        layout: Where the images are.
        measures: What they are.
        out: Name of the file, for its command.
    """
    lines = [*_head(layout, measures, out), *_data(layout), *_run(layout, measures), ""]
    return "\n".join(lines)


def _head(layout: ImageLayout, measures: Measures, out: Path) -> Iterator[str]:
    yield f"# {layout.text}"
    yield from (f"# {note}" for note in layout.notes)
    yield f"# python -m datasets.check {out} --sheet sheet.png    # look at it first"
    yield f"# python train_cls.py {out}"
    for split, counts in measures.counts.items():
        low, high = int(counts.min()), int(counts.max())
        each = f"{low}" if low == high else f"{low} to {high}"
        yield (
            f"# {split}: {counted(int(counts.sum()), 'image')} of "
            f"{counted(len(counts), 'class')}, {each} of each"
        )
    if len(measures.classes) <= _MOST:
        numbers = np.stack([*measures.counts.values()], axis=1).tolist()
        names = zip(measures.classes, numbers, strict=True)
        numbered = (f"{name} {' + '.join(map(str, some))}" for name, some in names)
        yield f"# Images of each class ({' + '.join(measures.counts)}): {', '.join(numbered)}"
    yield from image_lines(measures.sizes, measures.colour)
    faults = measures.unreadable
    yield f"# Unreadable: {len(faults)} of {counted(measures.read, 'image')} that were read"
    yield from (f"#   {' '.join(fault.split())}" for fault in faults[:_FAULTS])


def _data(layout: ImageLayout) -> Iterator[str]:
    yield "data:"
    yield f"  root: {yaml_text(layout.root)}"
    if layout.question is not None:
        yield f"  {QUESTION}: {layout.question} Write a line of these for null:"
        for offer in layout.offers:
            yield from (f"  # {line}" for line in _lines(offer))
    # Keys that have a default would be taken by it while their question is open.
    keys = {"train": "", "val": ""} if layout.question is not None else {}
    yield from (f"  {line}" for line in _lines({**keys, **layout.data}))
    yield from _numbers(layout)


def _lines(data: Mapping[str, Any]) -> Iterator[str]:
    for key, value in data.items():
        note = "    # a fifth of the training images, by name" if key == "test_share" else ""
        if value == "":
            yield f"{key}: null    # the question above"
        else:
            yield f"{key}: {yaml_text(value)}{note}"


def _numbers(layout: ImageLayout) -> Iterator[str]:
    classes = layout.classes
    if len(classes.offsets) < 2:
        return
    yield f"  {QUESTION}: classes are numbers, and there is no 0: what do they count from?"
    yield "  # Uncomment the line that is right, and set model.classes to its number of classes:"
    for offset in classes.offsets:
        number = counted(classes.count_from(offset), "class")
        yield f"  # label_offset: {offset}    # {number}, counted from {offset}"


def _run(layout: ImageLayout, measures: Measures) -> Iterator[str]:
    largest = min(_LARGEST, max(32, 32 * (measures.shorter_side // 32)))
    resolutions = list(dict.fromkeys(32 * max(1, round(largest * s / 32)) for s in _SHARES))
    classes, total = layout.classes, int(measures.counts["train"].sum())
    number = str(classes.count) if classes.is_known else "null"
    yield "model:"
    yield "  name: resnet18"
    comment = "" if classes.is_known else f"    {_classes_question(layout)}"
    yield f"  classes: {number}{comment}"
    yield "  # weights: imagenet    # downloads them; a file or a folder starts from yours"
    yield f"resolutions: {resolutions}"
    yield f"epochs: {max(1, min(90, round(1_000_000 / max(1, total))))}"
    yield f"batch_size: {max(2, min(64, total))}"
    yield "optim: {lr: 0.05, momentum: 0.9, weight_decay: 1.0e-4}"
    yield "schedule: {kind: cosine, warmup_epochs: 0.5}"
    yield "precision: auto    # bf16 where training is faster in it"


def _classes_question(layout: ImageLayout) -> str:
    most = layout.classes.count
    return f"{QUESTION}: how many classes are there? {most}, if the largest number occurs"
