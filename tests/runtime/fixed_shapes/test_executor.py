"""Facts about rsseg/runtime/fixed_shapes/executor.py: one model for each resolution, when used."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from rsseg.runtime.fixed_shapes.executor import FixedShapesExecutor, Model
from rsseg.runtime.protocol import Logits, Views
from tests.helpers.small_exported import description


class Opened:
    """Models that give the side and the mean of each view, and a list of those that were opened."""

    def __init__(self) -> None:
        self.sides: list[int] = []

    def open(self, side: int) -> Model:
        self.sides.append(side)

        def run(view: Views) -> Logits:
            assert view.shape == (1, 3, side, side)
            return np.array([[side, view.mean()]], np.float32)

        return run

    def executor(self) -> FixedShapesExecutor:
        return FixedShapesExecutor("drawn", description(layout="fixed"), self.open)


def test_model_is_opened_with_its_first_view_and_once() -> None:
    opened = Opened()
    executor = opened.executor()
    assert opened.sides == []
    views = np.zeros((1, 3, 32, 32), np.float32)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: executor.logits(views, 32), range(8)))
    assert opened.sides == [32]


def test_images_of_a_batch_pass_one_by_one_in_their_order() -> None:
    views = np.stack([np.full((3, 64, 64), value, np.float32) for value in (5, 6, 7)])
    logits = Opened().executor().logits(views, 64)
    assert logits.tolist() == [[64, 5], [64, 6], [64, 7]]


def test_error_of_a_model_says_at_which_resolution() -> None:
    def fail(_: int) -> Model:
        raise RuntimeError("no such method\nand a trace")

    executor = FixedShapesExecutor("drawn", description(layout="fixed"), fail)
    with pytest.raises(ValueError, match=r"cannot predict at resolution 32.*: no such method$"):
        executor.logits(np.zeros((1, 3, 32, 32), np.float32), 32)
