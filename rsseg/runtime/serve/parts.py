r"""How many parts an image file may have: what they cost is not told by its size in pixels.

Each scan of a JPEG is a pass over all its pixels, and may be written in 60 bytes: 160 kB with 357
scans of 35 megapixels take a core for 7 seconds, and 20 MB for two hours. Segments, chunks and runs
are read one by one in Python. No image needs as many as a file has room for.

Sources: https://www.w3.org/Graphics/JPEG/itu-t81.pdf (annex B), https://www.w3.org/TR/png/ and
https://libjpeg-turbo.org/pmwiki/uploads/About/TwoIssueswiththeJPEGStandard.pdf (1.).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from rsseg.runtime.serve.body import MEGA, RefusedError

SCANS: Final = 30  # encoders write about ten
_SCAN, _END = 0xDA, 0xD9
_MARKER: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # not one inside coded data
# The latter ones are for extensions that no decoder knows: Pillow looks for markers in these.
_WITHOUT_LENGTH: Final = (0x01, 0xD8, _END, 0xC8, *range(0xF0, 0xFE))
_RUNS: Final = (1, 2)  # compressions of a BMP, which headers of OS/2 do not name
_OS2: Final = 12  # bytes of such a header
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
    parts, scans = 0, 0
    for kind, between in _markers(content):
        if kind == _END and scans:  # Before the first scan Pillow goes on after it.
            return
        # Bytes between the segments of the header are read one by one.
        parts += 1 if scans else 1 + between
        scans += kind == _SCAN
        if scans > SCANS:
            raise RefusedError(
                400,
                f"a JPEG of more than {SCANS} scans, which others have ten of; save it again",
            )
        _check_count(parts, content, "JPEG", "segments")


def _markers(content: bytes) -> Iterator[tuple[int, int]]:
    """Yield the kind of each marker and the bytes before it that are in no segment.

    The end of the file is one, too.
    """
    at = 2
    while at < len(content):
        match = _MARKER.search(content, at)
        start = len(content) if match is None else match.start()
        kind = _END if match is None else content[start + 1]
        yield kind, start - at
        at = start + 2 + _length(content, start + 2, kind)


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
    header, compression = (int.from_bytes(content[at : at + 4], "little") for at in (14, 30))
    return header != _OS2 and compression in _RUNS
