"""Comparison figures: what is drawn, where, and that nothing lies on anything else."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image as Pictures

from rsseg.common.figures import save_figure
from rsseg.images.preprocessing import Image, LabelMap
from rsseg.segmentation.figure import DOTS_PER_INCH, Panel, Row, comparison_figure
from rsseg.segmentation.palette import VOID_COLOUR, colourise

CLASSES = [*(f"class {i}" for i in range(38)), "otherstructure", "a$b$c"]


def some_labels(seed: int, size: tuple[int, int] = (30, 40), classes: int = 40) -> LabelMap:
    return np.random.default_rng(seed).integers(0, classes, size, dtype=np.uint8)


def some_row(
    networks: Sequence[str] = ("RS-Net",),
    size: tuple[int, int] = (30, 40),
    *,
    truth: bool = True,
    name: str = "kitchen",
) -> Row:
    image: Image = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    panels = [
        Panel(network, resolution, some_labels(resolution, size), 1234.5, 0.999)
        for network in networks
        for resolution in (96, 352, 224)
    ]
    return Row(image, panels, some_labels(1, size) if truth else None, name)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def box(axes: Axes) -> tuple[float, float, float, float]:
    x, y, width, height = axes.get_position().bounds
    return round(x, 6), round(y, 6), round(width, 6), round(height, 6)


@pytest.mark.parametrize("truth", [True, False])
@pytest.mark.parametrize(
    ("networks", "size"),
    [(("RS-Net",), (30, 40)), (("I-352", "RS-Net"), (90, 20)), (("a", "b", "c" * 60), (8, 80))],
)
def test_nothing_lies_on_anything_else_or_outside(
    networks: tuple[str, ...], size: tuple[int, int], truth: bool
) -> None:
    rows = [some_row(networks, size, truth=truth, name="n" * 99), some_row(networks[:1])]
    figure = comparison_figure(rows, CLASSES)
    figure.draw(FigureCanvasAgg(figure).get_renderer())  # type: ignore[no-untyped-call]
    things = [*figure.texts, *figure.axes, *figure.artists]
    boxes = [thing.get_window_extent() for thing in things]
    boxes = [extent for extent in boxes if extent.width]
    paper = figure.bbox
    for extent in boxes:
        assert paper.x0 <= extent.x0
        assert extent.x1 <= paper.x1
        assert paper.y0 <= extent.y0
        assert extent.y1 <= paper.y1
    for one, other in itertools.combinations(boxes, 2):
        overlap = min(one.x1, other.x1) - max(one.x0, other.x0)
        assert overlap <= 0 or min(one.y1, other.y1) <= max(one.y0, other.y0) + 1e-6


def test_columns_run_from_large_to_small_and_line_up() -> None:
    rows = [some_row(("I-352", "RS-Net")), some_row(("I-352", "RS-Net"), (40, 30))]
    figure = comparison_figure(rows, CLASSES)
    panels = [
        (f"{p.resolution}", box(axes))
        for p, axes in zip(rows[0].panels, figure.axes[2:8], strict=True)
    ]
    lefts = {resolution: left for resolution, (left, *_) in panels}
    assert lefts["352"] < lefts["224"] < lefts["96"]
    assert len({left for _, (left, *_) in panels}) == 3
    assert len({bottom for _, (_, bottom, *_) in panels}) == 2
    assert len({(width, height) for _, (_, _, width, height) in panels}) == 1


def test_ground_truth_is_beside_the_image_of_one_network_and_below_it_for_two() -> None:
    image, truth = map(box, comparison_figure([some_row()], CLASSES).axes[:2])
    assert truth[1] == image[1]
    assert truth[0] > image[0]
    image, truth = map(box, comparison_figure([some_row(("a", "b"))], CLASSES).axes[:2])
    assert truth[0] == image[0]
    assert truth[1] < image[1]


def test_panels_show_the_image_and_the_colours_of_the_label_maps() -> None:
    row = some_row()
    assert row.truth is not None
    row.truth[:5] = 255
    shown = [axes.images[0].get_array() for axes in comparison_figure([row], CLASSES).axes]
    expected = [row.image, *(colourise(labels, 40) for labels in row.label_maps)]
    assert len(shown) == len(expected) == 5
    for picture, wanted in zip(shown, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(picture), wanted)
    assert (np.asarray(shown[1])[:5] == VOID_COLOUR).all()


def test_legend_names_exactly_the_classes_that_occur() -> None:
    labels = np.array([[3, 39], [39, 39]], dtype=np.uint8)
    truth = np.array([[3, 7], [255, 255]], dtype=np.uint8)
    image = np.zeros((2, 2, 3), dtype=np.uint8)
    figure = comparison_figure([Row(image, [Panel("n", 96, labels)], truth)], CLASSES)
    assert texts(figure)[-4:] == ["class 3", "class 7", "a$b$c", "void"]
    patches = [patch for patch in figure.artists if isinstance(patch, Rectangle)]
    colours = [[round(255 * part) for part in to_rgb(p.get_facecolor())] for p in patches]
    wanted = colourise(np.array([[3, 7, 39, 255]], dtype=np.uint8), 40)[0]
    assert colours == wanted.tolist()


def test_titles_name_resolution_latency_accuracy_and_network() -> None:
    image, labels = np.zeros((4, 4, 3), dtype=np.uint8), np.zeros((4, 4), dtype=np.uint8)
    panels = [Panel("RS-Net", 224, labels, 41.25, 0.7154), Panel("RS-Net", 96, labels)]
    shown = texts(comparison_figure([Row(image, panels, name="room")], CLASSES))
    assert {"RS-Net", "room", "224 px", "41.2 ms · acc. 71.5 %", "96 px"} <= set(shown)
    assert "ground truth" not in shown


def test_thumbnails_are_small_and_invent_no_class() -> None:
    row = some_row(size=(300, 40))
    small = row.thumbnail(100)
    assert [m.shape for m in [small.image, *small.label_maps]] == [(100, 13, 3), *[(100, 13)] * 4]
    for labels, whole in zip(small.label_maps, row.label_maps, strict=True):
        assert set(np.unique(labels)) <= set(np.unique(whole))
    assert row.thumbnail(300).image is row.image


def test_label_map_of_another_size_is_refused() -> None:
    row = Row(np.zeros((4, 5, 3), np.uint8), [Panel("n", 96, np.zeros((5, 4), np.uint8))], name="x")
    with pytest.raises(ValueError, match=r"of 'x' has the size \(5, 4\), expected .* \(4, 5\)"):
        comparison_figure([row], CLASSES)
    with pytest.raises(ValueError, match="at least one row"):
        comparison_figure([], CLASSES)


def test_label_that_is_no_class_is_refused() -> None:
    row = Row(np.zeros((2, 2, 3), np.uint8), [Panel("n", 96, np.full((2, 2), 3, np.uint8))])
    with pytest.raises(ValueError, match=r"value 3, expected 0\.\.2"):
        comparison_figure([row], ["a", "b", "c"])


def test_saved_figure_has_the_size_of_the_figure(tmp_path: Path) -> None:
    figure = comparison_figure([some_row()], CLASSES)
    save_figure(figure, tmp_path / "figure.png", DOTS_PER_INCH)
    with Pictures.open(tmp_path / "figure.png") as picture:
        inches = figure.get_size_inches()
        assert abs(picture.width - 200 * inches[0]) <= 1
        assert abs(picture.height - 200 * inches[1]) <= 1
