"""What a run will cost, from a few measured steps, and where the time of a step goes."""

from __future__ import annotations

import os
import resource
import sys
import time
from itertools import islice
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from rsseg.common.messages import counted
from rsseg.switchable.net import FORWARD
from rsseg.training.job import Job
from rsseg.training.state import Stepper

WARM_UP, MEASURED = 3, 5  # steps; the first ones allocate memory and choose algorithms
AHEAD = 2  # batches that each worker process reads in advance
PARTS = ("loss", "backward", "optimiser")


def wait_for_kernels() -> None:
    """Make every CUDA kernel end before the next one starts, so that each has its own time.

    To be called before the first use of a CUDA device.
    """
    os.environ.setdefault("CUDA_LAUNCH_BLOCKING", "1")


def profile_steps(job: Job, trace: Path) -> str:
    """Train a few steps of a job under torch's profiler.

    The network of the job is changed, and no run is written.

    Args:
        job: What is trained.
        trace: File for the trace, JSON, to be opened in chrome://tracing or Perfetto.

    Returns:
        Lines of text: the share of each part of a step.

    Raises:
        ValueError: If an epoch has too few steps.
    """
    if job.batches.steps <= WARM_UP:
        raise ValueError(
            f"an epoch has {counted(job.batches.steps, 'step')}, a profile needs more than "
            f"{WARM_UP}; lower "
            "batch_size or give more images"
        )
    device = next(job.net.parameters()).device
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    stepper = Stepper(job)
    batches = iter(job.batches.epoch(0))
    for _ in range(WARM_UP):
        stepper.step(*next(batches))
    # Batches that were read in advance would hide a slow loader.
    spare = max(0, job.batches.steps - WARM_UP - MEASURED)
    for _ in islice(batches, min(spare, 2 * job.config.workers)):
        pass
    steps, data_wait = min(MEASURED, job.batches.steps - WARM_UP), 0.0
    with profile(activities=activities) as profiler:
        begin = time.perf_counter()
        for _ in range(steps):
            before = time.perf_counter()
            views, target = next(batches)
            data_wait += time.perf_counter() - before
            stepper.step(views, target)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
        whole = time.perf_counter() - begin
    profiler.export_chrome_trace(str(trace))
    parts = {"data wait": data_wait, **_parts(profiler)}
    parts["other (moving, normalising, mixing, average)"] = max(0.0, whole - sum(parts.values()))
    lines = [f"{counted(steps, 'step')}, {1000 * whole / steps:.0f} ms each under the profiler"]
    lines += [f"{100 * seconds / whole:5.1f} %  {name}" for name, seconds in parts.items()]
    return "\n".join(lines)


def _parts(profiler: profile) -> dict[str, float]:
    """Sum the seconds of each named part; a pass repeated by the backward pass belongs to that."""
    events = profiler.events() or []  # type: ignore[no-untyped-call]
    part_events = [e for e in events if e.name in PARTS or e.name.startswith(FORWARD)]
    backward = [e.time_range for e in part_events if e.name == "backward"]
    parts: dict[str, float] = {}
    for event in part_events:
        start = event.time_range.start
        inside = any(span.start < start < span.end for span in backward)
        if not inside:
            seconds = event.time_range.elapsed_us() / 1e6
            parts[event.name] = parts.get(event.name, 0.0) + seconds
    return parts


def estimate(job: Job) -> str:
    """Train a few steps of a job and estimate the cost of the whole run; write nothing.

    Steps and loading are measured one after the other, since batches read in advance would
    hide a slow loader; in a run they go side by side, at the pace of the slower one. The network
    of the job is changed. The evaluations are not measured.

    Returns:
        Lines of text: time for a step, an epoch and the run, and peak memory.
    """
    device = next(job.net.parameters()).device
    steps = _times_of_steps(Stepper(job))
    step, loading = steps[len(steps) // 2], _time_to_load(job)
    pace = max(step, loading)
    epoch, epochs = pace * job.batches.steps, job.config.epochs
    place = counted(torch.get_num_threads(), "thread") if device.type == "cpu" else str(device)
    images = job.batches.batch_size
    lines = [
        f"a step of {counted(images, 'image')} on {place}: {1000 * step:.0f} ms "
        f"({1000 * steps[0]:.0f} to {1000 * steps[-1]:.0f} in {counted(len(steps), 'step')})",
        f"loading them with {counted(job.config.workers, 'worker')}: {1000 * loading:.0f} ms",
        f"pace: {images / pace:.1f} images/s" + (", set by the loading" if loading > step else ""),
        f"an epoch ({counted(job.batches.steps, 'step')}): {duration(epoch)}",
        f"the run ({counted(epochs, 'epoch')}, without evaluations): {duration(epoch * epochs)}",
        f"peak memory of this process: {peak_memory(device) / 2**30:.2f} GiB"
        + (f" on {device}" if device.type == "cuda" else ""),
    ]
    return "\n".join(lines)


def _times_of_steps(stepper: Stepper) -> list[float]:
    """Train several times with the first batch; return seconds, sorted."""
    views, target = next(iter(stepper.job.batches.epoch(0)))
    times = []
    for _ in range(WARM_UP + MEASURED):
        begin = time.perf_counter()
        stepper.step(views, target)
        if stepper.device.type == "cuda":
            torch.cuda.synchronize(stepper.device)
        times.append(time.perf_counter() - begin)
    return sorted(times[WARM_UP:])


def _time_to_load(job: Job) -> float:
    """Read batches without training; return seconds for one at the pace of the workers."""
    workers = job.config.workers
    batches = iter(job.batches.epoch(0))
    # The first of each worker comes late, when the processes have started.
    first = max(1, min(workers, job.batches.steps - 1))
    for _ in islice(batches, first):
        pass
    begin, count = time.perf_counter(), 0
    for _ in islice(batches, max(MEASURED, (AHEAD + 2) * workers)):
        count += 1
    return (time.perf_counter() - begin) / count if count else 0.0


def duration(seconds: float) -> str:
    """Write a time in the unit that suits it.

    Example:
        >>> duration(5400)
        '1.5 h'
    """
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def peak_memory(device: torch.device) -> int:
    """Return the peak memory so far in bytes, on the device or of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024  # bytes that `ru_maxrss` counts in
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
