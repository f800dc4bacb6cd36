"""A run that is killed again and again ends as if nothing had happened."""

from __future__ import annotations

import io
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch

import train_cls
from rsseg.common import checkpoint
from rsseg.common.checkpoint import read_checkpoint
from rsseg.common.files import move_whole
from rsseg.training.run_folder import RunFolder
from tests.helpers import processes
from tests.helpers.small_images import write_run
from tests.helpers.small_runs import assert_runs_are_equal

SECONDS = 120
# One checkpoint after every step: most of the time of a run goes into writing them.
OFTEN = "checkpoint_minutes=1e-9"


@dataclass(frozen=True)
class Moment:
    """When a process is killed.

    Args:
        event: "writing" for a checkpoint that begins to be written, "logged" for a new line of the
            log, "started" for the process itself.
        count: How many of these events are waited for.
        delay: Seconds after the last of them.
    """

    event: str
    count: int
    delay: float

    @classmethod
    def drawn(cls, draw: random.Random) -> Moment:
        event = draw.choice(["writing", "writing", "logged", "started"])
        count = draw.randint(1, 6) if event == "writing" else 1
        return cls(event, count, draw.uniform(0, 10 if event == "started" else 0.2))


def train(config: Path, folder: Path) -> None:
    """Begin or continue the run, as the command line does."""
    torch.set_num_threads(1)
    command = [str(config), "--run", str(folder), "--continue", "--set", OFTEN]
    sys.exit(train_cls.main(command))


class Life:
    """One process of a run, from its start until it is killed or has come to the end.

    Args:
        config: The configuration of the run.
        folder: Where it is written.
    """

    def __init__(self, config: Path, folder: Path) -> None:
        self.folder = folder
        self.begin = time.time()
        self.lines = self._lines()
        context = multiprocessing.get_context("spawn")
        self.process: Any = context.Process(target=train, args=(config, folder))
        self.process.start()

    def end(self) -> None:
        """Let the process come to its end."""
        self.process.join(SECONDS)
        assert self.process.exitcode == 0

    def kill(self, moment: Moment) -> None:
        """Kill the process at a moment."""
        for number in range(moment.count):
            if moment.event == "writing":
                self._wait(lambda: not self.writes)
                self._wait(lambda: self.writes)
            elif moment.event == "logged":
                self._wait(partial(self._has_logged, number + 1))
        time.sleep(moment.delay)
        self.process.kill()
        self.process.join(SECONDS)
        assert self.process.exitcode == -signal.SIGKILL, f"the run was over before {moment}"

    def _wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + SECONDS
        while self.process.is_alive() and not condition():
            assert time.monotonic() < deadline
            time.sleep(0.002)

    @property
    def writes(self) -> bool:
        """Whether the process writes a checkpoint, or did so when it was killed."""
        # Not what the process before has left behind.
        return any(_changed(path) > self.begin for path in self.folder.glob("*.pt.part"))

    def _has_logged(self, count: int) -> bool:
        return self._lines() >= self.lines + count

    def _lines(self) -> int:
        path = self.folder / "log.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0


def check_readable(folder: RunFolder) -> None:
    """Check that a run can be continued from its last file, and that no file is a broken one."""
    _, path = folder.read_last()  # With a warning, here an error, if last.pt is broken.
    assert path == folder.last
    for other in (folder.previous, folder.best):
        if other.exists():
            read_checkpoint(other)


def log(folder: RunFolder) -> list[str]:
    """Give the lines of the log; what was logged and then lost is there twice, and counts once."""
    return list(dict.fromkeys((folder.path / "log.jsonl").read_text().splitlines()))


def check_end(undisturbed: RunFolder, killed: RunFolder) -> None:
    """Check that a run that was killed has ended as the other."""
    assert_runs_are_equal(undisturbed.path, killed.path)
    assert log(undisturbed) == log(killed)
    assert not list(killed.path.glob("*.part"))


def train_until(arguments: Sequence[str]) -> int:
    """Train, and kill the own process at a call: `train_until([CALL, COUNT, COMMAND...])`.

    CALL is "save" for the writing of a checkpoint, of which half is written; "move" for the moment
    before a checkpoint, or the one before it, moves to its name; "log" for that behind a new line
    of the log; "never".
    """
    call, count, *command = arguments
    save, write = torch.save, RunFolder.log
    left = {call: int(count)}

    def kill(name: str) -> bool:
        left[name] = left.get(name, 0) - 1
        return left[name] == 0

    def save_half(content: Any, file: BinaryIO) -> None:
        buffer = io.BytesIO()
        save(content, buffer)
        if kill("save"):
            file.write(buffer.getvalue()[: buffer.tell() // 2])
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        file.write(buffer.getvalue())

    def move_never(temporary: Path, path: Path) -> None:
        if kill("move"):
            os.kill(os.getpid(), signal.SIGKILL)
        move_whole(temporary, path)

    def log_last(folder: RunFolder, entry: Mapping[str, Any]) -> None:
        write(folder, entry)
        if kill("log"):
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "save", save_half)
        patch.setattr(checkpoint, "move_whole", move_never)
        patch.setattr(RunFolder, "log", log_last)
        return train_cls.main(command)


def test_run_killed_while_it_writes_ends_as_if_it_was_not(tmp_path: Path) -> None:
    config = write_run(tmp_path, epochs=2)
    whole, folder = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "killed")

    def life(call: str, count: int, folder: RunFolder) -> int | None:
        command = [config, "--run", folder.path, "--continue", "--set", OFTEN]
        started = processes.start(train_until, [call, count, *command], tmp_path, 1)
        (status,) = processes.finish(started)
        return status

    for call, count in (("save", 1), ("save", 3), ("move", 1), ("move", 2), ("log", 1)):
        assert life(call, count, folder) == -signal.SIGKILL
        assert bool(list(folder.path.glob("*.pt.part"))) == (call != "log")
        if folder.has_begun():
            check_readable(folder)
    assert life("never", 0, folder) == life("never", 0, whole) == 0
    check_end(whole, folder)


@pytest.mark.slow
def test_run_killed_twenty_times_ends_as_if_it_was_not(tmp_path: Path) -> None:
    draw = random.Random(0)
    moments = [Moment.drawn(draw) for _ in range(20)]
    config, folder, hits = write_run(tmp_path, 20, model="resnet18"), tmp_path / "killed", 0
    undisturbed = Life(config, tmp_path / "whole")
    for moment in moments:
        begun = RunFolder(folder).has_begun()
        life = Life(config, folder)
        life.kill(moment)
        hits += life.writes
        if begun or RunFolder(folder).has_begun():
            check_readable(RunFolder(folder))
    Life(config, folder).end()
    undisturbed.end()
    check_end(RunFolder(undisturbed.folder), RunFolder(folder))
    print(f"{len(moments)} kills, {hits} of them while a checkpoint was written")
    assert hits >= 5
