"""What the doctor measures: made-up control groups, processors, folders and networks are seen."""

from __future__ import annotations

import errno
import os
import socket
import time
import warnings
from pathlib import Path

import pytest
import torch

from rsseg.doctor import measures


def test_warning_of_torch_becomes_the_complaint(monkeypatch: pytest.MonkeyPatch) -> None:
    def unusable() -> bool:
        warnings.warn("CUDA: driver is too old. Update it (Triggered at x.cpp:1)", stacklevel=1)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", unusable)
    measured = measures.measured_cuda()  # A warning that came through would be an error here.
    assert (measured.complaint, measured.devices) == ("CUDA: driver is too old", ())


GROUPS = {
    "none": ({}, float("inf")),
    "v2": ({"": "0::/a/b", "a/b/cpu.max": "150000 100000"}, 1.5),
    "v2, unlimited": ({"": "0::/a", "a/cpu.max": "max 100000"}, float("inf")),
    "v2, limited above": ({"": "0::/a/b", "a/b/cpu.max": "max 9", "a/cpu.max": "300 100"}, 3),
    "v2, in a container": ({"": "0::/docker/1", "cpu.max": "50000 100000"}, 0.5),
    "v2, beside v1": ({"": "1:name=x:/\n0::/", "unified/cpu.max": "40 10"}, 4),
    "v1": (
        {"": "3:memory:/m\n2:cpu,cpuacct:/a", "cpu,cpuacct/a/cpu.cfs_quota_us": "200000\n"}
        | {"cpu,cpuacct/a/cpu.cfs_period_us": "100000\n"},
        2,
    ),
    "v1, unlimited": ({"": "1:cpu:/", "cpu/cpu.cfs_quota_us": "-1"}, float("inf")),
}


@pytest.mark.parametrize(("files", "cores"), GROUPS.values(), ids=GROUPS)
def test_quota_of_control_groups(files: dict[str, str], cores: float, tmp_path: Path) -> None:
    for name, text in files.items():
        path = tmp_path / "sys/fs/cgroup" / name if name else tmp_path / "proc/self/cgroup"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert measures.cpu_quota(tmp_path) == cores
    usable = measures.usable_cores(tmp_path)
    assert 1 <= usable <= (os.cpu_count() or 1)
    assert usable < cores + 1


def test_processor_tells_of_bf16(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    for flags, there in (("fma avx512_bf16", True), ("fma avx512f", False)):
        (tmp_path / "proc/cpuinfo").write_text(f"flags\t: {flags}\n")
        assert measures.cpu_has_bf16(tmp_path) is there
    assert measures.cpu_has_bf16(tmp_path / "nowhere") is False


def test_temporary_folder_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert measures.temporary_folder() == (str(tmp_path), "")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("TMPDIR", str(tmp_path / "gone"))
    assert measures.temporary_folder() == (str(tmp_path / "gone"), os.strerror(errno.ENOENT))


def test_what_does_not_answer_is_not_waited_for() -> None:
    def slow() -> str:
        time.sleep(2)
        return "late"

    begin = time.perf_counter()
    assert measures.within(0.05, slow, "no answer") == "no answer"
    assert time.perf_counter() - begin < 1
    assert measures.within(5, lambda: "at once", "no answer") == "at once"


def test_name_without_address_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> str:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "gethostbyname", unknown)
    assert measures.address_of("node7") is None


def test_unreadable_data_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert measures.unreadable(tmp_path) == "the folder is empty"
    path = tmp_path / "x.mat"
    assert measures.unreadable(path) == os.strerror(errno.ENOENT)
    path.touch()
    assert measures.unreadable(path) == "the file is empty"
    path.write_text("x")
    assert measures.unreadable(path) == measures.unreadable(tmp_path) == ""

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert measures.unreadable(path) == "Permission denied"
