"""Refusals that reach clients which are still sending.

A connection that is closed with bytes unread is reset, and the client may never see why. So what it
still sends is read and dropped, for a while.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

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
    """Note that the body of a request has arrived: there is nothing to wait for."""
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
