"""Facts about rsseg/segmentation/cells.py: the classes are those of the full computation."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from rsseg.segmentation import cells
from rsseg.segmentation.cells import all_classes, disputed_share, label_map

Floats = NDArray[np.float32]
Case = tuple[Floats, tuple[int, int]]


@pytest.fixture(autouse=True)
def _always_by_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the cells at every size, also where all classes would be faster."""
    monkeypatch.setattr(cells, "_COST_OF_CORNERS", 0)
    monkeypatch.setattr(cells, "_COST_OF_CONTENDERS", 0)


_NUMBERS = {
    "floats": st.floats(-50, 50, width=32),
    "near draws": st.sampled_from([np.float32(1 + k * 2**-23) for k in range(-2, 4)]),
    "integers": st.integers(-3, 3).map(float),
    "two values": st.sampled_from([0.0, 1.0]),
    "of any size": st.floats(-(2.0**120), 2.0**120, width=32),
    "tiny": st.sampled_from([0.0, -0.0, 1e-45, -1e-45, 1e-38, 2e-38]),
}
_SIDES = st.integers(1, 40)


@st.composite
def grids(draw: st.DrawFn, numbers: st.SearchStrategy[Any] | None = None) -> Floats:
    """Logits of up to 6 classes; those of two classes may be equal everywhere."""
    shape = tuple(draw(st.integers(1, 6)) for _ in range(3))
    elements = _NUMBERS[draw(st.sampled_from(sorted(_NUMBERS)))] if numbers is None else numbers
    logits = draw(hnp.arrays(np.float32, shape, elements=elements))
    logits[draw(st.integers(0, shape[0] - 1))] = logits[draw(st.integers(0, shape[0] - 1))]
    return logits


def weights_of(sources: int, pixels: int) -> Floats:
    """Return PyTorch's weights of one axis, shape (2, pixels), and 1.0 for both ends at a border.

    Those of the resized unit vectors: a product by 1 and a sum with 0 are exact.
    """
    unit = torch.eye(sources)[None]
    return F.interpolate(unit, size=pixels, mode="linear", align_corners=False)[0].numpy()


def by_hand(logits: Floats, size: tuple[int, int]) -> NDArray[np.intp]:
    """Compute all values by the formula of the module's docstring, pixel by pixel."""
    one, half = np.float32(1), np.float32(0.5)

    def ends(sources: int, pixels: int, pixel: int) -> tuple[int, int, Any, Any]:
        scale = np.float32(sources) / np.float32(pixels)
        position = max((np.float32(pixel) + half) * scale - half, np.float32(0))
        low = min(int(position), sources - 1)
        return low, min(low + 1, sources - 1), one - (position - low), position - low

    labels = np.empty(size, dtype=np.intp)
    for row in range(size[0]):
        upper, lower, y0, y1 = ends(logits.shape[1], size[0], row)
        for column in range(size[1]):
            left, right, x0, x1 = ends(logits.shape[2], size[1], column)
            top = logits[:, upper, left] * x0 + logits[:, upper, right] * x1
            bottom = logits[:, lower, left] * x0 + logits[:, lower, right] * x1
            labels[row, column] = (top * y0 + bottom * y1).argmax()
    return labels


@settings(max_examples=300, deadline=None)
@given(grids(), st.tuples(_SIDES, _SIDES))
def test_classes_are_those_of_the_formula_to_the_bit(logits: Floats, size: tuple[int, int]) -> None:
    expected = by_hand(logits, size)
    assert (label_map(logits, size) == expected).all()
    assert (all_classes(logits, size) == expected).all()


@settings(max_examples=300, deadline=None)
@given(grids(), st.tuples(_SIDES, _SIDES))
def test_class_of_a_pixel_is_the_best_of_pytorch_but_for_rounding(
    logits: Floats, size: tuple[int, int]
) -> None:
    values = F.interpolate(torch.from_numpy(logits)[None], size=size, mode="bilinear")[0].numpy()
    chosen = np.take_along_axis(values, label_map(logits, size)[None].astype(np.intp), axis=0)[0]
    rounding = np.abs(logits).max() * np.float32(2**-20) + np.float32(1e-44)
    assert (values.max(axis=0) - chosen <= rounding).all()


