"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import os
from contextlib import nullcontext
from pathlib import Path

import pytest

from rsseg.common.files import sync, written_whole


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_file_appears_under_its_name_when_the_block_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    with written_whole(path) as temporary:
        temporary.write_text("new")
        assert temporary.suffix == ".png"
        assert not path.exists()
    assert path.read_text() == "new"
    assert names(tmp_path) == ["x.png"]


def write_half(path: Path, error: BaseException) -> None:
    with written_whole(path) as temporary:
        temporary.write_text("half")
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("no"), OSError("no")])
def test_interruption_and_errors_keep_the_file_before(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "x.png"
    path.write_text("old")
    with pytest.raises(type(error)):
        write_half(path, error)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["x.png"]


def test_full_disk_and_missing_folder_name_the_file(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with (
        pytest.raises(OSError, match=r"cannot write .*/x\.png: No space left"),
        written_whole(tmp_path / "x.png"),
    ):
        raise full
    path = tmp_path / "nowhere" / "x.png"
    with (
        pytest.raises(OSError, match=r"cannot write .*nowhere/x\.png: No such file"),
        written_whole(path) as temporary,
    ):
        temporary.write_text("new")


def test_bytes_are_on_the_disk_before_the_name_and_then_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, seen = tmp_path / "x.json", []
    fsync = os.fsync

    def watched(handle: int) -> None:
        seen.append((os.fstat(handle).st_ino, path.exists()))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", watched)
    with written_whole(path) as temporary:
        temporary.write_text("new")
    assert seen == [(path.stat().st_ino, False), (tmp_path.stat().st_ino, True)]


@pytest.mark.parametrize(("number", "told"), [(errno.EINVAL, False), (errno.EIO, True)])
def test_disk_that_refuses_is_told_and_one_that_cannot_wait_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, told: bool
) -> None:
    def refuse(handle: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="Input/output error") if told else nullcontext():
        sync(tmp_path)
