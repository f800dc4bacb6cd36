"""How much a client may send, and for how long: checked while it is sending.

Bytes only; what they hold as an image is checked in `decoding`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from PIL import Image as Pictures


class RefusedError(Exception):
    """A request that is not answered, through no fault of the service.

    Args:
        status: HTTP status, 400 to 499.
        message: What was given, what was expected, what to do.
        headers: Further headers of the answer.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = dict(headers or {})


MEGA: Final = 10**6
CONTENT_TYPES: Final = ("image/jpeg", "image/png", "image/webp", "image/bmp")
ANY_TYPE: Final = "application/octet-stream"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much one client, and all of them, may send.

    Args:
        body_mb: Megabytes (10^6 bytes) of one image.
        megapixels: Of one image, as its header tells.
        seconds: In which the whole image has to arrive.
        held_mb: Megabytes of all images that have arrived and are not answered yet.

    Raises:
        ValueError: If one of them is not valid.
    """

    body_mb: float = 20.0
    megapixels: float = 40.0
    seconds: float = 30.0
    held_mb: float = 500.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be a positive number, got {value}")
        if self.body_mb > self.held_mb:
            raise ValueError(
                f"body_mb {self.body_mb:g} is more than all images together may take, "
                f"held_mb {self.held_mb:g}; choose less"
            )
        most = Pictures.MAX_IMAGE_PIXELS
        if most is not None and self.megapixels * MEGA > most:
            raise ValueError(
                f"megapixels must be at most {most / MEGA:g}, which Pillow opens, got "
                f"{self.megapixels:g}"
            )

    @property
    def body_bytes(self) -> int:
        """Bytes of one image."""
        return int(self.body_mb * MEGA)

    @property
    def pixels(self) -> int:
        """Pixels of one image."""
        return int(self.megapixels * MEGA)


class Store:
    """Counts the bytes of images that are not answered yet; for one thread.

    Args:
        most: How many there may be.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0

    @contextmanager
    def body(self) -> Iterator[Body]:
        """Reserve room for one body, until the end of the `with` block."""
        body = Body(self)
        try:
            yield body
        finally:
            self.held -= body.size


class Body:
    """The bytes of one request, as they arrive."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._chunks: list[bytes] = []
        self.size = 0

    def add(self, chunk: bytes) -> None:
        """Add bytes.

        Raises:
            RefusedError: If the store is full.
        """
        if self._store.held + len(chunk) > self._store.most:
            raise RefusedError(
                429,
                f"the service holds {self._store.held / MEGA:.0f} MB of other images and has no "
                "room for more; send this one again later",
                {"Retry-After": "1"},
            )
        self._store.held += len(chunk)
        self.size += len(chunk)
        self._chunks.append(chunk)

    def take(self) -> bytes:
        """Return the content, and keep its room until the body's end."""
        content = b"".join(self._chunks)
        self._chunks.clear()
        return content


def check_headers(content_type: str | None, encoding: str | None, length: str | None) -> None:
    """Check what a request says about its body.

    Args:
        content_type: Its header Content-Type, None if there is none.
        encoding: Its header Content-Encoding.
        length: Its header Content-Length.

    Raises:
        RefusedError: If no image is to be expected.
    """
    kind = (content_type or ANY_TYPE).partition(";")[0].strip().lower()
    if kind not in (*CONTENT_TYPES, ANY_TYPE):
        raise RefusedError(
            415,
            f"Content-Type {kind[:80]!r}; expected one of {', '.join(CONTENT_TYPES)} and the "
            "image's bytes as the body, no form",
            {"Accept": ", ".join(CONTENT_TYPES)},
        )
    if encoding and encoding.strip().lower() != "identity":
        raise RefusedError(
            415, f"Content-Encoding {encoding[:80]!r}; send the image's bytes as they are"
        )
    if length == "0":
        raise RefusedError(400, EMPTY)


EMPTY: Final = "the body has 0 bytes; send the image's bytes as the body"


async def receive_body(
    chunks: AsyncIterator[bytes], length: str | None, limits: Limits, body: Body
) -> bytes:
    """Receive an image.

    Args:
        chunks: What the client sends.
        length: What it says how long it is, None if it does not.
        limits: How much it may send.
        body: Takes the bytes.

    Raises:
        RefusedError: If it sends too much, too slowly, or nothing.
    """
    if length is not None and length.isdigit() and int(length) > limits.body_bytes:
        raise RefusedError(413, _too_long(f"{int(length)} bytes", limits))
    try:
        async with asyncio.timeout(limits.seconds):
            async for chunk in chunks:
                if body.size + len(chunk) > limits.body_bytes:
                    raise RefusedError(413, _too_long("a body that is longer", limits))
                body.add(chunk)
    except TimeoutError as error:
        raise RefusedError(
            408,
            f"{body.size} bytes have arrived in {limits.seconds:g} seconds and the image "
            "has not ended; send it faster, or a smaller one",
        ) from error
    if not body.size:
        raise RefusedError(400, EMPTY)
    return body.take()


def _too_long(what: str, limits: Limits) -> str:
    return (
        f"{what}; expected at most {limits.body_bytes} ({limits.body_mb:g} MB); send a smaller "
        "image"
    )
