"""Starts processes that have imported the project already, connected as torchrun connects them.

Importing takes seconds, most tests less: one server per test process imports once, and every
process here is forked from it. Nothing has been computed in the server, so that a process begins
as one of its own interpreter does.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 300  # Only a process that hangs takes so long, on a slow machine too.
PRELOADED = ["train_cls", "train_seg", "rsseg.cli.main", "tests.helpers.distributed_job"]

Main = Callable[..., Any]


def forkserver() -> ForkServerContext:
    """Return the context whose processes have imported the project."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def environment() -> dict[str, str]:
    """Return the environment of a new interpreter that finds the project and takes one core."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def free_port() -> int:
    """Return a port that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True)
class Started:
    """A process that was started, and the file that all it prints goes to."""

    process: ForkServerProcess
    output: Path

    @property
    def printed(self) -> str:
        """What it has printed so far."""
        return self.output.read_text(encoding="utf-8")


def start(main: Main, arguments: Sequence[object], folder: Path, count: int = 1) -> list[Started]:
    """Start so many processes of `main(arguments)`, whose result is their exit status.

    Args:
        main: A function of a module, as multiprocessing asks.
        arguments: What it would find on a command line.
        folder: Where the files with the processes' output are written.
        count: Number of processes.
    """
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(count)}
    started = []
    for rank in range(count):
        place = {**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        output = folder / f"output{rank}.txt"
        output.touch()
        process = forkserver().Process(
            target=_run, args=(main, [*map(str, arguments)], place, output)
        )
        process.start()
        started.append(Started(process, output))
    return started


def finish(started: Sequence[Started], seconds: float = SECONDS) -> list[int | None]:
    """Wait for processes; return their exit statuses. Those that hang are killed."""
    end = time.monotonic() + seconds
    try:
        for one in started:
            one.process.join(max(0.0, end - time.monotonic()))
    finally:
        for one in started:
            one.process.kill()
            one.process.join()
    return [one.process.exitcode for one in started]


def _run(main: Main, arguments: list[str], variables: dict[str, str], output: Path) -> None:
    with output.open("a", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.update(variables)
    torch.set_num_threads(1)
    sys.exit(main(arguments))
