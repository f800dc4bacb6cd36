"""Facts about rsseg/training/task.py: which classes of a checkpoint are those of the data."""

from __future__ import annotations

from typing import Any

import pytest

from rsseg.training.task import other_classes, other_reading
from rsseg.weights.source import Weights


@pytest.mark.parametrize(
    ("trained", "own", "other"),
    [
        (["ant", "bee"], ["ant", "bee"], None),
        (["class 0", "class 1"], ["ant", "bee"], None),
        (["ant", "bee"], ["class 1", "class 2"], None),
        (["ant", "class 1"], ["cat", "bee"], "ant"),
        (["ant", "class bee"], ["ant", "bee"], "class bee"),
        (["bee", "ant"], ["ant", "bee"], "bee"),
        (["ant", "bee"], ["ant", "bee", "cat"], None),  # The head's shape says so.
        ([], ["ant", "bee"], None),
        (["ant", "bee"], [], None),
    ],
)
def test_head_starts_anew_for_classes_that_are_known_to_be_others(
    trained: list[str], own: list[str], other: str | None
) -> None:
    weights = Weights(name="last.pt", state={}, checkpoint={"classes": trained})
    text = other_classes(weights, own)
    assert text == "" if other is None else f"a class {other!r} where" in text


OFFSET = {"offset": 1, "map": None, "colours": None, "binary": False, "void": [0]}
MAP = {"offset": None, "map": {1: 1, 2: 0}, "colours": None, "binary": False, "void": [0]}


@pytest.mark.parametrize(
    ("names", "trained", "own", "differs"),
    [
        (["class 0", "class 1"], OFFSET, MAP, True),
        (["class 0", "class 1"], OFFSET, {**OFFSET, "offset": 0}, True),
        (["class 0", "class 1"], OFFSET, {**OFFSET, "void": [255]}, False),
        (["class 0", "class 1"], OFFSET, OFFSET, False),
        (["wall", "floor"], OFFSET, MAP, False),  # The names say which is which.
        (["wall", "class 1"], OFFSET, MAP, True),
        (["class 0", "class 1"], None, MAP, False),
        (["class 0", "class 1"], OFFSET, None, False),
    ],
)
def test_another_reading_of_the_label_maps_is_told_where_names_are_not_known(
    names: list[str], trained: dict[str, Any] | None, own: dict[str, Any] | None, differs: bool
) -> None:
    checkpoint = {"classes": names, "data": {"labels": trained} if trained else {}}
    weights = Weights(name="last.pt", state={}, checkpoint=checkpoint)
    text = other_reading(weights, names, own)
    assert bool(text) is differs
    if trained == OFFSET and own == MAP and differs:
        assert "were read as {offset: 1, void: [0]}, those of the data" in text
        assert "are read as {map: {1: 1, 2: 0}, void: [0]}" in text
