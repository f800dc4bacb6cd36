"""What a comparison figure is drawn with: framed pictures, texts and a legend, placed in inches.

Lengths are inches from the top left corner of the figure, so that panels line up whatever their
titles are; only sizes of letters are in points. What goes where is decided in `figure`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeVar

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image as Pictures

from rsseg.images.letters import font_path
from rsseg.images.preprocessing import Image
from rsseg.segmentation.legend import LegendEntry

LARGE: Final = 8.0
SMALL: Final = 7.0
_LETTER: Final = 0.63 / 72  # width of a letter for each point of its size
_PATCH, _LINE, _AFTER = 0.12, 0.19, 0.22  # of the legend: patch, line, space around the name
_FRAME: Final = "0.75"  # Grey: pictures with white borders would seem to be out of line.
Picture = TypeVar("Picture", bound=NDArray[np.uint8])


def shrink(picture: Picture, side: int) -> Picture:
    """Return an image or a label map whose longer side has at most `side` pixels."""
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return picture
    size = max(1, round(width * scale)), max(1, round(height * scale))
    # A mean of classes means nothing: label maps take the nearest pixel.
    method = Pictures.Resampling.BOX if picture.ndim == 3 else Pictures.Resampling.NEAREST
    return np.asarray(Pictures.fromarray(picture).resize(size, method))  # type: ignore[return-value]


def draw_picture(figure: Figure, picture: Image, corner: tuple[float, float], size: float) -> None:
    """Draw a picture in a frame of the given height, as wide as its shape says.

    Args:
        figure: The figure to draw in.
        picture: RGB, uint8, shape (H, W, 3).
        corner: Left and upper edge.
        size: Height.
    """
    left, top = corner
    width, height = figure.get_size_inches()
    wide = size * picture.shape[1] / picture.shape[0]
    axes = figure.add_axes((left / width, 1 - (top + size) / height, wide / width, size / height))
    # Fills the frame to the last pixel: rounding to whole pixels must not leave white lines.
    axes.imshow(picture, aspect="auto")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(linewidth=0.4, color=_FRAME)


def write(
    figure: Figure, place: tuple[float, float], text: str, *, size: float, **style: Any
) -> None:
    """Write a text; `place` is its left edge and base line unless `style` says otherwise."""
    x, y = _fraction(figure, *place)
    # A dollar sign in a name is a dollar sign, not the beginning of a formula.
    figure.text(x, y, text, fontsize=size, parse_math=False, **_script(text), **style)


def _script(text: str) -> dict[str, Any]:
    """Return the font of a text whose letters the usual one lacks, as matplotlib takes it."""
    path = font_path(text)
    return {} if path is None or path == font_path("") else {"font": path}


def shorten(text: str, room: float, size: float) -> str:
    """Return a text, cut off if it would be wider than `room` at this size of letters."""
    letters = max(4, int(room / (size * _LETTER)))
    return text if len(text) <= letters else f"{text[: letters - 1]}…"


def width_of(text: str, size: float) -> float:
    """Estimate the width of a text, rather too wide than too narrow."""
    return len(text) * size * _LETTER


def legend_shape(entries: Sequence[LegendEntry], width: float) -> tuple[int, int]:
    """Return columns and lines of a legend that is `width` wide."""
    longest = max((width_of(name, SMALL) for name, _ in entries), default=0)
    fitting = max(1, int(width / (_PATCH + longest + _AFTER)))
    lines = -(-len(entries) // fitting)
    # As many columns as the lines need: the last line is then as full as the others.
    return -(-len(entries) // max(1, lines)), lines


def legend_height(entries: Sequence[LegendEntry], width: float) -> float:
    """Return the height of a legend that is `width` wide."""
    return legend_shape(entries, width)[1] * _LINE


def draw_legend(
    figure: Figure, entries: Sequence[LegendEntry], corner: tuple[float, float], width: float
) -> None:
    """Draw a patch and a name for each entry, line by line; `corner` is left and upper edge."""
    columns, _ = legend_shape(entries, width)
    across, tall = figure.get_size_inches()
    for place, (name, colour) in enumerate(entries):
        line, column = divmod(place, columns)
        left, bottom = corner[0] + column * width / columns, corner[1] + line * _LINE + _PATCH
        figure.add_artist(
            Rectangle(
                _fraction(figure, left, bottom),
                _PATCH / across,
                _PATCH / tall,
                facecolor=colour,
                transform=figure.transFigure,
            )
        )
        write(figure, (left + _PATCH + 0.06, bottom - 0.02), name, size=SMALL)


def _fraction(figure: Figure, left: float, top: float) -> tuple[float, float]:
    """Return a place as matplotlib's fractions of the figure from its lower left corner."""
    width, height = figure.get_size_inches()
    return left / width, 1 - top / height
