"""The legend of label maps: name and colour of every class that occurs, and a picture that has it.

The pixels of a picture stay as they are; its legend stands below it, or to the right of a tall one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pictures
from PIL import ImageDraw

from rsseg.images.letters import font_of, readable
from rsseg.images.preprocessing import VOID, Image, LabelMap
from rsseg.segmentation.palette import VOID_COLOUR, palette

LegendEntry = tuple[str, tuple[float, ...]]  # name, and colour with red, green, blue in 0..1
_SMALLEST: Final = 14  # pixels: smaller letters are hard to read
_SHARE: Final = 56  # A viewer shrinks a large picture to the screen: letters grow with it.
_LONGEST: Final = 32  # letters of a name
_NARROWEST: Final = 32  # height of a letter times this is the least width of a legend below
_FEWEST: Final = 12  # lines of a legend beside a picture, if it has as many
_TALL: Final = 1.4  # height over width of a picture with the legend beside it


class _Grid(NamedTuple):
    """Size of the letters, and columns and lines of the legend; all but counts are in pixels."""

    letters: int
    columns: int
    lines: int
    column: int
    line: int


def legend_entries(
    label_maps: Sequence[LabelMap],
    classes: Sequence[str],
    colours: NDArray[np.uint8] | None = None,
) -> list[LegendEntry]:
    """Return name and colour of every class that occurs, and of void if it does.

    Args:
        label_maps: Class of each pixel, 255 for void, shape (H, W); their sizes may differ.
        classes: Name of each class; one whose letters no font has is called "class 7".
        colours: Colour of each class, RGB, shape (K, 3); None takes the palette.

    Returns:
        The entries in the order of the classes.
    """
    occurring = {int(label) for labels in label_maps for label in np.unique(labels)}
    shares = (palette(len(classes)) if colours is None else colours) / 255
    entries = [
        (readable(classes[i], f"class {i}"), tuple(shares[i]))
        for i in range(len(classes))
        if i in occurring
    ]
    if VOID in occurring:
        entries.append(("void", tuple(value / 255 for value in VOID_COLOUR)))
    return entries


def with_legend(image: Image, entries: Sequence[LegendEntry]) -> Image:
    """Return a picture with a legend on white below it, or to the right if the picture is tall.

    Args:
        image: RGB, uint8, shape (H, W, 3); it becomes the upper left corner of the result.
        entries: Names and colours; without any the picture is returned.

    Returns:
        RGB, uint8, larger than `image`.
    """
    if not entries:
        return image
    height, width = image.shape[:2]
    beside = height > _TALL * width
    grid = _grid([name for name, _ in entries], width, height, beside=beside)
    across, tall = grid.columns * grid.column, grid.lines * grid.line + grid.letters // 2
    size = (width + across, max(height, tall)) if beside else (max(width, across), height + tall)
    sheet = Pictures.new("RGB", size, "white")
    sheet.paste(Pictures.fromarray(image))
    corner = (width, 0) if beside else (0, height)
    for place, entry in enumerate(entries):
        # Down each column of a legend that is tall, along each line of one that is wide.
        line = place % grid.lines if beside else place // grid.columns
        column = place // grid.lines if beside else place % grid.columns
        left, top = corner[0] + column * grid.column, corner[1] + line * grid.line
        _draw_entry(sheet, (left + grid.letters // 2, top + grid.letters // 2), entry, grid.letters)
    return np.array(sheet, dtype=np.uint8)


def _grid(names: Sequence[str], width: int, height: int, *, beside: bool) -> _Grid:
    letters = max(_SMALLEST, round(max(width, height) / _SHARE))
    longest = max(font_of(name, letters).getlength(name) for name in map(_short, names))
    column, line = round(longest + 2.8 * letters), round(1.5 * letters)
    if beside:
        lines = min(len(names), max(_FEWEST, (height - letters // 2) // line))
        return _Grid(letters, -(-len(names) // lines), lines, column, line)
    columns = min(len(names), max(1, max(width, _NARROWEST * letters) // column))
    lines = -(-len(names) // columns)
    return _Grid(letters, -(-len(names) // lines), lines, column, line)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def _draw_entry(
    sheet: Pictures.Image, corner: tuple[int, int], entry: LegendEntry, letters: int
) -> None:
    """Draw a patch and a name; `corner` is their left and upper edge."""
    name, colour = _short(entry[0]), tuple(round(255 * part) for part in entry[1])
    left, top = corner
    pen = ImageDraw.Draw(sheet)
    pen.rectangle((left, top, left + letters, top + letters), fill=colour)
    place = (left + 1.5 * letters, top + letters / 2)
    pen.text(place, name, fill="black", font=font_of(name, letters), anchor="lm")
