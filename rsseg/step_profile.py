"""Where the time of a training step goes: a summary on one screen, and a trace for a viewer."""

from __future__ import annotations

import os
import time
from itertools import islice
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from rsseg.job import Job
from rsseg.stepper import Stepper
from rsseg.switchable.net import FORWARD

WARM_UP, MEASURED = 3, 5  # steps
PARTS = ("loss", "backward", "optimiser")


def wait_for_kernels() -> None:
    """Let every CUDA kernel end before the next is started, so that each has its own time.

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
            f"an epoch has {job.batches.steps} steps, a profile needs more than {WARM_UP}; lower "
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
    # What was read in advance would hide a slow loader.
    spare = max(0, job.batches.steps - WARM_UP - MEASURED)
    for _ in islice(batches, min(spare, 2 * job.config.workers)):
        pass
    steps, waited = min(MEASURED, job.batches.steps - WARM_UP), 0.0
    with profile(activities=activities) as profiler:
        begin = time.perf_counter()
        for _ in range(steps):
            before = time.perf_counter()
            views, target = next(batches)
            waited += time.perf_counter() - before
            stepper.step(views, target)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
        whole = time.perf_counter() - begin
    profiler.export_chrome_trace(str(trace))
    parts = {"data wait": waited, **_parts(profiler)}
    parts["other (moving, normalising, mixing, average)"] = max(0.0, whole - sum(parts.values()))
    lines = [f"{steps} steps, {1000 * whole / steps:.0f} ms each under the profiler"]
    lines += [f"{100 * seconds / whole:5.1f} %  {name}" for name, seconds in parts.items()]
    return "\n".join(lines)


def _parts(profiler: profile) -> dict[str, float]:
    """Sum the seconds of each named part; a pass repeated by the backward pass belongs to that."""
    events = profiler.events() or []  # type: ignore[no-untyped-call]
    named = [e for e in events if e.name in PARTS or e.name.startswith(FORWARD)]
    backward = [e.time_range for e in named if e.name == "backward"]
    parts: dict[str, float] = {}
    for event in named:
        start = event.time_range.start
        inside = any(span.start < start < span.end for span in backward)
        if not inside:
            seconds = event.time_range.elapsed_us() / 1e6
            parts[event.name] = parts.get(event.name, 0.0) + seconds
    return parts
