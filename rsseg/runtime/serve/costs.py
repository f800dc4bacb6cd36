"""What a request costs, and to whom that is charged.

What every request takes, at its resolution, is common to all: `Budget` knows it, and here is added
what answers take besides. What a large image takes at *every* resolution (decoding it, above all)
is its own. It is estimated from the header, megapixels times a rate of the format, and the rates
learn from large images alone: whoever sends them moves nobody else's resolution. Nor does what a
format of the answer takes beyond the usual one.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Final

from rsseg.images.photo import Photo
from rsseg.images.preprocessing import PHOTO_SIZE
from rsseg.runtime.budget.budget import Budget
from rsseg.runtime.budget.hysteresis import Hysteresis

_MEGA: Final = 10**6
_USUAL: Final = PHOTO_SIZE[0] * PHOTO_SIZE[1] / _MEGA  # megapixels of the image behind a budget
_ORDINARY: Final = 4 * _USUAL
_RATES: Final = {"JPEG": 10.0, "MPO": 10.0, "PNG": 25.0, "WEBP": 25.0, "BMP": 10.0}
_OTHER_RATE: Final = 25.0  # milliseconds for a megapixel, before any was measured


@dataclass(frozen=True)
class Kind:
    """What tells how much a request takes at every resolution.

    Args:
        format: Of the image, as Pillow names it.
        megapixels: Of the image.
        answer: Format of the answer.
    """

    format: str
    megapixels: float
    answer: str

    @classmethod
    def of(cls, photo: Photo, answer: str) -> Kind:
        """Return the kind of a photo that is to be answered in a format."""
        return cls(photo.format, photo.pixels / _MEGA, answer)

    @property
    def excess(self) -> float:
        """Megapixels beyond those of a usual image."""
        return max(0.0, self.megapixels - _USUAL)

    @property
    def is_large(self) -> bool:
        """Whether it tells nothing about the requests of others."""
        return self.megapixels > _ORDINARY


class Costs:
    """Milliseconds that a worker is expected to need; safe to be used by several threads.

    Args:
        budget: Knows the network and the load of the machine; it is to learn nothing else.
        answer: The usual format of an answer.
    """

    def __init__(self, budget: Budget, answer: str) -> None:
        self._budget = budget
        self._usual = answer
        self._around = {answer: Hysteresis(0.0)}
        self._rates = {name: Hysteresis(rate) for name, rate in _RATES.items()}
        self._lock = threading.Lock()

    def expected(self) -> dict[int, float]:
        """Return the milliseconds of a usual request by resolution, largest resolution first."""
        with self._lock:
            around = self._around[self._usual].value
        expected = self._budget.expected(decoding=True)
        return {resolution: around + milliseconds for resolution, milliseconds in expected.items()}

    def own(self, kind: Kind) -> float:
        """Return the milliseconds that a request takes besides, at every resolution."""
        with self._lock:
            return self._of_image(kind) + self._of_answer(kind)

    def observe(self, kind: Kind, resolution: int, *, decode_ms: float, other_ms: float) -> None:
        """Update with what a request has taken besides the network.

        Args:
            kind: Of the request.
            resolution: At which it was answered.
            decode_ms: Milliseconds of decoding its image.
            other_ms: Milliseconds of all else.
        """
        known = self._apart(resolution, decoding=False)
        with self._lock:
            if not kind.is_large:
                around = self._around.setdefault(kind.answer, Hysteresis(0.0))
                around.measure(max(0.0, other_ms - known))
                return
            apart = self._apart(resolution, decoding=True)
            known = apart + self._around[self._usual].value + self._of_answer(kind)
            rate = self._rates.setdefault(kind.format, Hysteresis(_OTHER_RATE))
            rate.measure(max(0.0, decode_ms + other_ms - known) / kind.excess)

    def _of_image(self, kind: Kind) -> float:
        rate = self._rates.get(kind.format)
        return (_OTHER_RATE if rate is None else rate.value) * kind.excess

    def _of_answer(self, kind: Kind) -> float:
        around = self._around.get(kind.answer)
        return 0.0 if around is None else max(0.0, around.value - self._around[self._usual].value)

    def _apart(self, resolution: int, *, decoding: bool) -> float:
        """Return what a usual prediction is expected to take besides the network."""
        expected = self._budget.expected(decoding=decoding)
        nearest = min(expected, key=lambda known: abs(known - resolution))
        return expected[nearest] - self._budget.load * self._budget.idle[nearest]
