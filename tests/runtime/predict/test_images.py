"""Facts about rsseg/runtime/predict/images.py: which images are found, and what is timed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from rsseg.images.preprocessing import Image
from rsseg.runtime import predictor as predicting
from rsseg.runtime.predict.images import TimedPredictor, find_images
from rsseg.runtime.predictor import Predictor
from rsseg.runtime.protocol import Logits, Views
from tests.helpers.small_exported import description


def test_folders_are_searched_for_images_in_order(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "notes.txt", "._a.jpg"):
        (tmp_path / name).touch()
    other = tmp_path / "sub" / "c.raw"
    other.parent.mkdir()
    other.touch()
    images = find_images([other, tmp_path, tmp_path / "a.jpg"])
    assert images == [other, tmp_path / "a.jpg", tmp_path / "b.PNG"]


def test_missing_and_empty_places_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere does not exist"):
        find_images([tmp_path / "nowhere"])
    with pytest.raises(ValueError, match=r"holds no image \(searched for .*\.png"):
        find_images([tmp_path])


class SlowExecutor:
    """Takes so many seconds on a fake clock: a small image that warms up, then each pass."""

    name = "fake"
    resolutions = (64, 32)
    device = "cpu"

    def __init__(self, *seconds: float) -> None:
        self.seconds = iter(seconds)
        self.now = 0.0
        self.calls: list[tuple[int, int]] = []

    def logits(self, images: Views, resolution: int) -> Logits:
        self.calls.append((resolution, images.shape[-1]))
        self.now += next(self.seconds)
        return np.array([[1, 3, 2]], np.float32)


def timed(executor: SlowExecutor, monkeypatch: pytest.MonkeyPatch, fit: str) -> TimedPredictor:
    # Each look at the clock takes half a second, so two of them lie outside the network.
    def clock() -> float:
        executor.now += 0.5
        return executor.now

    monkeypatch.setattr(predicting, "time", SimpleNamespace(perf_counter=clock))
    return TimedPredictor(Predictor(executor, description(preprocessing={"fit": fit})))


def image(height: int = 20, width: int = 30) -> Image:
    return np.zeros((height, width, 3), np.uint8)


def test_network_time_is_the_median_after_one_pass_and_measured_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    executor = SlowExecutor(900, 100, 1, 9, 2, 8, 3, 50)
    predictor = timed(executor, monkeypatch, "square")
    for _ in range(2):
        prediction = predictor.predict(image(), 32)
        # 0.5 seconds of each interval are those of the clock.
        assert prediction.network_ms == pytest.approx(1000 * (3 + 0.5))
        assert prediction.milliseconds == pytest.approx(1000 * (3 + 0.5 + 1))
    assert executor.calls == [(32, 32)] * 8


def test_every_size_of_the_view_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    executor = SlowExecutor(900, *[100, 1, 1, 1, 1, 1], *[100, 2, 2, 2, 2, 2], 7)
    predictor = timed(executor, monkeypatch, "aspect")
    wide, square = image(20, 40), image(20, 20)
    times = [predictor.predict(one, 32).network_ms for one in (wide, square, wide)]
    assert times == pytest.approx([1500, 2500, 1500])


def test_making_the_set_of_an_untrained_resolution_takes_no_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    executor = SlowExecutor(900, 100, *[1] * 5, 1000, *[1] * 5)
    predictor = timed(executor, monkeypatch, "square")
    for resolution in (64, 48):
        assert predictor.predict(image(), resolution).milliseconds == pytest.approx(2500)
