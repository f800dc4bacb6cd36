"""From a prediction to the bytes of an answer, and its headers.

Label maps are PNGs with a palette: their values are the classes, their colours those of
`rsseg predict`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from PIL import Image as Pictures
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from rsseg.images.preprocessing import Image, LabelMap
from rsseg.runtime.prediction import Prediction
from rsseg.runtime.serve.admission import Reason
from rsseg.runtime.stages import Stages
from rsseg.segmentation.palette import Classes, overlay, png_bytes

SECONDS: Final = 5.0
BYTES: Final = 200 * 10**6
_WHOLE: Final = "rsseg.whole"  # key of the scope of a request whose body has arrived


class Draining(JSONResponse):
    """The answer {"error": message} to a request whose body may not have arrived.

    Args:
        message: What is wrong.
        status: HTTP status.
        headers: Further headers.
    """

    def __init__(self, message: str, status: int, headers: Mapping[str, str] | None = None) -> None:
        super().__init__({"error": message}, status, headers=dict(headers or {}))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer, then read what remains of the request."""
        if scope.get(_WHOLE):
            await super().__call__(scope, receive, send)
            return
        self.headers["connection"] = "close"
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        await _drain(receive)
        await send({"type": "http.response.body", "body": b""})


def body_is_whole(request: Request) -> None:
    """Mark a request whose body has arrived: there is nothing to wait for."""
    request.scope[_WHOLE] = True


async def _drain(receive: Receive) -> None:
    dropped = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SECONDS):
            while dropped < BYTES:
                message = await receive()
                dropped += len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return


@dataclass(frozen=True)
class AnswerInfo:
    """How an answer was computed, whatever its format.

    Args:
        model: Name of the network.
        resolution: Side of the view in pixels.
        chosen_by: Why it has this resolution.
        stages: Milliseconds by stage; `milliseconds` are those of the prediction.
        wait_ms: Of waiting in the queue.
        total_ms: From the whole image to the answer.
        budget_ms: What these were to keep.
    """

    model: str
    resolution: int
    chosen_by: Reason
    stages: Stages
    wait_ms: float
    total_ms: float
    budget_ms: float

    def headers(self) -> dict[str, str]:
        """Return the headers of the answer."""
        return {
            "X-Resolution": str(self.resolution),
            "X-Chosen-By": self.chosen_by,
            "X-Milliseconds": f"{self.stages.prediction:.2f}",
            "X-Wait-Milliseconds": f"{self.wait_ms:.2f}",
            "X-Total-Milliseconds": f"{self.total_ms:.2f}",
            "X-Budget-Milliseconds": f"{self.budget_ms:g}",
            "Server-Timing": ", ".join(
                f"{name};dur={value:g}" for name, value in self.stages.rounded(2).items()
            ),
            "Cache-Control": "no-store",
        }

    def values(self) -> dict[str, Any]:
        """Return values for JSON."""
        return {
            "model": self.model,
            "resolution": self.resolution,
            "chosen_by": self.chosen_by,
            "milliseconds": round(self.stages.prediction, 2),
            "stages": self.stages.rounded(2),
            "wait_ms": round(self.wait_ms, 2),
            "total_ms": round(self.total_ms, 2),
            "budget_ms": self.budget_ms,
        }


def overlay_png(image: Image, labels: LabelMap, classes: Classes) -> bytes:
    """Write the colours of a label map over its image, shapes (H, W, 3) and (H, W), as a PNG."""
    return png_bytes(Pictures.fromarray(overlay(image, labels, classes)))


def top_classes(prediction: Prediction, count: int) -> list[dict[str, Any]]:
    """Return the most probable classes of a classifier."""
    return [
        {"class": name, "probability": round(probability, 6)}
        for name, probability in prediction.top(count)
    ]


def class_shares(labels: LabelMap, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return the classes of a label map by their share of the pixels, the largest first."""
    counts = np.bincount(labels.ravel(), minlength=len(classes))
    order = np.argsort(-counts, kind="stable")
    return [
        {
            "class": classes[index],
            "label": int(index),
            "share": round(counts[index] / labels.size, 6),
        }
        for index in order
        if counts[index]
    ]
