"""Image files: any image that Pillow reads becomes 8-bit RGB, upright, at its own size.

One function reads for training and for prediction, so that a file looks the same to both, and an
image in memory takes the same way. Which files are read is decided elsewhere. Programs (EPS) are
refused: Pillow would run them.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final, Literal

import numpy as np
from PIL import Image as Pictures
from PIL import UnidentifiedImageError

from rsseg.images.preprocessing import Image

try:
    import simplejpeg
except ImportError:  # It only makes reading faster.
    simplejpeg = None

# What folders are searched for. A file that is named itself may have any suffix.
IMAGE_SUFFIXES: Final = (
    *(".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".pbm"),
    *(".pgm", ".png", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
)
ORIENTATION: Final = 0x0112  # EXIF tag; 1 is upright, 5 to 8 lie on their side.
_TURNS: Final = {  # what makes a picture of each orientation upright
    2: Pictures.Transpose.FLIP_LEFT_RIGHT,
    3: Pictures.Transpose.ROTATE_180,
    4: Pictures.Transpose.FLIP_TOP_BOTTOM,
    5: Pictures.Transpose.TRANSPOSE,
    6: Pictures.Transpose.ROTATE_270,
    7: Pictures.Transpose.TRANSVERSE,
    8: Pictures.Transpose.ROTATE_90,
}
_WIDTH, _HEIGHT = 0x0100, 0x0101  # TIFF tags
Decoder = Literal["fast", "pillow"]
_NAME: Final = Path("the image")  # Of one in memory, in messages.

_JPEG: Final = b"\xff\xd8\xff"
_NOTES: Final = (b"Exif\0\0", b"tiff:Orientation")  # Of the kinds that can note an orientation.
_LARGEST: Final = 2**30  # bytes: twelve for each pixel that Pillow opens
_PROGRAMS: Final = ("EPS",)  # PostScript, for which Pillow starts an interpreter
_BOMB: Final = (Pictures.DecompressionBombError, Pictures.DecompressionBombWarning)


def read_image(path: Path, *, decoder: Decoder = "fast", upright: bool = True) -> Image:
    """Read an image of any format and mode that Pillow knows as 8-bit RGB.

    The orientation that a camera noted is applied, transparent parts become white, 16-bit grey
    values are scaled, and of an animation the first frame is read.

    Args:
        path: The file.
        decoder: "fast" decodes most JPEG by simplejpeg, if it is installed, to the same values;
            "pillow" decodes everything by Pillow.
        upright: Apply the orientation; else the pixels are left as they lie in the file.

    Returns:
        RGB, uint8, shape (H, W, 3).

    Raises:
        ValueError: If the file is not an image, is damaged or too large, or if the range of its
            values is unknown.
        OSError: If the file cannot be opened.
    """
    image = _decode_fast(path) if decoder == "fast" and upright else None
    if image is not None:
        return image
    return read_opened(open_picture(path, "image"), path, upright=upright)


def read_opened(
    opened: AbstractContextManager[Pictures.Image],
    name: str | Path,
    *,
    upright: bool = True,
    least: tuple[int, int] | None = None,
) -> Image:
    """Do the same as `read_image` with a picture that is being opened.

    Args:
        opened: Gives the picture; see `open_picture`.
        name: Name of its file, for messages.
        upright: As for `read_image`.
        least: Width and height, as they lie in the file, that a JPEG must have at least: it is
            decoded at the smallest of 1, 1/2, 1/4 and 1/8 of its size, rounded up, that has them.
    """
    with opened as picture:
        if least is not None:
            picture.draft(None, least)  # Of other formats than JPEG it does nothing.
        turned = _turned_upright(picture) if upright else picture.copy()
        if not turned.mode.startswith(("I", "F")):
            return _to_rgb(turned)
    return _to_rgb(_scaled(turned, name))


def read_bytes(path: Path) -> bytes:
    """Read the bytes of an image file.

    Raises:
        ValueError: If there are too many for an image.
        OSError: If it cannot be opened.
    """
    with path.open("rb") as stream:
        _check_bytes(stream, path, "image")
        return stream.read()


def _decode_fast(path: Path) -> Image | None:
    """Decode an ordinary JPEG, or return None: then Pillow reads it or names the fault."""
    content = _jpeg_content(path) if simplejpeg is not None else b""
    # To let Pillow look for the orientation takes longer than to see that none is noted.
    if not content or (any(mark in content for mark in _NOTES) and read_orientation(path) != 1):
        return None
    return decode_jpeg(content)


def decode_jpeg(content: bytes, reduction: int = 1) -> Image | None:
    """Decode an ordinary JPEG by simplejpeg, as its pixels lie; None if that cannot be done.

    Args:
        content: The bytes of its file.
        reduction: 1, 2, 4 or 8: the sides are divided by it, and rounded up.
    """
    if simplejpeg is None or not content.startswith(_JPEG) or len(content) > _LARGEST:
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
        if _is_too_large(height * width) or colours not in ("YCbCr", "RGB", "Gray"):
            return None
        least = {"min_height": -(-height // reduction), "min_width": -(-width // reduction)}
        image: Image = simplejpeg.decode_jpeg(content, colorspace="RGB", **least)
    except ValueError:
        return None
    return image


def _jpeg_content(path: Path) -> bytes:
    """Read a file that begins as a JPEG does; return b"" for another or for one above _LARGEST."""
    with path.open("rb") as stream:
        start = stream.read(len(_JPEG))
        return start + stream.read() if start == _JPEG and _size(stream) <= _LARGEST else b""


def _size(stream: BinaryIO) -> int:
    return os.fstat(stream.fileno()).st_size


def read_orientation(path: Path) -> int:
    """Read the orientation that a camera noted in a file, 1..8; see `noted_orientation`.

    Raises:
        ValueError: If the file is not an image, or is too large.
        OSError: If it cannot be opened.
    """
    with open_picture(path, "image") as picture:
        return noted_orientation(picture)


def noted_orientation(picture: Pictures.Image) -> int:
    """Return the orientation that a camera noted, 1..8; 1 (upright) where the note means none.

    The note is any EXIF block: it may hold a text, a fraction 0/0 or a number out of range, or not
    be readable at all; none of these turns the pixels. Of a list the first entry counts, as it
    does for Pillow.
    """
    try:
        noted = picture.getexif().get(ORIENTATION, 1)
        return next((known for known in _TURNS if known == noted), 1)
    except Exception:  # Broken blocks make Pillow raise errors of any kind.
        return 1


def _turned_upright(picture: Pictures.Image) -> Pictures.Image:
    """Turn the pixels as noted."""
    # Not by ImageOps.exif_transpose: it writes the EXIF block anew, which broken tags forbid.
    picture.load()  # A PNG may note its orientation behind the pixels.
    turn = _TURNS.get(noted_orientation(picture))
    return picture if turn is None else picture.transpose(turn)


def _is_too_large(pixels: int) -> bool:
    return Pictures.MAX_IMAGE_PIXELS is not None and pixels > Pictures.MAX_IMAGE_PIXELS


def image_size(path: Path) -> tuple[int, int]:
    """Read height and width of an upright image from the beginning of its file.

    Raises:
        ValueError: If the file is not an image or is too large.
        OSError: If the file cannot be opened.
    """
    with open_picture(path, "image") as picture:
        width, height = picture.size
        turned = noted_orientation(picture) in (5, 6, 7, 8)
        if picture.format == "TIFF":  # Newer versions of Pillow return its size upright already.
            exif = picture.getexif()
            width, height = exif.get(_WIDTH, width), exif.get(_HEIGHT, height)
        return (width, height) if turned else (height, width)


@contextmanager
def open_picture(path: Path, kind: str) -> Iterator[Pictures.Image]:
    """Open a picture; whatever is wrong with its content becomes one kind of error.

    Args:
        path: The file.
        kind: What it should be, for messages, such as "image".

    Raises:
        ValueError: If the file is not a picture, is damaged or too large, here or in the `with`
            block; names the file.
        OSError: If the file cannot be opened.
    """
    with path.open("rb") as stream:  # errors of the file system speak for themselves
        _check_bytes(stream, path, kind)
        with open_stream(stream, path, kind) as picture:
            yield picture


def _check_bytes(stream: BinaryIO, path: Path, kind: str) -> None:
    if _size(stream) > _LARGEST:
        raise ValueError(f"{path}: {kind} of more than {_LARGEST} bytes; make it smaller first")


@contextmanager
def open_stream(stream: BinaryIO, name: str | Path, kind: str) -> Iterator[Pictures.Image]:
    """Do the same as `open_picture` with an open file.

    Args:
        stream: The file.
        name: Its name, for messages.
        kind: What it should be, for messages, such as "image".

    Raises:
        ValueError: If it is not a picture, is damaged or too large, here or in the `with` block.
    """
    try:
        with warnings.catch_warnings():
            # Of odd notes and profiles Pillow warns; the pixels are the same.
            warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
            warnings.simplefilter("error", Pictures.DecompressionBombWarning)
            with Pictures.open(stream) as picture:
                if picture.format in _PROGRAMS:
                    raise ValueError(f"{picture.format} is a program, which is not run")
                yield picture
    except _BOMB as error:
        limit = Pictures.MAX_IMAGE_PIXELS
        raise ValueError(
            f"{name}: {kind} of more than {limit} pixels; make it smaller first"
        ) from error
    except UnidentifiedImageError as error:
        raise ValueError(
            f"{name}: unreadable {kind} (no format that Pillow knows); replace it"
        ) from error
    except Exception as error:  # Broken files make Pillow raise errors of any kind.
        reason = str(error) or type(error).__name__
        raise ValueError(f"{name}: unreadable {kind} ({reason}); replace it") from error


def _to_rgb(picture: Pictures.Image) -> Image:
    if picture.has_transparency_data:
        over = picture.convert("RGBA")
        picture = Pictures.alpha_composite(Pictures.new("RGBA", over.size, "white"), over)
    return np.array(picture.convert("RGB"), dtype=np.uint8)


def _scaled(picture: Pictures.Image, name: str | Path) -> Pictures.Image:
    """Scale grey values of 16 bits to 8."""
    values = np.asarray(picture)
    if picture.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise ValueError(
            f"{name} holds values from {values.min():g} to {values.max():g} of mode "
            f"{picture.mode}, whose black and white are unknown; save it with 8 or 16 bits"
        )
    return Pictures.fromarray((values.astype(np.uint32) // 257).astype(np.uint8))


def decode_image(content: bytes, name: str, *, decoder: Decoder = "fast") -> Image:
    """Do the same as `read_image` with the bytes of a file; `name` is its name, for messages.

    Raises:
        ValueError: As `read_image` does.
    """
    if decoder == "fast" and content.startswith(_JPEG):
        upright = not any(mark in content for mark in _NOTES)
        image = decode_jpeg(content) if upright else None
        if image is not None:
            return image
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
            warnings.simplefilter("error", Pictures.DecompressionBombWarning)
            with Pictures.open(BytesIO(content)) as picture:
                return as_rgb(picture)
    except UnidentifiedImageError as error:
        reason = "unreadable image (no format that Pillow knows)"
        raise ValueError(f"{name}: {reason}; replace it") from error
    except Exception as error:  # Broken files make Pillow raise errors of any kind.
        raise ValueError(f"{name}: {str(error) or type(error).__name__}") from error


def as_rgb(image: object) -> Image:
    """Turn an image into 8-bit RGB, upright, at its own size.

    Args:
        image: A picture of Pillow in any mode that `rsseg predict` reads, or an array, RGB, uint8,
            shape (H, W, 3), which is returned as it is.

    Raises:
        TypeError: If it is neither.
        ValueError: If the array is of another kind, or the picture cannot be read.
    """
    if isinstance(image, np.ndarray):
        return _checked(image)
    if not isinstance(image, Pictures.Image):
        raise TypeError(
            f"expected a picture of Pillow or an RGB array, uint8, shape (H, W, 3), got "
            f"{type(image).__name__}; open files with PIL.Image.open"
        )
    if image.format in _PROGRAMS:
        raise ValueError(f"{image.format} is a program, which is not run; convert it first")
    if _is_too_large(image.width * image.height) or not image.width * image.height:
        raise ValueError(
            f"an image of {image.width}x{image.height} pixels; expected 1 to "
            f"{Pictures.MAX_IMAGE_PIXELS} pixels"
        )
    return _read(image)


def _checked(image: np.ndarray) -> Image:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(
            f"expected an RGB array, uint8, shape (H, W, 3), got {image.dtype}, shape "
            f"{image.shape}; give other kinds as a picture of Pillow"
        )
    return image


def _read(image: Pictures.Image) -> Image:
    try:
        upright = _turned_upright(image)
        if upright.mode.startswith(("I", "F")):
            upright = _scaled(upright, _NAME)
        return _to_rgb(upright)
    except Exception as error:  # Broken pictures are read late, and raise errors of any kind.
        reason = str(error) or type(error).__name__
        raise ValueError(f"unreadable image ({reason}); replace it") from error
