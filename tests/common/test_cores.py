"""Facts about rsseg/common/cores.py: as many threads as PyTorch takes, loaded or not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rsseg.common import cores
from tests.helpers.processes import ROOT, environment

CODE = """
from rsseg.common.cores import default_threads
ours = default_threads()
import torch
print(ours, torch.get_num_threads(), default_threads())
"""


@pytest.mark.parametrize("setting", [None, "1"])
def test_threads_are_those_that_pytorch_takes(setting: str | None) -> None:
    variables = {name: v for name, v in environment().items() if name != "OMP_NUM_THREADS"}
    variables |= {"OMP_NUM_THREADS": setting} if setting else {}
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        cwd=ROOT,
        env=variables,
        capture_output=True,
        text=True,
        check=True,
    )
    ours, theirs, later = done.stdout.split()
    assert ours == theirs == later


def test_threads_of_pytorch_count_where_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    assert cores.default_threads() == 7
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setenv("OMP_NUM_THREADS", "3,2")
    assert cores.default_threads() == 3


def test_hyperthreads_of_a_core_count_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for number in range(4):
        folder = tmp_path / f"cpu{number}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{number % 2},{number % 2 + 2}\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    assert cores._physical_cores(tmp_path) == 2
    assert cores._physical_cores(tmp_path / "none") == 4
