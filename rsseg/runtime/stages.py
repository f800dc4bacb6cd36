"""Where the time of one answer goes: from the bytes of an image to the bytes of the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Stages:
    """Milliseconds of one answer by stage, in the order of the stages.

    Args:
        decode: From the bytes of the image to pixels; 0 of an image that was given as pixels.
        view: Resizing to the resolution, and normalisation.
        network: The network, with the copies to and from its device.
        answer: The label map at the size of the image; of a classifier the check of its logits.
        encode: From the answer to the bytes that are sent or written; 0 if there are none.
    """

    decode: float = 0.0
    view: float = 0.0
    network: float = 0.0
    answer: float = 0.0
    encode: float = 0.0

    @property
    def prediction(self) -> float:
        """From the decoded image to the answer: view, network and answer."""
        return self.view + self.network + self.answer

    @property
    def total(self) -> float:
        """All of them: from bytes to bytes."""
        return self.decode + self.prediction + self.encode

    def rounded(self, digits: int) -> dict[str, float]:
        """Return milliseconds by stage, rounded, for JSON."""
        return {name: round(value, digits) for name, value in asdict(self).items()}


NAMES = tuple(field.name for field in fields(Stages))


def stage_titles(*, dense: bool) -> list[str]:
    """Return what people call the stages, of a segmenter (`dense`) or a classifier."""
    answer = "label map" if dense else "classes"
    return [answer if name == "answer" else name for name in NAMES]


def summed(several: Sequence[Stages]) -> Stages:
    """Add several records, stage by stage."""
    return Stages(**dict(zip(NAMES, _values(several).sum(axis=0).tolist(), strict=True)))


def medians(several: Sequence[Stages]) -> Stages:
    """Return the median of each stage."""
    return Stages(**dict(zip(NAMES, np.median(_values(several), axis=0).tolist(), strict=True)))


def _values(several: Sequence[Stages]) -> NDArray[np.float64]:
    return np.array([list(asdict(stages).values()) for stages in several])
