"""From the bytes that a client has sent to an image, as `rsseg predict` reads it, or a refusal.

The header is checked before anything is decoded: an image that would take much memory is refused
by its header. Stricter than `images`, which reads files of its own user: few formats, no animation,
and no CMYK, whose colours are unknown without the profile of a printer.
"""

from __future__ import annotations

from io import BytesIO
from typing import Final

from PIL import Image as Pictures
from PIL import UnidentifiedImageError

from rsseg.common.messages import counted
from rsseg.images.preprocessing import Image
from rsseg.images.reading import as_rgb
from rsseg.runtime.serve.body import EMPTY, MEGA, Limits, RefusedError

FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP")
LONGEST: Final = 20  # the longer side over the shorter one
_BOMB: Final = (Pictures.DecompressionBombError, Pictures.DecompressionBombWarning)


def decode(content: bytes, limits: Limits) -> Image:
    """Decode an image.

    Args:
        content: JPEG, PNG, WebP or BMP.
        limits: How many pixels it may have.

    Returns:
        RGB, uint8, shape (H, W, 3), upright.

    Raises:
        RefusedError: If it is none of these, damaged, too large, animated or CMYK.
    """
    if not content:
        raise RefusedError(400, EMPTY)
    try:
        with Pictures.open(BytesIO(content), formats=FORMATS) as picture:
            _check(picture, limits)
            return as_rgb(picture)
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
    message = str(error) or type(error).__name__
    if message.startswith("unreadable image"):
        return message
    return f"unreadable image ({message}); send a whole one"


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
