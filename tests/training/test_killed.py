"""A run that is killed again and again ends as if nothing had happened."""

from __future__ import annotations

import multiprocessing
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import train_cls
from rsseg.common.checkpoint import read_checkpoint
from rsseg.training.run_folder import RunFolder
from tests.helpers.small_images import write_run
from tests.helpers.small_runs import assert_runs_are_equal

SECONDS = 120
# One checkpoint after nearly every step: most of the time of such a run goes into writing them.
OFTEN = "checkpoint_minutes=0.0001"


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
        way: "spawn" for a new interpreter, "forkserver" for a copy of one that has imported all.
        config: The configuration of the run.
        folder: Where it is written.
    """

    def __init__(self, way: str, config: Path, folder: Path) -> None:
        self.folder = folder
        self.begin = time.time()
        self.lines = self._lines()
        context = multiprocessing.get_context(way)
        context.set_forkserver_preload([__name__])
        self.process: Any = context.Process(target=train, args=(config, folder))  # type: ignore[attr-defined]
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


def log(folder: Path) -> list[str]:
    """Give the lines of the log; what was logged and then lost is there twice, and counts once."""
    return list(dict.fromkeys((folder / "log.jsonl").read_text().splitlines()))


def kill_at(moments: Sequence[Moment], path: Path, *, way: str, epochs: int) -> int:
    """Kill a run at each moment, compare its end; return how many kills hit a checkpoint."""
    config, folder, hits = write_run(path, epochs), RunFolder(path / "killed"), 0
    undisturbed = Life(way, config, path / "whole")
    for moment in moments:
        begun = folder.has_begun()
        life = Life(way, config, folder.path)
        life.kill(moment)
        hits += life.writes
        if begun or folder.has_begun():
            check_readable(folder)
    Life(way, config, folder.path).end()
    undisturbed.end()
    assert_runs_are_equal(undisturbed.folder, folder.path)
    assert log(undisturbed.folder) == log(folder.path)
    assert not list(folder.path.glob("*.part"))
    return hits


def test_run_killed_while_it_writes_checkpoints_ends_as_if_it_was_not(tmp_path: Path) -> None:
    moments = [Moment("writing", 1, 0), Moment("writing", 2, 0.02), Moment("logged", 1, 0)]
    assert kill_at(moments, tmp_path, way="forkserver", epochs=2) >= 1


@pytest.mark.slow
def test_run_killed_twenty_times_ends_as_if_it_was_not(tmp_path: Path) -> None:
    draw = random.Random(0)
    moments = [Moment.drawn(draw) for _ in range(20)]
    hits = kill_at(moments, tmp_path, way="spawn", epochs=20)
    print(f"{len(moments)} kills, {hits} of them while a checkpoint was written")
    assert hits >= 5
