"""The legend of an overlay: it names what occurs, covers nothing, and can be read at any size."""

from __future__ import annotations

import numpy as np
import pytest

from rsseg.images import letters
from rsseg.images.preprocessing import Image
from rsseg.segmentation.legend import LegendEntry, legend_entries, with_legend
from rsseg.segmentation.palette import VOID_COLOUR, palette

SIZES = [(1, 1), (9, 7), (48, 64), (480, 640), (900, 600), (100, 3000), (3000, 100)]
NAMES = {
    "one": ["wall"],
    "many": [f"class of things {i}" for i in range(150)],
    "long": ["a name that never ends " * 20, "b"],
    "scripts": ["Straße", "стена", "τοίχος", "جدار", "$x_1$"],
}


def grey(height: int, width: int) -> Image:
    return np.full((height, width, 3), 127, dtype=np.uint8)


def entries_of(names: list[str]) -> list[LegendEntry]:
    return legend_entries([np.arange(len(names), dtype=np.uint8)[None]], names)


def patches(picture: Image, entries: list[LegendEntry]) -> list[int]:
    """Return how many pixels have exactly the colour of each entry."""
    place = np.array([1 << 16, 1 << 8, 1])
    values, counts = np.unique(picture.astype(np.int64) @ place, return_counts=True)
    found = dict(zip(values.tolist(), counts.tolist(), strict=True))
    colours = [
        int(np.rint(255 * np.array(colour)).astype(np.int64) @ place) for _, colour in entries
    ]
    return [found.get(colour, 0) for colour in colours]


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("size", SIZES)
def test_picture_stays_as_it_is_and_every_class_has_its_patch(
    size: tuple[int, int], names: list[str]
) -> None:
    entries = entries_of(names)
    shown = with_legend(grey(*size), entries)
    np.testing.assert_array_equal(shown[: size[0], : size[1]], grey(*size))
    side = max(14, max(size) / 56)  # what a letter needs on a screen that shows the whole picture
    assert all(pixels >= 0.9 * side**2 for pixels in patches(shown, entries))
    assert (shown[:, -1][size[0] :] == 255).all()  # nothing is cut off at the right
    assert (shown[-1, size[1] :] == 255).all()  # nor below
    dark = (shown < 100).all(axis=-1)  # letters: no colour of a class is that dark
    assert dark.sum() > 20 * len(names)


def test_legend_names_what_occurs_and_void_at_the_end() -> None:
    maps = [np.array([[2, 0]], dtype=np.uint8), np.array([[255], [2]], dtype=np.uint8)]
    entries = legend_entries(maps, ["wall", "floor", "lamp"])
    colours = palette(3) / 255
    assert [name for name, _ in entries] == ["wall", "lamp", "void"]
    np.testing.assert_allclose(entries[1][1], colours[2])
    np.testing.assert_allclose(entries[2][1], np.array(VOID_COLOUR) / 255)


def test_name_that_no_font_can_write_becomes_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(letters, "_installed", lambda: ())
    assert [name for name, _ in entries_of(["wall", "壁", ""])] == ["wall", "class 1", "class 2"]


def test_picture_without_classes_has_no_legend() -> None:
    assert with_legend(grey(4, 5), []).shape == (4, 5, 3)
