"""Letters in pictures: the font that has those of a text, whatever its script."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font
from PIL import ImageFont

_PLACEHOLDERS: Final = "lastresort"  # A font whose every letter is a box with a number.


def font_path(text: str) -> Path | None:
    """Return the file of a font that has every letter of a text, or None if none is installed.

    The font that matplotlib brings comes first: it has Latin, Greek, Cyrillic and more.
    """
    needed = {ord(letter) for letter in text if not letter.isspace()}
    own = _own_font()
    if needed <= _letters(own):
        return own
    return next((path for path in _installed() if needed <= _letters(path)), None)


def readable(text: str, otherwise: str) -> str:
    """Return a text on one line, or another one where no installed font has its letters."""
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    line = " ".join(line.split())
    return line if line and font_path(line) else otherwise


def font_of(text: str, size: int) -> ImageFont.FreeTypeFont:
    """Return a font of Pillow for a text, `size` pixels tall."""
    return _font(font_path(text) or _own_font(), size)


@cache
def _font(path: Path, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(path), size)


@cache
def _own_font() -> Path:
    return Path(mpl.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"


@cache
def _installed() -> tuple[Path, ...]:
    paths = sorted({entry.fname for entry in font_manager.fontManager.ttflist})
    return tuple(Path(path) for path in paths if _PLACEHOLDERS not in Path(path).name.lower())


@cache
def _letters(path: Path) -> frozenset[int]:
    try:
        return frozenset(FT2Font(str(path)).get_charmap())
    except (RuntimeError, OSError):  # A font that cannot be read has no letters.
        return frozenset()
