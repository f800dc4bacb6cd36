"""Captions: label map or best class, resolution and time, drawn into the image itself.

Images in, images out: nothing here reads or writes a video.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from PIL import Image as Pictures
from PIL import ImageDraw

from rsseg.common.messages import percent
from rsseg.images.letters import font_of
from rsseg.images.preprocessing import Image
from rsseg.runtime.prediction import Prediction
from rsseg.runtime.predictor import Predictor

_OPACITY: Final = 0.55  # that of `overlay`


class Caption:
    """Draws the answers of a network into frames.

    Args:
        predictor: The network.
    """

    def __init__(self, predictor: Predictor) -> None:
        segments = predictor.head.dense
        self._colours = predictor.colours if segments else np.empty((0, 3), np.uint8)

    def draw(self, image: Image, prediction: Prediction) -> Image:
        """Draw label map or best class, resolution and time into an image, shape (H, W, 3)."""
        lines = [f"{prediction.resolution} px   {prediction.milliseconds:.1f} ms"]
        if prediction.label_map is None:
            (name, probability), *_ = prediction.top(1)
            lines.append(f"{name}  {percent(probability, unit=' %')}")
        else:
            colours = self._colours[prediction.label_map]
            mixed = cv2.addWeighted(image, 1 - _OPACITY, colours, _OPACITY, 0)
            image = np.asarray(mixed, np.uint8)
        return self._write(image, "\n".join(lines))

    def _write(self, image: Image, text: str) -> Image:
        """Write text on a dark ground into the upper left corner."""
        size = max(10, round(min(image.shape[:2]) / 18))
        picture = Pictures.fromarray(image)
        draw = ImageDraw.Draw(picture, "RGBA")
        place, font = (size // 2, size // 2), font_of(text, size)
        left, top, right, bottom = draw.multiline_textbbox(place, text, font=font)
        margin = size // 3
        box = (left - margin, top - margin, right + margin, bottom + margin)
        draw.rectangle(box, fill=(0, 0, 0, 160))
        draw.multiline_text(place, text, font=font, fill="white")
        return np.array(picture)
