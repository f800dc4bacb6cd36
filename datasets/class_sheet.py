"""A contact sheet of images with a class: a row for each class, with its name and some images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image as Pictures
from PIL import ImageDraw, ImageFont, ImageOps

from rsseg.common.files import written_whole
from rsseg.images.preprocessing import Image

_SIDE: Final = 160  # of a picture, in pixels
_CAPTION: Final = 24  # height in pixels of the line above a row


def class_sheet(rows: Sequence[tuple[str, Sequence[Image]]]) -> Image:
    """Draw images of some classes.

    Args:
        rows: For each class a caption and images, RGB, uint8, of any sizes.

    Returns:
        The sheet, RGB, uint8, shape (H, W, 3).
    """
    columns = max(1, *(len(images) for _, images in rows))
    size = (max(3, columns) * _SIDE, len(rows) * (_SIDE + _CAPTION))
    sheet = Pictures.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for row, (caption, images) in enumerate(rows):
        top = row * (_SIDE + _CAPTION)
        pen.text((6, top + 3), caption, fill="black", font=font)
        for column, image in enumerate(images):
            picture = ImageOps.contain(Pictures.fromarray(image), (_SIDE - 4, _SIDE))
            sheet.paste(picture, (column * _SIDE, top + _CAPTION))
    return np.array(sheet, dtype=np.uint8)


def write_class_sheet(path: Path, rows: Sequence[tuple[str, Sequence[Image]]]) -> None:
    """Write a contact sheet as PNG, whole or not at all; see `class_sheet`."""
    with written_whole(path) as temporary:
        Pictures.fromarray(class_sheet(rows)).save(temporary, format="PNG")
