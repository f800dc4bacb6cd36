"""Label maps beside their image: the picture of one image, and the paper's Fig. 8 for several.

Label maps in, a figure out: nothing here runs a network or reads a file. Colours come from
`palette`, the tools that draw from `drawing`.

Source of the arrangement: Wang et al., ECCV 2020, https://arxiv.org/abs/2007.09558, Fig. 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from rsseg.common.messages import percent
from rsseg.images.preprocessing import Image, LabelMap
from rsseg.segmentation import drawing
from rsseg.segmentation.legend import legend_entries
from rsseg.segmentation.palette import Classes, colourise

DOTS_PER_INCH: Final = 200
# Inches. _BETWEEN two images; _TITLE above a panel; _NAME of a network, left of its panels.
_MARGIN, _GAP, _BETWEEN, _TITLE, _NAME = 0.12, 0.07, 0.12, 0.2, 0.26
_PANEL: Final = 2.1  # width of a panel
_FLATTEST, _TALLEST = 0.25, 1.5  # height of a panel over its width
_SIDE: Final = 1000  # pixels of the longer side that a figure keeps


@dataclass(frozen=True)
class Panel:
    """One prediction.

    Args:
        network: Name of the network; one line of panels is drawn for each.
        resolution: Resolution of the prediction in pixels; one column is drawn for each.
        labels: Predicted class of each pixel, shape (H, W) of the image.
        latency: Milliseconds from the image's file to that of the label map, or None.
        accuracy: Share of the pixels that are correct, 0..1, or None.
    """

    network: str
    resolution: int
    labels: LabelMap
    latency: float | None = None
    accuracy: float | None = None

    @property
    def remark(self) -> str:
        """Latency and accuracy as they are shown above the panel."""
        time, share = self.latency, self.accuracy
        digits = 0 if time is None or time >= 100 else 1
        parts = [] if time is None else [f"{time:.{digits}f} ms"]
        return " · ".join(parts if share is None else [*parts, f"acc. {percent(share, unit=' %')}"])


@dataclass(frozen=True)
class Row:
    """One image with everything that is drawn beside it.

    Args:
        image: RGB, uint8, shape (H, W, 3).
        panels: Predictions; networks are drawn in the order of their first panel.
        truth: True class of each pixel, 255 for void, shape (H, W), or None.
        name: Title of the image.
    """

    image: Image
    panels: Sequence[Panel]
    truth: LabelMap | None = None
    name: str = "image"

    @property
    def networks(self) -> list[str]:
        """Names of the networks, each once."""
        return list(dict.fromkeys(panel.network for panel in self.panels))

    @property
    def label_maps(self) -> list[LabelMap]:
        """All label maps, the true one first if there is one."""
        return [*([] if self.truth is None else [self.truth]), *(p.labels for p in self.panels)]

    def thumbnail(self, side: int = _SIDE) -> Row:
        """Return the row with pictures whose longer side is at most `side` pixels.

        A figure shows no more, and rows of many large images then fit into memory.
        """
        truth = None if self.truth is None else drawing.shrink(self.truth, side)
        panels = [
            replace(panel, labels=drawing.shrink(panel.labels, side)) for panel in self.panels
        ]
        return Row(drawing.shrink(self.image, side), panels, truth, self.name)


@dataclass(frozen=True)
class _Layout:
    """Which columns the figure has, and where; lengths in inches."""

    resolutions: Sequence[int]
    stacked: bool  # The ground truth lies below its image.
    beside: bool  # The ground truth lies beside its image.

    @property
    def predictions(self) -> float:
        """Left edge of the first prediction."""
        return _MARGIN + (2 if self.beside else 1) * (_PANEL + _GAP) + _NAME

    @property
    def width(self) -> float:
        """Width of all columns, without the margins."""
        end = self.predictions + len(self.resolutions) * (_PANEL + _GAP)
        return end - _GAP - _MARGIN

    def left(self, resolution: int) -> float:
        """Return the left edge of the column of a resolution."""
        return self.predictions + self.resolutions.index(resolution) * (_PANEL + _GAP)

    def height(self, row: Row) -> float:
        """Return the height of all that belongs to one image."""
        inputs = 2 if self.stacked and row.truth is not None else 1
        return max(len(row.networks), inputs) * _step(row) - _GAP + _BETWEEN


def comparison_figure(
    rows: Sequence[Row], classes: Sequence[str], colours: NDArray[np.uint8] | None = None
) -> Figure:
    """Draw images, ground truth and predictions side by side, with a legend of the classes.

    One column per resolution, one line of panels per network, images from top to bottom. With
    one network the ground truth stands beside the image, with several it stands below it. The
    legend names the classes that occur in any of the label maps.

    Args:
        rows: The images, at least one.
        classes: Name of each class, in the order of the labels.
        colours: Colour of each class, RGB, shape (K, 3); None takes the palette.

    Returns:
        A figure that belongs to no window: keep it with `save_figure`.

    Raises:
        ValueError: If there are no rows, a label map differs from its image in size, or a label
            is not a class.

    Example:
        >>> import numpy as np
        >>> labels = np.zeros((30, 40), dtype=np.uint8)
        >>> row = Row(np.zeros((30, 40, 3), dtype=np.uint8), [Panel("RS-Net", 96, labels)])
        >>> len(comparison_figure([row], ["wall", "floor"]).axes)
        2
    """
    _check(rows)
    # From the whole label maps: a thumbnail may lose small classes.
    legend = legend_entries([labels for row in rows for labels in row.label_maps], classes, colours)
    rows = [row.thumbnail() for row in rows]
    layout = _arrange(rows)
    body = sum(map(layout.height, rows))
    height = 2 * _MARGIN + body + drawing.legend_height(legend, layout.width)
    size = (layout.width + 2 * _MARGIN, height)
    figure = Figure(figsize=size, dpi=DOTS_PER_INCH, facecolor="white")
    top = _MARGIN
    for row in rows:
        _draw_row(figure, row, top, layout, len(classes) if colours is None else colours)
        top += layout.height(row)
    drawing.draw_legend(figure, legend, (_MARGIN, top), layout.width)
    return figure


def _check(rows: Sequence[Row]) -> None:
    if not rows:
        raise ValueError("a comparison needs at least one row, got none")
    for row in rows:
        for labels in row.label_maps:
            if labels.shape != row.image.shape[:2]:
                raise ValueError(
                    f"a label map of '{row.name}' has the size {labels.shape}, expected that of "
                    f"the image, {row.image.shape[:2]}; resize the logits before argmax"
                )


def _arrange(rows: Sequence[Row]) -> _Layout:
    resolutions = sorted({panel.resolution for row in rows for panel in row.panels}, reverse=True)
    stacked = max(len(row.networks) for row in rows) > 1
    truth = any(row.truth is not None for row in rows)
    return _Layout(resolutions, stacked=stacked, beside=truth and not stacked)


def _panel_height(row: Row) -> float:
    height, width = row.image.shape[:2]
    return _PANEL * float(min(max(height / width, _FLATTEST), _TALLEST))


def _step(row: Row) -> float:
    """Return the distance of two lines of panels."""
    return _TITLE + _panel_height(row) + _GAP


def _draw_row(figure: Figure, row: Row, top: float, layout: _Layout, classes: Classes) -> None:
    height, step = _panel_height(row), _step(row)
    _draw_panel(figure, row.image, (_MARGIN, top, height), row.name)
    if row.truth is not None:
        left = _MARGIN if layout.stacked else _MARGIN + _PANEL + _GAP
        below = top + step if layout.stacked else top
        _draw_panel(figure, colourise(row.truth, classes), (left, below, height), "ground truth")
    for line, network in enumerate(row.networks):
        place = layout.predictions - 0.07, top + line * step + _TITLE + height / 2
        short = drawing.shorten(network, height, drawing.LARGE)
        style = {"rotation": 90, "ha": "right", "va": "center", "fontweight": "bold"}
        drawing.write(figure, place, short, size=drawing.LARGE, **style)
    for panel in row.panels:
        left = layout.left(panel.resolution)
        below = top + row.networks.index(panel.network) * step
        picture = colourise(panel.labels, classes)
        title = f"{panel.resolution} px"
        _draw_panel(figure, picture, (left, below, height), title, panel.remark)


def _draw_panel(
    figure: Figure,
    picture: Image,
    place: tuple[float, float, float],
    title: str,
    remark: str = "",
) -> None:
    """Draw a picture in the middle of its panel below the titles; `place`: left, top, height."""
    left, top, height = place
    tall, wide = picture.shape[:2]
    size = min(height, _PANEL * tall / wide)
    corner = left + (_PANEL - size * wide / tall) / 2, top + _TITLE + (height - size) / 2
    drawing.draw_picture(figure, picture, corner, size)
    room = _PANEL - drawing.width_of(remark, drawing.SMALL)
    short = drawing.shorten(title, room, drawing.LARGE)
    base = top + _TITLE - 0.05
    drawing.write(figure, (left, base), short, size=drawing.LARGE)
    style = {"ha": "right", "color": "0.3"}
    drawing.write(figure, (left + _PANEL, base), remark, size=drawing.SMALL, **style)
