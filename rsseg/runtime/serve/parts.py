r"""How many parts an image file may have: what they cost is not told by its size in pixels.

Each scan of a JPEG is a pass over all its pixels, and may be written in 60 bytes: 160 kB with 357
scans of 35 megapixels take a core for 7 seconds, and 20 MB for two hours. Segments, chunks and runs
are read one by one in Python. No image needs as many as a file has room for.

Sources: https://www.w3.org/Graphics/JPEG/itu-t81.pdf (annex B), https://www.w3.org/TR/png/ and
https://libjpeg-turbo.org/pmwiki/uploads/About/TwoIssueswiththeJPEGStandard.pdf (1.).
"""

from __future__ import annotations

import re
from typing import Final

from rsseg.runtime.serve.body import MEGA, RefusedError

SCANS: Final = 30  # encoders write about ten
_SCAN, _END = 0xDA, 0xD9
_MARKER: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # not one inside coded data
_WITHOUT_LENGTH: Final = (0x01, 0xD8)
_RUNS: Final = (1, 2)  # compressions of a BMP
_MOST_RUNS: Final = MEGA  # bytes of them


def check_parts(content: bytes) -> None:
    """Refuse an image file in more parts than an image needs; other files are left to others.

    Raises:
        RefusedError: If it has.
    """
    if content.startswith(b"\xff\xd8"):
        _check_jpeg(content)
    elif content.startswith(b"\x89PNG"):
        _check_png(content)
    elif content.startswith(b"BM") and _is_in_runs(content) and len(content) > _MOST_RUNS:
        raise RefusedError(
            400,
            f"a BMP in runs (RLE) of {len(content)} bytes; expected at most {_MOST_RUNS}; save it "
            "as a PNG",
        )


def _most(content: bytes) -> int:
    """Return how many parts a file may have."""
    return 1000 + len(content) // 500


def _check_jpeg(content: bytes) -> None:
    """Go from marker to marker, as decoders do, as far as the end of the image."""
    at, parts, scans = 2, 0, 0
    while (match := _MARKER.search(content, at)) is not None:
        kind = content[match.start() + 1]
        if kind == _END:
            return
        scans += kind == _SCAN
        parts += 1
        if not scans:  # Bytes between the segments of the header are read one by one.
            parts += match.start() - at
        if scans > SCANS:
            raise RefusedError(
                400,
                f"a JPEG of more than {SCANS} scans, which others have ten of; save it again",
            )
        _check_count(parts, content, "JPEG", "segments")
        at = match.end() + _length(content, match.end(), kind)


def _length(content: bytes, at: int, kind: int) -> int:
    return 0 if kind in _WITHOUT_LENGTH else int.from_bytes(content[at : at + 2], "big")


def _check_png(content: bytes) -> None:
    at, parts = 8, 0
    while at < len(content) and content[at + 4 : at + 8] != b"IEND":
        parts += 1
        _check_count(parts, content, "PNG", "chunks")
        at += 12 + int.from_bytes(content[at : at + 4], "big")


def _check_count(parts: int, content: bytes, form: str, what: str) -> None:
    if parts > _most(content):
        raise RefusedError(
            400,
            f"a {form} in more than {_most(content)} {what}, which is too many for "
            f"{len(content)} bytes; save it again",
        )


def _is_in_runs(content: bytes) -> bool:
    return int.from_bytes(content[30:34], "little") in _RUNS
