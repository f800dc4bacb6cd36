"""A contact sheet: images beside their labels in colour, with the names of the classes.

For the eye: whether images and labels belong together, lie the same way round and are named
rightly shows at a glance here and in no table.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pictures
from PIL import ImageDraw, ImageFont

from datasets.samples import Sample
from rsseg.common.files import written_whole
from rsseg.images.preprocessing import VOID, Image, LabelMap
from rsseg.segmentation.label_files import Colour
from rsseg.segmentation.palette import VOID_COLOUR, class_colours, overlay

_BOX: Final = (400, 300)  # width and height of a picture
_PAIRS: Final = 2  # samples in a row
_CAPTION: Final = 22  # height in pixels of the line above a pair
_GAP: Final = 12  # between samples
_LEGEND_COLUMNS: Final = 6
_LEGEND_ROW: Final = 24  # height in pixels
_NAMED: Final = 0.015  # share of a picture from which a region gets its name


def contact_sheet(
    samples: Sequence[tuple[str, Sample]],
    classes: Sequence[str],
    colours: Sequence[Colour] | None = None,
) -> Image:
    """Draw samples side by side with their labels, above a legend.

    Args:
        samples: A caption and a sample for each pair of pictures.
        classes: Names of the classes.
        colours: Colour of each class, RGB; default: a palette.

    Returns:
        The sheet, RGB, uint8, shape (H, W, 3).

    Raises:
        ValueError: If there are more or fewer colours than classes.
    """
    table = class_colours(len(classes), colours)
    rows = -(-len(samples) // _PAIRS)
    width = 2 * _PAIRS * _BOX[0]
    legend_rows = -(-(len(classes) + 1) // _LEGEND_COLUMNS)
    height = rows * (_BOX[1] + _CAPTION) + (legend_rows + 1) * _LEGEND_ROW
    sheet = Pictures.new("RGB", (width, height), "white")
    for place, (caption, sample) in enumerate(samples):
        row, column = divmod(place, _PAIRS)
        corner = (2 * column * _BOX[0], row * (_BOX[1] + _CAPTION))
        _draw_pair(sheet, corner, caption, sample, classes=classes, colours=table)
    _draw_legend(sheet, rows * (_BOX[1] + _CAPTION) + _LEGEND_ROW // 2, classes, table)
    return np.array(sheet, dtype=np.uint8)


def write_sheet(
    path: Path,
    samples: Sequence[tuple[str, Sample]],
    classes: Sequence[str],
    colours: Sequence[Colour] | None = None,
) -> None:
    """Write a contact sheet as PNG, whole or not at all; see `contact_sheet`."""
    with written_whole(path) as temporary:
        Pictures.fromarray(contact_sheet(samples, classes, colours)).save(temporary, format="PNG")


def _draw_pair(
    sheet: Pictures.Image,
    corner: tuple[int, int],
    caption: str,
    sample: Sample,
    *,
    classes: Sequence[str],
    colours: NDArray[np.uint8],
) -> None:
    """Draw one sample: caption, image and overlay with names."""
    left, top = corner
    height, width = sample.labels.shape
    scale = min((_BOX[0] - _GAP // 2) / width, _BOX[1] / height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    pen = ImageDraw.Draw(sheet)
    pen.text((left + 6, top + 3), caption, fill="black", font=ImageFont.load_default(15))
    top += _CAPTION
    sheet.paste(Pictures.fromarray(sample.image).resize(size), (left, top))
    coloured = overlay(sample.image, sample.labels, colours)
    left += _BOX[0] - _GAP // 2
    sheet.paste(Pictures.fromarray(coloured).resize(size), (left, top))
    small = cv2.resize(sample.labels, size, interpolation=cv2.INTER_NEAREST)
    font = ImageFont.load_default(13)
    for label, x, y in _regions(np.asarray(small, dtype=np.uint8)):
        half = pen.textlength(classes[label], font) / 2 + 3
        x_inside = max(half, min(x, size[0] - half))  # a name is not cut off at the edge
        place = (left + x_inside, top + max(9, min(y, size[1] - 9)))
        pen.text(place, classes[label], "white", font, "mm", stroke_width=2, stroke_fill="black")


def _regions(labels: LabelMap) -> list[tuple[int, int, int]]:
    """Return label, column and row of the innermost pixel of each large connected region."""
    regions: list[tuple[int, int, int]] = []
    for label in np.unique(labels[labels != VOID]):
        mask: NDArray[np.uint8] = (labels == label).astype(np.uint8)
        count, parts, stats, _ = cv2.connectedComponentsWithStats(mask)
        for part in range(1, count):
            if stats[part, cv2.CC_STAT_AREA] < _NAMED * labels.size:
                continue
            # A ring of zeros: the edge of the picture bounds a region too.
            inside = np.pad((parts == part).astype(np.uint8), 1)
            depth = cv2.distanceTransform(inside, cv2.DIST_L2, 3)[1:-1, 1:-1]
            row, column = np.unravel_index(int(depth.argmax()), labels.shape)
            regions.append((int(label), int(column), int(row)))
    return regions


def _draw_legend(
    sheet: Pictures.Image, top: int, classes: Sequence[str], colours: NDArray[np.uint8]
) -> None:
    pen = ImageDraw.Draw(sheet)
    step = sheet.width // _LEGEND_COLUMNS
    fills = [tuple(map(int, colour)) for colour in colours]
    entries = [(f"{i} {name}", fills[i]) for i, name in enumerate(classes)]
    for place, (text, colour) in enumerate([*entries, ("void", VOID_COLOUR)]):
        row, column = divmod(place, _LEGEND_COLUMNS)
        x, y = column * step + 8, top + row * _LEGEND_ROW
        pen.rectangle((x, y + 2, x + 30, y + 20), fill=colour, outline="black")
        pen.text((x + 38, y + 2), text, fill="black", font=ImageFont.load_default(15))
