"""Worker processes: they outlive a signal to the whole run, and never the script that is over."""

from __future__ import annotations

import multiprocessing
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

import train_seg
from datasets.workers import start_worker

SCRIPT = """
import torch
from torch.utils.data import Dataset
from datasets.faults import Faults
from datasets.loader import TestLoader, TrainLoader
from rsseg.images.preprocessing import Preprocessing

class Views(Dataset):
    def __len__(self):
        return 40
    def __getitem__(self, draw):
        return [torch.zeros(3, 8, 8, dtype=torch.uint8)], torch.tensor(0)

train = TrainLoader(Views(), 4, seed=0, workers=2)
test = TestLoader(Views(), Preprocessing(), batch_size=4, workers=2, faults=Faults(0))
for step, batch in enumerate({batches}):
    if step == {last}:
        break
print("done")
"""


@pytest.mark.parametrize(
    ("batches", "last"), [("train.epoch(0)", 99), ("train.epoch(0)", 2), ("test", 99), ("test", 2)]
)
def test_script_over_a_loader_ends_soon_and_without_a_word(batches: str, last: int) -> None:
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(batches=batches, last=last)],
        cwd=Path(train_seg.__file__).parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
    assert time.monotonic() - start < 18  # less than a worker lives on after a signal


def _wait(grace: float) -> None:
    start_worker(0, grace=grace)
    time.sleep(60)


@contextmanager
def waiting_worker(grace: float) -> Iterator[BaseProcess]:
    process = multiprocessing.get_context("fork").Process(target=_wait, args=(grace,), daemon=True)
    process.start()
    time.sleep(0.5)
    yield process
    process.kill()
    process.join()


def send_from_elsewhere(process: BaseProcess, number: signal.Signals) -> None:
    subprocess.run(["kill", f"-{number.value}", str(process.pid)], check=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_worker_outlives_a_signal_to_the_whole_run_until_its_own_process_ends_it(
    number: signal.Signals,
) -> None:
    with waiting_worker(grace=60) as worker:
        for _ in range(2):
            send_from_elsewhere(worker, number)
        worker.join(0.5)
        assert worker.is_alive()
        worker.terminate()
        worker.join(10)
        assert worker.exitcode == 0


def test_worker_that_nobody_ends_ends_itself_after_its_grace_without_an_error() -> None:
    with waiting_worker(grace=1) as worker:
        send_from_elsewhere(worker, signal.SIGTERM)
        worker.join(0.3)
        assert worker.is_alive()
        worker.join(10)
        assert worker.exitcode == 0
