"""At every moment a run has a whole checkpoint under a known name, and finds it again."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rsseg.common.checkpoint import CheckpointError, read_checkpoint, write_checkpoint
from rsseg.training.loop import Training
from rsseg.training.run_folder import RunFolder, check_unused
from tests.helpers.small_runs import assert_equal, small_job, small_metadata


class Killed(BaseException):
    """Ends a process in a test, as nothing in the code can catch it."""


def content(step: int) -> dict[str, Any]:
    return {"metadata": {}, "step": step, "net": {"weight": torch.full((9,), float(step))}}


def saved(path: Path, count: int) -> RunFolder:
    """A folder with the last of so many checkpoints, counted from 1."""
    path.mkdir(exist_ok=True)
    folder = RunFolder(path)
    for step in range(1, count + 1):
        folder.save(folder.last, content(step))
    return folder


def steps(folder: RunFolder) -> list[int]:
    return [read_checkpoint(path)["step"] for path in (folder.last, folder.previous)]


def names(folder: RunFolder) -> list[str]:
    return sorted(path.name for path in folder.path.iterdir())


def damage(path: Path) -> None:
    """Change one byte of the weights."""
    weights = torch.full((9,), float(read_checkpoint(path)["step"])).numpy().tobytes()
    changed = path.read_bytes().replace(weights, weights[:-1] + b"!")
    path.unlink()  # It may share its bytes with another name.
    path.write_bytes(changed)


def refuse(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_checkpoint_before_the_last_is_kept(tmp_path: Path) -> None:
    folder = saved(tmp_path, 1)
    assert names(folder) == ["last.pt"]
    folder.save(folder.last, content(2))
    assert steps(folder) == [2, 1]
    folder.save(folder.best, content(9))
    folder.save(folder.last, content(3))
    assert steps(folder) == [3, 2]
    assert names(folder) == ["best.pt", "last.pt", "previous.pt"]


def test_file_system_without_hard_links_gets_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", refuse)
    folder = saved(tmp_path, 3)
    assert steps(folder) == [3, 2]
    assert names(folder) == ["last.pt", "previous.pt"]


CALLS = ("fsync", "link", "replace", "rename", "unlink")


def killed_at(monkeypatch: pytest.MonkeyPatch, call: int, *, after: bool) -> None:
    """Stop at the call with this number that changes something on the disk."""
    done = 0

    def watched(act: Callable[..., Any]) -> Callable[..., Any]:
        def do(*args: Any, **options: Any) -> Any:
            nonlocal done
            done += 1
            number = done
            if number == call and not after:
                raise Killed
            try:
                return act(*args, **options)
            finally:
                if number == call and after:
                    raise Killed

        return do

    for name in CALLS:
        monkeypatch.setattr(os, name, watched(getattr(os, name)))
    monkeypatch.setattr(torch, "save", watched(torch.save))
    monkeypatch.setattr(shutil, "copyfile", watched(shutil.copyfile))


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("linked", [True, False])
def test_process_killed_at_any_call_leaves_a_whole_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool, linked: bool
) -> None:
    calls = 0
    while True:
        calls += 1
        folder = saved(tmp_path / str(calls), 2)
        with monkeypatch.context() as patch:
            if not linked:
                patch.setattr(os, "link", refuse)
            killed_at(patch, calls, after=after)
            try:
                folder.save(folder.last, content(3))
                break
            except Killed:
                pass
        assert steps(folder) in ([2, 1], [2, 2], [3, 2])
        reopened = RunFolder(folder.path)
        assert reopened.read_last()[1] == folder.last
        reopened.save(folder.last, content(4))
        assert steps(folder) in ([4, 2], [4, 3])
        assert names(folder) == ["last.pt", "previous.pt"]
    assert calls > 6


def test_half_written_file_is_neither_read_nor_kept(tmp_path: Path) -> None:
    folder = saved(tmp_path, 2)
    for name in ("last.pt.part", "previous.pt.part", "best.pt.part"):
        (tmp_path / name).write_bytes(folder.last.read_bytes()[:-9])
    assert folder.read_last()[0]["step"] == 2
    folder.save(folder.last, content(3))
    assert names(folder) == ["last.pt", "previous.pt"]


@pytest.mark.parametrize("harm", [damage, Path.unlink])
def test_broken_last_checkpoint_falls_back_and_says_so(
    tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    folder = saved(tmp_path, 2)
    harm(folder.last)
    assert folder.has_begun()
    with pytest.warns(
        UserWarning, match=r"/last\.pt.*; .*/previous\.pt, the checkpoint before, is"
    ):
        read, path = folder.read_last()
    assert (read["step"], path) == (1, folder.previous)
    # The broken one does not take the place of the whole one.
    folder.save(folder.last, content(3))
    assert steps(folder) == [3, 1]
    folder.save(folder.last, content(4))
    assert steps(folder) == [4, 3]


def test_two_broken_checkpoints_are_both_named(tmp_path: Path) -> None:
    folder = saved(tmp_path, 2)
    damage(folder.last)
    damage(folder.previous)
    with pytest.raises(CheckpointError) as caught:
        folder.read_last()
    message = str(caught.value)
    fault = "is not an rsseg checkpoint, or is damaged (Bad CRC-32"
    assert message.startswith(f"{folder.last} {fault}")
    assert f", and {folder.previous} {fault}" in message
    assert message.endswith(
        "; copy best.pt to last.pt to continue from there, or start the run again in another folder"
    )


def test_folder_without_a_checkpoint_has_not_begun(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert not folder.has_begun()
    with pytest.raises(
        CheckpointError, match=r"there is no checkpoint .*last\.pt, and there is no"
    ):
        folder.read_last()
    # Killed while it wrote its first checkpoint.
    (tmp_path / "last.pt.part").touch()
    check_unused(tmp_path)


def test_run_goes_on_from_the_checkpoint_before_and_ends_the_same(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    Training(small_job(), folder).fit()
    end = read_checkpoint(folder.last)
    folder.last.write_bytes(b"")
    warning = r"last\.pt is not .*or is damaged \(it is empty\); .*previous\.pt, the checkpoint"
    with pytest.warns(UserWarning, match=warning):
        training = Training.resume(small_job(), folder)
    training.fit()
    again = read_checkpoint(folder.last)
    for read in (end, again):
        read["progress"].pop("seconds")
    assert_equal(again, end)


def test_run_on_other_data_names_the_file_that_was_read(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    Training(small_job(), folder).fit()
    folder.last.unlink()
    job = small_job(metadata=small_metadata(data={"images": "others"}))
    with (
        pytest.warns(UserWarning, match="there is no checkpoint"),
        pytest.raises(
            CheckpointError, match=r"previous\.pt was trained on other data: {}, given is {'images'"
        ),
    ):
        Training.resume(job, folder)


def test_checkpoint_without_a_previous_name_keeps_none(tmp_path: Path) -> None:
    for step in (1, 2):
        write_checkpoint(tmp_path / "last.pt", content(step))
    assert names(RunFolder(tmp_path)) == ["last.pt"]


def test_network_without_a_run_cannot_be_continued(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    net = small_job().net.state_dict()
    write_checkpoint(folder.last, {"metadata": {}, "net": net})
    with pytest.raises(CheckpointError, match=r"last\.pt holds a network to use and nothing to"):
        Training.resume(small_job(), folder)
