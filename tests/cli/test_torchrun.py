"""The training scripts under torchrun: one run, one that writes, and what happens to the rest."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import train_cls
from rsseg.common.distributed import joined
from tests.helpers import dying_run, processes
from tests.helpers.processes import ROOT
from tests.helpers.small_images import write_run
from tests.helpers.small_scripts import results

DYING = ROOT / "tests" / "helpers" / "dying_run.py"
SYNCHRONISED = ("--set", "sync_batchnorm=true")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("images"), epochs=2)


def logged(folder: Path) -> list[dict[str, Any]]:
    """Read the losses of log.jsonl."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if "total" in line]


def train(arguments: Sequence[str]) -> int:
    """Run the script in a process of its own."""
    return train_cls.main(arguments)


def test_run_of_two_processes_is_that_of_one(config: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    # One step an epoch, and small ones: else rounding grows with every step of so small a run.
    slow = ["--set", "optim.lr=1e-3", "batch_size=12"]
    assert train_cls.main([str(config), "--run", str(one), *slow]) == 0
    command = [config, "--run", two, *slow, *SYNCHRONISED]
    first, second = processes.start(train, command, tmp_path, 2)
    assert processes.finish([first, second]) == [0, 0], first.printed + second.printed
    assert first.printed.count("resolution") == 1
    assert second.printed == ""  # All is told by the first.
    assert [line["step"] for line in logged(two)] == [line["step"] for line in logged(one)]
    for ours, single in zip(logged(two), logged(one), strict=True):
        assert ours == pytest.approx(single, rel=1e-4)
    for name, row in results(two)["metrics"].items():
        assert row["images"] == results(one)["metrics"][name]["images"]
    # Its checkpoint is one of any run: a single process evaluates it.
    checkpoint = str(two / "last.pt")
    assert train_cls.main(["--evaluate", checkpoint, "--out", str(tmp_path / "again")]) == 0
    assert results(tmp_path / "again")["metrics"] == results(two)["metrics"]


def test_process_that_lost_another_says_so_soon(config: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    arguments = [mark, config, "--run", tmp_path / "run", "--set", "timeout_minutes=1"]
    first, second = processes.start(dying_run.main, arguments, tmp_path, 2)
    assert processes.finish([first, second]) == [2, -9], first.printed + second.printed
    waited = time.time() - mark.stat().st_mtime
    last = first.printed.strip().splitlines()[-1]
    assert last.startswith("error: process 0 of 2 stops: another process died or did not answer")
    assert waited < 90  # Seconds; it says so at once, or after the minute that it was given.
    # What was saved is whole, and a single process can go on with it.
    assert train_cls.main(["--resume", str(tmp_path / "run")]) == 0
    assert results(tmp_path / "run")["epoch"] == 2


def torchrun(
    options: Sequence[str], arguments: Sequence[object]
) -> subprocess.CompletedProcess[str]:
    """Run a script by torchrun with two processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return subprocess.run(
        [*command, *options, "--", *map(str, arguments)],
        cwd=processes.ROOT,
        env=processes.environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.slow
def test_torchrun_starts_a_run_again_that_lost_a_process(config: Path, tmp_path: Path) -> None:
    script = [tmp_path / "mark", config, "--run", tmp_path / "run", "--continue", *SYNCHRONISED]
    done = torchrun(["--max-restarts=2"], [DYING, *script])
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "mark").exists()
    other = tmp_path / "other"
    undisturbed = torchrun([], ["train_cls.py", config, "--run", other, *SYNCHRONISED])
    assert undisturbed.returncode == 0, undisturbed.stderr
    states = [torch.load(run / "last.pt")["net"] for run in (tmp_path / "run", other)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[1])


@pytest.mark.slow
def test_two_machines_meet_again_after_one_has_lost_a_process(config: Path, tmp_path: Path) -> None:
    port = processes.free_port()
    meeting = ["--nnodes=2", "--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}"]
    command = [sys.executable, "-m", "torch.distributed.run", *meeting, "--nproc-per-node=1"]
    script = [tmp_path / "mark", config, "--run", tmp_path / "run", "--continue", *SYNCHRONISED]
    machines = [
        subprocess.Popen(
            [*command, "--rdzv-id=a", "--max-restarts=2", "--", *map(str, [DYING, *script])],
            cwd=processes.ROOT,
            env=processes.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]
    try:
        printed = [machine.communicate(timeout=300)[0] for machine in machines]
    finally:
        for machine in machines:
            machine.kill()
    assert [machine.returncode for machine in machines] == [0, 0], "".join(printed)
    assert (tmp_path / "mark").exists()
    assert results(tmp_path / "run")["epoch"] == 2


def test_same_command_begins_a_run_and_continues_it(config: Path, tmp_path: Path) -> None:
    command = [str(config), "--run", str(tmp_path / "run"), "--continue", "--set", "epochs=1"]
    assert train_cls.main(command) == 0
    (tmp_path / "run" / "results.json").unlink()  # A run that is complete only reads them.
    state = torch.load(tmp_path / "run" / "last.pt")
    state["progress"]["evaluated"] = 0
    torch.save(state, tmp_path / "run" / "last.pt")
    assert train_cls.main([*command, "workers=0"]) == 0
    assert results(tmp_path / "run")["epoch"] == 1


def test_measuring_under_torchrun_is_refused(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    assert train_cls.main([str(config), "--estimate"]) == 2
    assert "measure one process; leave out torchrun" in capsys.readouterr().err


def test_process_that_nobody_meets_says_where_it_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    place = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    with (
        pytest.raises(ValueError, match=r"process 1 of 2 cannot join the others at 127\.0\.0\.1:1"),
        joined(torch.device("cpu"), minutes=0.02),
    ):
        pass


def test_compression_without_other_processes_is_refused_before_a_folder_is_made(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    command = [str(config), "--run", str(run), "--set", "gradient_compression=bf16"]
    assert train_cls.main(command) == 2
    assert "this run has one; set gradient_compression=none" in capsys.readouterr().err
    assert not run.exists()
