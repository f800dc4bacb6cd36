"""A full disk stops a run with a clear message, and takes nothing of what was written before."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from rsseg.common.checkpoint import CheckpointError
from rsseg.common.files import write_whole
from rsseg.training.interrupt import Interrupted
from rsseg.training.loop import Training
from rsseg.training.run_folder import RunFolder
from tests.helpers.small_runs import small_job, stop_after
from tests.training.test_checkpoint_previous import content, names, refuse, saved, steps


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_disk_that_is_full_at_the_last_moment_keeps_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    folder = saved(tmp_path, 2)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        with pytest.raises(CheckpointError, match=r"No space left .* MiB free .* is kept: .*last"):
            folder.save(folder.last, content(3))
    assert steps(folder) in ([2, 1], [2, 2])
    assert names(folder) == ["last.pt", "previous.pt"]


@contextmanager
def limited_files(size: int) -> Iterator[None]:
    """Let the system stop every file that grows beyond so many bytes, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_file_that_the_system_stops_in_the_middle_keeps_the_old_one(tmp_path: Path) -> None:
    folder = saved(tmp_path, 2)
    write_whole(tmp_path / "results.json", "old")
    with limited_files(100_000):
        with pytest.raises(
            CheckpointError, match=r"cannot write .*last\.pt: .* is kept: .*last\.pt"
        ):
            folder.save(folder.last, {"net": torch.ones(100_000)})
        with pytest.raises(OSError, match=r"cannot write .*results\.json: File too large"):
            write_whole(tmp_path / "results.json", "x" * 200_000)
    assert steps(folder) == [2, 1]
    assert names(folder) == ["last.pt", "previous.pt", "results.json"]
    assert (tmp_path / "results.json").read_text() == "old"


def test_run_on_a_full_disk_stops_and_can_be_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(monkeypatch, 2)
    folder = RunFolder(tmp_path)
    with pytest.raises(Interrupted):
        Training(small_job(), folder).fit()
    stop_after(monkeypatch, None)
    before = folder.last.read_bytes()
    with limited_files(5000), pytest.raises(CheckpointError, match=r"MiB free .* is kept: .*last"):
        Training.resume(small_job(), folder).fit()
    assert folder.last.read_bytes() == before
    Training.resume(small_job(), folder).fit()
