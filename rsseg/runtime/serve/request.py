"""The options in the query of /predict."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rsseg.common.messages import close_names
from rsseg.runtime.budget.measure import drawn_image
from rsseg.runtime.predictor import Predictor
from rsseg.runtime.serve.body import RefusedError
from rsseg.training.head import Head

STEPS: Final = (16, 32)  # Encoders of segmenters halve an image up to five times.


def allowed_resolutions(predictor: Predictor) -> tuple[int, ...]:
    """Return the resolutions that may be requested, smallest first.

    Args:
        predictor: The network; it predicts once or twice to find out.
    """
    trained = predictor.resolutions
    smallest, largest = trained[-1], trained[0]
    image = drawn_image()
    for step in STEPS:
        between = [r for r in range(step, largest, step) if smallest < r and r not in trained]
        if between and _takes(predictor, image, between[0]):
            return tuple(sorted({*trained, *between}))
    return tuple(sorted(trained))


def _takes(predictor: Predictor, image: object, resolution: int) -> bool:
    try:
        predictor.predict(image, resolution)  # type: ignore[arg-type]
    except ValueError:
        return False
    return True


PARAMETERS: Final = ("resolution", "budget_ms", "format")
TOP: Final = 5


@dataclass(frozen=True)
class RequestOptions:
    """The options of a request.

    Args:
        format: Of the answer, one of the head's `formats`.
        resolution: Side of the view in pixels, None if the service may choose.
        budget_ms: Milliseconds that it gives, waiting included; None for those of the service.
        top: How many classes a classifier names.
    """

    format: str
    resolution: int | None = None
    budget_ms: float | None = None
    top: int = TOP


def parse(query: Mapping[str, str], head: Head, allowed: Sequence[int]) -> RequestOptions:
    """Read a query.

    Args:
        query: Its values by name.
        head: Of the network.
        allowed: Resolutions that may be requested.

    Raises:
        RefusedError: If something in it is not valid; says what is.
    """
    _check_names(query, PARAMETERS if head.dense else (*PARAMETERS, "top"))
    options = RequestOptions(
        format=_format(query.get("format"), head.formats),
        resolution=_resolution(query.get("resolution"), allowed),
        budget_ms=_budget(query.get("budget_ms")),
        top=_top(query.get("top")),
    )
    if options.resolution is not None and options.budget_ms is not None:
        raise RefusedError(
            400,
            f"resolution {options.resolution} and budget_ms {options.budget_ms:g} are both given; "
            "a budget chooses the resolution, give one of them",
        )
    return options


def check_repeated(names: Sequence[str]) -> None:
    """Check that no parameter is given twice: which of the two is meant?

    Raises:
        RefusedError: If one is.
    """
    seen = set[str]()
    for name in names:
        if name in seen:
            raise RefusedError(400, f"parameter {_shown(name)} is given more than once; give one")
        seen.add(name)


def _check_names(query: Mapping[str, str], known: Sequence[str]) -> None:
    for name in query:
        if name not in known:
            close = close_names(name, known, most=1)
            hint = f"did you mean '{close[0]}'?" if close else f"expected {', '.join(known)}"
            raise RefusedError(400, f"unknown parameter {_shown(name)}; {hint}")


def _format(text: str | None, allowed: Sequence[str]) -> str:
    if text is None:
        return allowed[0]
    if text not in allowed:
        raise RefusedError(400, f"format {_shown(text)}; expected {' or '.join(allowed)}")
    return text


def _resolution(text: str | None, allowed: Sequence[int]) -> int | None:
    if text is None:
        return None
    # Python reads more as a number than is meant by one, such as 1_0 and other scripts' digits.
    if not (text.isascii() and text.isdigit() and len(text) < 6) or int(text) not in allowed:
        sides = ", ".join(map(str, allowed))
        raise RefusedError(400, f"resolution {_shown(text)}; expected one of {sides}")
    return int(text)


def _budget(text: str | None) -> float | None:
    if text is None:
        return None
    # As with the resolution: Python reads more as a number than is meant by one.
    budget = float(text) if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text) else math.nan
    if not 0 < budget < math.inf:
        raise RefusedError(
            400, f"budget_ms {_shown(text)}; expected a positive number of milliseconds"
        )
    return budget


def _top(text: str | None) -> int:
    if text is None:
        return TOP
    if not (text.isascii() and text.isdigit() and len(text) < 6) or int(text) < 1:
        raise RefusedError(400, f"top {_shown(text)}; expected how many classes to name, from 1")
    return int(text)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}...")
