"""What a long training will cost, from a few measured steps."""

from __future__ import annotations

import resource
import sys
import time
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from rsseg.job import Job
from rsseg.run import RunFolder
from rsseg.training import Training

WARM_UP, MEASURED = 2, 5  # steps; the first ones allocate memory and choose algorithms


def estimate(job: Job) -> str:
    """Train a few steps of a job and say what the whole run will cost; writes nothing.

    The network of the job is changed. The evaluations are not measured.

    Returns:
        Lines of text: time for a step, an epoch and the run, and peak memory.
    """
    device = next(job.net.parameters()).device
    with TemporaryDirectory() as folder:
        training = Training(job, RunFolder(Path(folder)))
        times = []
        steps = min(WARM_UP + MEASURED, job.batches.steps)
        begin = time.perf_counter()
        for views, target in islice(job.batches.epoch(0), steps):
            training.step(views, target)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - begin)
            begin = time.perf_counter()
    measured = sorted(times[WARM_UP:] or times)
    step = measured[len(measured) // 2]
    epoch, epochs = step * job.batches.steps, job.config.epochs
    place = f"{torch.get_num_threads()} threads" if device.type == "cpu" else str(device)
    lines = [
        f"measured {len(measured)} steps of {job.batches.batch_size} images on {place}: "
        f"{1000 * step:.0f} ms ({1000 * measured[0]:.0f} to {1000 * measured[-1]:.0f}), "
        f"{job.batches.batch_size / step:.1f} images/s",
        f"an epoch ({job.batches.steps} steps): {duration(epoch)}",
        f"the run ({epochs} epochs, without evaluations): {duration(epoch * epochs)}",
        f"peak memory of this process: {peak_memory(device) / 2**30:.2f} GiB"
        + (f" on {device}" if device.type == "cuda" else ""),
    ]
    return "\n".join(lines)


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
    """Return the most memory in bytes that was held so far, on the device or by the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
