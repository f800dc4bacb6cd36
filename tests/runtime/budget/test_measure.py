"""Facts about the tables of latencies: what is measured, kept and found. The clock is fake."""

from __future__ import annotations

import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pictures

from rsseg.images.preprocessing import PHOTO_SIZE
from rsseg.runtime import predictor
from rsseg.runtime.budget import measure as latency
from rsseg.runtime.budget.measure import drawn_photo, measure, measured_budget, saved_budget
from rsseg.runtime.budget.table import (
    find_rows,
    latency_file,
    read_entries,
    this_machine,
    update_entries,
)
from rsseg.runtime.predictor import Predictor, timer
from rsseg.runtime.protocol import Logits, Views
from rsseg.runtime.stages import Stages
from tests.helpers.small_exported import description
from tests.helpers.small_latencies import ELSEWHERE, HERE, entry, row


class Slow:
    """An executor that takes its time on a fake clock: 40 ms at 64 pixels, 10 ms at 32."""

    name = "torch"
    resolutions = (64, 32)
    device = "cpu"

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[int] = []

    def logits(self, images: Views, resolution: int) -> Logits:
        self.calls.append(resolution)
        self.now += {64: 0.04, 32: 0.01}[resolution]
        return np.ones((1, 3), np.float32)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    executor = Slow()
    clock = SimpleNamespace(perf_counter=lambda: executor.now)
    monkeypatch.setattr(predictor, "time", clock)
    monkeypatch.setattr(latency, "time", clock)
    return executor


def test_resolutions_take_turns_after_a_warm_up(slow: Slow) -> None:
    times = measure(timer(Predictor(slow, description())), [64, 32], runs=3)
    assert slow.calls == [64, 64, 32, 32] + [64, 32] * 3
    assert times[64].network == pytest.approx((40.0,) * 3)
    assert times[32].whole == pytest.approx((10.0,) * 3)
    assert times[32].rest == pytest.approx(0)


def test_measuring_ends_when_its_time_is_over(slow: Slow) -> None:
    measure(timer(Predictor(slow, description())), [64, 32], runs=100, seconds=0.07)
    assert slow.calls == [64, 32] + [64, 32] * 3


def opened(slow: Slow, path: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Predictor:
    """Open a file whose network is the slow one."""
    monkeypatch.setattr(predictor, "open_executor", lambda *_, **__: (slow, description()))
    return Predictor.open(path, **options)


def test_budget_is_measured_where_there_is_no_table(
    slow: Slow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for budget in (
        measured_budget(timer(Predictor(slow, description())), [64, 32]),
        opened(slow, tmp_path / "last.pt", monkeypatch, threads=2).measure(),
    ):
        assert budget.idle == {64: pytest.approx(40.0), 32: pytest.approx(10.0)}


def test_budget_is_taken_from_the_table_of_this_machine(
    slow: Slow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.pt"
    mine = entry(this_machine(), row(64, 7.0, median_ms=9.0), row(48, 6.0), row(32, 3.0))
    update_entries(latency_file(path), [entry(ELSEWHERE), mine])
    budget = opened(slow, path, monkeypatch, threads=2).measure()
    assert budget.idle == {64: 7.0, 32: 3.0}
    assert budget.choose(9.0).milliseconds == 9.0  # The part that is not the network's counts.
    assert slow.calls == []
    threads = torch.get_num_threads()
    update_entries(latency_file(path), [replace(mine, threads=threads)])
    assert opened(slow, path, monkeypatch).measure().idle == {64: 7.0, 32: 3.0}
    assert slow.calls == []


def test_table_that_lacks_a_resolution_is_not_used(
    slow: Slow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.pt"
    update_entries(latency_file(path), [entry(this_machine(), row(64, 7.0))])
    assert saved_budget([row(64, 7.0)], [64, 32]) is None
    budget = opened(slow, path, monkeypatch, threads=2).measure()
    assert budget.idle[64] == pytest.approx(40.0)


def test_entries_of_other_machines_executors_threads_and_files_stay(tmp_path: Path) -> None:
    path = tmp_path / "last.latency.json"
    others = [
        entry(ELSEWHERE),
        entry(executor="onnxruntime"),
        entry(threads=1),
        entry(file="best.pt"),
    ]
    update_entries(path, [*others, entry()])
    newer = entry(HERE, row(64, 1.0))
    update_entries(path, [newer])
    assert read_entries(path) == [*others, newer]


def test_table_of_another_name_in_the_folder_is_found(tmp_path: Path) -> None:
    update_entries(tmp_path / "last.latency.json", [entry(file="small.onnx")])
    asked: dict[str, Any] = {"machine": HERE, "executor": "torch", "threads": 2}
    assert find_rows(tmp_path / "small.onnx", **asked) == entry().rows
    assert find_rows(tmp_path / "other.onnx", **asked) == ()
    assert find_rows(tmp_path / "small.onnx", **{**asked, "machine": ELSEWHERE}) == ()
    (tmp_path / "foreign.latency.json").write_text("[1]")
    assert find_rows(tmp_path / "small.onnx", **asked) == entry().rows
    (tmp_path / "small.latency.json").write_text("[1]")
    with pytest.warns(UserWarning, match=r"small\.latency\.json is not a table of latencies"):
        assert find_rows(tmp_path / "small.onnx", **asked) == entry().rows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a JSON file"),
        ("[]", "is not a table of latencies"),
        ('{"entries": [{}]}', "is not a table of latencies .entries"),
        ('{"entries": [], "format": 9}', "is not a table of latencies .format"),
    ],
)
def test_foreign_file_is_named_and_not_written_over(
    text: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "last.latency.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        update_entries(path, [entry()])
    assert path.read_text(encoding="utf-8") == text


def test_budget_of_a_table_knows_decoding_where_the_table_does() -> None:
    stages = {64: Stages(decode=3.0, network=7.0), 32: Stages(decode=1.0, network=3.0)}
    rows = [
        row(64, 7.0, median_ms=12.0, stages=stages[64]),
        row(32, 3.0, median_ms=5.0, stages=stages[32]),
    ]
    budget = saved_budget(rows, [64, 32])
    assert budget is not None
    assert budget.expected() == {64: 12.0, 32: 5.0}
    assert budget.expected(decoding=True) == {64: 15.0, 32: 6.0}
    earlier = saved_budget([replace(one, stages=None) for one in rows], [64, 32])
    assert earlier is not None
    assert earlier.expected(decoding=True) == {64: 12.0, 32: 5.0}


def test_stages_are_kept_in_the_table_and_tables_without_them_are_read(tmp_path: Path) -> None:
    path = tmp_path / "last.latency.json"
    update_entries(path, [entry(HERE, row(64, 7.0, stages=Stages(decode=3.0, network=7.0)))])
    (held,) = read_entries(path)
    assert held.rows[0].stages == Stages(decode=3.0, network=7.0)
    assert held.rows[0].decode_ms == 3.0
    earlier = json.loads(path.read_text(encoding="utf-8"))
    assert earlier["format"] == 1
    del earlier["entries"][0]["rows"][0]["stages"]
    path.write_text(json.dumps(earlier), encoding="utf-8")
    (held,) = read_entries(path)
    assert (held.rows[0].stages, held.rows[0].decode_ms) == (None, 0.0)


def test_photo_that_is_drawn_takes_as_many_bytes_as_one_of_a_camera() -> None:
    with Pictures.open(BytesIO(drawn_photo())) as picture:
        assert (picture.format, picture.size) == ("JPEG", PHOTO_SIZE[::-1])
    assert 30_000 < len(drawn_photo()) < 120_000
