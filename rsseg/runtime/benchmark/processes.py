"""Measuring a file in processes of its own: one for times, one for the memory of each resolution.

A process that has run something else has threads, caches and memory that would take part. Run as a
program this module is such a process; it prints what it has measured as JSON.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from rsseg.images.preprocessing import Preprocessing
from rsseg.runtime.budget.measure import drawn_image, measure
from rsseg.runtime.budget.table import Row
from rsseg.runtime.predictor import Predictor, timer
from rsseg.runtime.stages import Stages, medians

# For the environment of a process that measures: glibc's malloc then takes every larger block from
# the system and gives it back, so that what is held is what is needed.
EXACT: Final = {"MALLOC_MMAP_THRESHOLD_": "65536"}
_RUNTIMES: Final = {"executorch": "executorch.runtime"}  # by executor, where named otherwise

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resident() -> int:
    """Return the bytes that this process holds; where the system does not tell, its peak."""
    return _status("VmRSS") or peak()


def peak() -> int:
    """Return the most bytes that this process has held since `forget_peak`."""
    # Where there is a choice not from getrusage: a child begins with the peak of its parent.
    unit = 1 if sys.platform == "darwin" else 1024
    return _status("VmHWM") or unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def forget_peak() -> None:
    """Return free memory to the system, and reset the peak to what remains, where it can."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # Other libraries than glibc have none.
    if trim is not None:
        trim(0)
    # Where this cannot be done the peak so far remains, and what is measured is too large.
    with contextlib.suppress(OSError):
        _CLEAR.write_text("5", encoding="ascii")


def _status(name: str) -> int:
    if not _STATUS.exists():
        return 0
    lines = _STATUS.read_text(encoding="utf-8").splitlines()
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(name)), 0)


_MEMORY_RUNS = 3


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is measured.

    Args:
        path: A checkpoint or an exported file.
        executor: Name of the executor.
        threads: Threads that compute one image.
        device: Where PyTorch computes.
        allow_builder: See `rsseg.load_checkpoint`.
    """

    path: str
    executor: str
    threads: int
    device: str = "cpu"
    allow_builder: bool = False

    def open(self) -> Predictor:
        """Open the file."""
        return Predictor.open(
            self.path,
            self.executor,
            threads=self.threads,
            device=self.device,
            allow_builder=self.allow_builder,
        )


def measure_times(subject: Subject, resolutions: Sequence[int] | None, *, runs: int) -> list[Row]:
    """Time predictions in a process of their own.

    Args:
        subject: What is measured.
        resolutions: Sides of the views in pixels; default: those of the file. Of a file with a
            single resolution only that one is measured.
        runs: Predictions that are timed at each resolution.

    Raises:
        ValueError: If the file cannot be used, or not at one of the resolutions.
    """
    sides = None if resolutions is None else list(resolutions)
    return [Row(**row) for row in _run_process(subject, {"resolutions": sides, "runs": runs})]


def measure_memory(subject: Subject, resolution: int) -> int:
    """Measure in a process of its own the bytes that predictions at a resolution need.

    That is the peak while it predicts above what was held before the file was opened, with all
    libraries loaded: weights, and what the network computes. The peak while it reads the file is
    not counted.

    Raises:
        ValueError: If the file cannot be used, or not at this resolution.
    """
    return int(_run_process(subject, {"memory": resolution}, EXACT))


def _run_process(
    subject: Subject, question: dict[str, Any], environment: dict[str, str] | None = None
) -> Any:
    """Return what a process of its own measures."""
    places = [str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")]
    process = subprocess.run(
        [sys.executable, "-m", __name__, json.dumps(asdict(subject) | question)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, places)),
            **(environment or {}),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode:
        lines = process.stderr.strip().splitlines() or [f"status {process.returncode}"]
        raise ValueError(f"{subject.path} with {subject.executor}: {lines[-1]}")
    return json.loads(process.stdout.splitlines()[-1])


def _times(subject: Subject, resolutions: Sequence[int] | None, runs: int) -> list[Row]:
    predictor = subject.open()
    sides = list(predictor.resolutions if resolutions is None else resolutions)
    if predictor.description.layout != "all":
        sides = [side for side in sides if side in predictor.resolutions]
    return [
        Row(
            resolution=side,
            median_ms=round(float(np.median(times.whole)), 3),
            p95_ms=round(float(np.percentile(times.whole, 95)), 3),
            network_ms=round(float(np.median(times.network)), 3),
            stages=Stages(**medians(times.stages).rounded(3)),
        )
        for side, times in measure(timer(predictor), sides, runs=runs).items()
    ]


def _memory(subject: Subject, resolution: int) -> int:
    image = drawn_image()
    importlib.import_module(_RUNTIMES.get(subject.executor, subject.executor))
    Preprocessing().normalise(Preprocessing().view(image, resolution))  # Its code is loaded late.
    forget_peak()
    before = resident()
    predictor = subject.open()
    device = predictor.executor.device
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
    forget_peak()
    for _ in range(_MEMORY_RUNS):
        predictor.predict(image, resolution)
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    return peak() - before


def main(argument: str) -> int:
    """Measure what the parent process asks for, and print it."""
    request = json.loads(argument)
    subject = Subject(**{name: request[name] for name in Subject.__dataclass_fields__})
    try:
        if "memory" in request:
            print(json.dumps(_memory(subject, request["memory"])))
        else:
            rows = _times(subject, request["resolutions"], request["runs"])
            print(json.dumps([asdict(row) for row in rows]))
    except (ValueError, OSError, ImportError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    return 0


def with_memory(subject: Subject, row: Row) -> Row:
    """Add its memory to what was measured at a resolution."""
    return replace(row, peak_bytes=measure_memory(subject, row.resolution))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