@settings(max_examples=200, deadline=None)
@given(
    grids(numbers=_NUMBERS["integers"]),
    st.tuples(st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 2, 4, 8])),
)
def test_draws_go_to_the_class_of_pytorch_where_no_number_is_rounded(
    logits: Floats, factors: tuple[int, int]
) -> None:
    """Integers by weights of eighths: every sum is exact in any order."""
    size = (logits.shape[1] * factors[0], logits.shape[2] * factors[1])
    values = F.interpolate(torch.from_numpy(logits)[None], size=size, mode="bilinear")[0]
    assert (label_map(logits, size) == values.argmax(dim=0).numpy()).all()


@pytest.mark.parametrize(("sources", "pixels"), [(32, 480), (20, 333), (7, 5), (1, 9), (9, 1)])
def test_weights_are_those_of_pytorch_to_the_bit(sources: int, pixels: int) -> None:
    axis = cells._axis(sources, pixels)
    matrix = np.zeros((sources, pixels), dtype=np.float32)
    for pixel, interval in enumerate(axis.interval):
        matrix[axis.low[interval], pixel] += axis.weights[0, pixel]
        matrix[axis.high[interval], pixel] += axis.weights[1, pixel]
    assert (matrix == weights_of(sources, pixels)).all()
    assert (axis.start[axis.interval] + axis.offset == np.arange(pixels)).all()


def smooth_logits(classes: int, side: int) -> Floats:
    """Draw logits whose classes lie in regions some cells wide, as those of a network do."""
    coarse = torch.randn(1, classes, 4, 4, generator=torch.Generator().manual_seed(0))
    grid: Floats = F.interpolate(coarse, size=(side, side), mode="bicubic")[0].numpy()
    return grid


@pytest.mark.parametrize("size", [(97, 131), (33, 40), (7, 200), (16, 16), (5, 5)])
def test_regions_are_those_of_pytorch(size: tuple[int, int]) -> None:
    logits = smooth_logits(40, 16)
    values = F.interpolate(torch.from_numpy(logits)[None], size=size, mode="bilinear")[0]
    assert (label_map(logits, size) == values.argmax(dim=0).numpy()).all()
    assert 0 < disputed_share(logits, (97, 131)) < 0.8


@pytest.mark.parametrize("pixels", [1, 50, 2**16])
def test_cells_and_rows_in_parts_give_the_same(
    pixels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = smooth_logits(12, 9)
    expected = label_map(logits, (50, 61))
    monkeypatch.setattr(cells, "_PIXELS_AT_ONCE", pixels)
    monkeypatch.setattr(cells, "_CELLS_AT_ONCE", 3)
    assert (label_map(logits, (50, 61)) == expected).all()
    assert (all_classes(logits, (50, 61)) == expected).all()


@pytest.mark.parametrize(
    ("classes", "dtype"), [(1, np.uint8), (256, np.uint8), (257, np.uint16), (300, np.uint16)]
)
def test_type_is_the_smallest_that_holds_all_classes(classes: int, dtype: type) -> None:
    logits = np.zeros((classes, 3, 3), dtype=np.float32)
    logits[-1, :, 1:] = 1
    logits[: classes // 2, 0, 0] = 1
    for labels in (label_map(logits, (9, 9)), all_classes(logits, (9, 9))):
        assert labels.dtype == dtype
        assert (labels == by_hand(logits, (9, 9))).all()


def test_only_cells_between_classes_are_disputed() -> None:
    logits = np.zeros((3, 4, 5), dtype=np.float32)
    logits[1, :, :3], logits[2, :, 3:] = 1, 1
    # Of the columns of cells - border, 0-1, 1-2, 2-3, 3-4, border - one.
    assert disputed_share(logits, (40, 50)) == pytest.approx(1 / 6)


def test_large_label_map_takes_a_few_bytes_a_pixel() -> None:
    logits, size = smooth_logits(40, 32), (480, 640)
    label_map(logits, size)
    tracemalloc.start()
    label_map(logits, size)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12 * size[0] * size[1]


@pytest.mark.parametrize("kind", ["noise", "many logits"])
def test_all_classes_are_taken_where_cells_do_not_pay(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    noise = np.random.default_rng(0).standard_normal((40, 30, 30)).astype(np.float32)
    logits, size = (noise, (60, 60)) if kind == "noise" else (smooth_logits(40, 30), (40, 40))
    monkeypatch.setattr(cells, "_settle", None)  # not called
    assert (label_map(logits, size) == all_classes(logits, size)).all()
