"""Facts about measuring a file in a process of its own, and about the peak of memory."""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rsseg.runtime.benchmark import processes
from rsseg.runtime.benchmark import processes as measuring
from rsseg.runtime.benchmark.processes import Subject, measure_times
from tests.helpers.small_checkpoint import write_checkpoint
from tests.helpers.small_exported import description, small_net, write_onnx


def asked(subject: Subject, **question: Any) -> int:
    """Ask as the parent process does, in this one."""
    return measuring.main(json.dumps(asdict(subject) | question))


def test_process_of_its_own_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # It finds the library wherever it is started, and takes no folder of it for a package.
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    path = write_onnx(tmp_path / "all.onnx", small_net(), description())
    subject = Subject(path=str(path), executor="onnxruntime", threads=1)
    (measured,) = measure_times(subject, [32], runs=2)
    assert (measured.resolution, measured.peak_bytes) == (32, None)
    assert 0 < measured.network_ms <= measured.median_ms <= measured.p95_ms
    assert measured.stages is not None
    assert measured.stages.network == measured.network_ms
    assert min(measured.stages.decode, measured.stages.view) > 0


def test_what_the_process_finds_wrong_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    gone = Subject(path=str(tmp_path / "gone.onnx"), executor="onnxruntime", threads=1)
    assert asked(gone, resolutions=None, runs=1) == 2
    told = capsys.readouterr().err
    assert "there is no file" in told
    done = subprocess.CompletedProcess([], 2, stdout="", stderr=f"noise\n{told}")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    with pytest.raises(ValueError, match=r"gone\.onnx with onnxruntime: .*there is no file"):
        measure_times(gone, [32], runs=1)


def test_file_of_one_resolution_is_measured_at_that_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = description(layout="one", resolution=32)
    path = write_onnx(tmp_path / "32.onnx", small_net(), told)
    subject = Subject(path=str(path), executor="onnxruntime", threads=1)
    for resolutions, expected in ((None, [32]), ([64, 32], [32]), ([64], [])):
        assert asked(subject, resolutions=resolutions, runs=1) == 0
        rows = json.loads(capsys.readouterr().out)
        assert [row["resolution"] for row in rows] == expected


def test_memory_of_a_network_counts_its_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_checkpoint(tmp_path / "last.pt", "segmentation")
    weights = path.stat().st_size
    subject = Subject(path=str(path), executor="torch", threads=1)
    # Twice: what the first leaves behind for the second is not counted.
    for _ in range(2):
        assert asked(replace(subject), memory=32) == 0
        assert 0.9 * weights < json.loads(capsys.readouterr().out) < 4 * weights


def test_peak_counts_what_was_held_and_given_back() -> None:
    processes.forget_peak()
    before = processes.resident()
    block = np.ones(2**23)  # 64 MiB
    del block
    assert processes.peak() - before > 60 * 2**20
    processes.forget_peak()  # An allocator with room to spare keeps the block until then.
    assert processes.resident() - before < 30 * 2**20
