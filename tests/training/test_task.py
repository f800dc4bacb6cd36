"""Facts about rsseg/training/task.py: which classes of a checkpoint are those of the data."""

from __future__ import annotations

import pytest

from rsseg.training.task import other_classes
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
