"""From the bytes that a client has sent to a photo, as `rsseg predict` reads it, or a refusal.

The header is checked before anything is decoded: an image that would take much memory is refused
by its header. Stricter than `images`, which reads files of its own user: few formats, no animation,
and no CMYK, whose colours are unknown without the profile of a printer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from typing import Final

from PIL import Image as Pictures
from PIL import UnidentifiedImageError

from rsseg.common.messages import counted
from rsseg.images.photo import Photo
from rsseg.runtime.serve.body import EMPTY, MEGA, Limits, RefusedError
from rsseg.runtime.serve.parts import check_parts

FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP")
LONGEST: Final = 20  # the longer side over the shorter one
_BOMB: Final = (Pictures.DecompressionBombError, Pictures.DecompressionBombWarning)


def open_photo(content: bytes, limits: Limits) -> Photo:
    """Open an image; what its header tells is checked, its pixels are decoded later.

    Args:
        content: JPEG, PNG, WebP or BMP.
        limits: How many pixels it may have.

    Returns:
        A photo, whose decoding raises a RefusedError too.

    Raises:
        RefusedError: If it is none of these, damaged, too large, in too many parts, animated or
            CMYK.
    """
    if not content:
        raise RefusedError(400, EMPTY)
    check_parts(content)
    return Photo(content, opened=partial(_opened, limits=limits))


@contextmanager
def _opened(content: bytes, limits: Limits) -> Iterator[Pictures.Image]:
    """Open an image, and refuse it if anything is wrong with it, here or in the `with` block."""
    try:
        with Pictures.open(BytesIO(content), formats=FORMATS) as picture:
            _check(picture, limits)
            yield picture
    except RefusedError:
        raise
    except _BOMB as error:
        raise RefusedError(413, _too_many("more than Pillow opens", limits)) from error
    except UnidentifiedImageError as error:
        raise RefusedError(
            400, f"{len(content)} bytes that are not a JPEG, PNG, WebP or BMP; send one of these"
        ) from error
    except Exception as error:  # Broken files make Pillow raise errors of any kind.
        raise RefusedError(400, _error_message(error)) from error


def _error_message(error: Exception) -> str:
    return f"unreadable image ({str(error) or type(error).__name__}); send a whole one"


def _check(picture: Pictures.Image, limits: Limits) -> None:
    """Check what the header says."""
    width, height = picture.size
    _check_size(width, height, limits)
    # Cameras put previews into one JPEG (MPO): the first image is the photograph.
    if picture.format in ("PNG", "WEBP") and getattr(picture, "n_frames", 1) > 1:
        raise RefusedError(
            400,
            f"an animation of {counted(getattr(picture, 'n_frames', 1), 'frame')}; expected "
            "one image; send "
            "one of its frames",
        )
    if picture.mode == "CMYK":
        raise RefusedError(400, "a CMYK image; expected RGB or grey values; convert it first")


def _check_size(width: int, height: int, limits: Limits) -> None:
    if width * height > limits.pixels:
        raise RefusedError(413, _too_many(f"{width}x{height} pixels", limits))
    if max(width, height) > LONGEST * min(width, height):
        raise RefusedError(
            400,
            f"an image of {width}x{height} pixels; expected a longer side of at most {LONGEST} "
            "times the shorter one; cut it first",
        )


def _too_many(what: str, limits: Limits) -> str:
    return (
        f"an image of {what}; expected at most {limits.pixels / MEGA:g} million pixels; make it "
        "smaller first"
    )
