"""What a trained network is, apart from its weights: what every executor has to know.

A checkpoint holds it as metadata, an exported file as JSON under the key `KEY`. How exported files
are written is decided in `export`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final, Literal

from pydantic import ConfigDict, Field, field_validator
from pydantic.dataclasses import dataclass

from rsseg.common.config import validate
from rsseg.common.file_kinds import EXPORT_KEY
from rsseg.heads import head_of
from rsseg.images.preprocessing import Preprocessing
from rsseg.segmentation.labels import Byte, LabelReading
from rsseg.switchable.resolutions import Resolutions
from rsseg.training.head import Head

KEY: Final = EXPORT_KEY


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="ignore"))
class Description:
    """What a trained network is.

    Args:
        task: Name of its head, which tells what its logits are.
        name: What pictures, tables and services call it.
        classes: Names of its K classes, in the order of the logits.
        resolutions: Sides that it was trained for, from large to small.
        preprocessing: How it reads images.
        layout: "one" if it is the network of a single resolution, "fixed" if it has a model of
            fixed shape for each trained one, "all" if it takes any size.
        resolution: The single resolution, None with "fixed" and "all".
        unseen: Rule for resolutions that were not trained.
        batchnorm: "private" or "shared".
        labels: What the values of the label maps meant that it was trained with, if it had any
            and that is known.
        colours: Colour of each class in pictures, RGB; None takes a palette.
        weights: Digest of the weights that it was trained to, see `RunMetadata`.
        bits: Of weights and activations in the file: 32, or 8 (integers).
        format: Version of this description.
    """

    task: str
    name: str
    classes: tuple[str, ...] = Field(min_length=1)
    resolutions: Resolutions
    preprocessing: Preprocessing
    layout: Literal["one", "fixed", "all"] = "all"
    resolution: int | None = None
    unseen: str = "interpolate"
    batchnorm: Literal["private", "shared"] = "private"
    labels: LabelReading | None = None
    colours: tuple[tuple[Byte, Byte, Byte], ...] | None = None
    weights: str | None = None
    bits: Literal[8, 32] = 32
    format: Literal[1] = 1

    @field_validator("task")
    @classmethod
    def _known(cls, task: str) -> str:
        return head_of(task).name

    @property
    def head(self) -> Head:
        """What it answers."""
        return head_of(self.task)

    @property
    def usable(self) -> tuple[int, ...]:
        """Trained resolutions that the file can compute, each once, largest first."""
        if self.layout == "one" and self.resolution is not None:
            return (self.resolution,)
        return tuple(dict.fromkeys(self.resolutions))


def parse(text: str, path: Path) -> Description:
    """Read the description in an exported file.

    Raises:
        ValueError: If it is not a valid one; names the file.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: what it says about its network is not JSON ({error})") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: what it says about its network is not a mapping")
    return validate(Description, values, path.name)


def name_of(path: Path) -> str:
    """Return the name of a network: of its file, or of the run's folder, whose files are alike."""
    return path.resolve().parent.name if path.stem in ("last", "best", "previous") else path.stem
