"""Two processes and a slow link: gradients averaged during the backward pass, or behind it.

The peer averages all gradients behind the last backward pass, as memory mode two_pass has to; the
others let DistributedDataParallel send them while it still computes, as they are or as bf16. Each
process trains ResNet-18 on one thread with a batch of its own.

The link is the loopback device of a network namespace, slowed by Linux's tc: both directions
together get --rate. It needs the right to make namespaces (root, or unprivileged ones); without,
the link is simulated: the time of the bytes is slept, beside the backward pass where one goes on.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import (
    allreduce_hook,
    bf16_compress_hook,
)

if not __package__:  # Run as a script: nothing is installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import Case, Measured, Work, print_and_append
from benchmarks.runner import make_parser, run
from benchmarks.step import Form, OurStep, Sizes, layout_of
from rsseg.common.distributed import is_launched, joined, rank
from rsseg.losses.mred import MREDLosses
from rsseg.switchable.resolutions import Resolutions
from rsseg.training.config import OptimConfig, RunConfig
from rsseg.training.parallel import Hook, data_parallel

PROCESSES = 2
MINUTES = 10  # After which all processes are ended, whatever they do.
_SHAPED = "RSSEG_BENCHMARK_SHAPED"  # Set for what runs inside the namespace.
# The queue holds what TCP has under way: a packet that is dropped would stall it.
_SHAPE = "ip link set lo up && tc qdisc add dev lo root tbf rate {rate}mbit burst 256kb latency 1s"


class SimulatedLink:
    """A link that carries one message after another, each for as long as its bytes take.

    Args:
        megabits: Rate of both directions together, in Mbit/s.
    """

    def __init__(self, megabits: float) -> None:
        self._seconds_per_byte = 8 / (1e6 * megabits)
        self._free = threading.Lock()

    def carry(self, count: int) -> None:
        """Sleep for as long as both processes take to send each other so many bytes."""
        with self._free:
            time.sleep(PROCESSES * count * self._seconds_per_byte)

    def hook(self, inner: Hook, size: int) -> Hook:
        """Return a communication hook that sends `size` bytes a value over this link."""

        def send(state: Any, bucket: Any) -> torch.futures.Future[Tensor]:
            count = size * bucket.buffer().numel()

            def arrive(future: torch.futures.Future[Tensor]) -> Tensor:
                self.carry(count)
                return future.value()

            return inner(state, bucket).then(arrive)

        # DistributedDataParallel takes no annotations that are text.
        return lambda state, bucket: send(state, bucket)  # noqa: PLW0108


def afterwards(sizes: Sizes, link: SimulatedLink | None) -> Work:
    """Prepare the peer."""
    step = OurStep(sizes, Form())
    count = sum(p.numel() * p.element_size() for p in step.net.parameters())
    batch = sizes.drawn(sizes.batch, layout_of(Form()))

    def call() -> MREDLosses:
        losses = step(*batch)
        if link:
            link.carry(count)  # At the end of the step, as nothing is computed meanwhile.
        return losses

    return Work(call)


def during(sizes: Sizes, link: SimulatedLink | None, compression: str) -> Work:
    """Prepare a step whose gradients are sent during the backward pass."""
    step = OurStep(sizes, Form())
    config = RunConfig(
        resolutions=Resolutions(sizes.resolutions),
        epochs=1,
        batch_size=PROCESSES * sizes.batch,
        optim=OptimConfig(lr=1e-3),
        gradient_compression="none" if link else compression,  # type: ignore[arg-type]
    )
    step.parallel = data_parallel(step.net, config)
    assert step.parallel is not None
    if link:
        inner, size = {"none": (allreduce_hook, 4), "bf16": (bf16_compress_hook, 2)}[compression]
        step.parallel.register_comm_hook(None, link.hook(inner, size))
    return Work(partial(step, *sizes.drawn(sizes.batch, layout_of(Form()))))


def cases(options: argparse.Namespace) -> Iterator[Case]:
    """Yield the one case of this benchmark, in each process."""
    batch = options.batch or (8 if options.short else 16)
    sizes = Sizes(tuple(options.resolutions), batch, options.classes, options.device)
    shaped = _SHAPED in os.environ
    link = None if shaped else SimulatedLink(options.rate)
    variants = {
        "afterwards": partial(afterwards, sizes, link),
        "during": partial(during, sizes, link, "none"),
        "during, bf16": partial(during, sizes, link, "bf16"),
    }
    described = {
        "network": "ResNet-18",
        "resolutions": list(sizes.resolutions),
        "batch": batch,
        "classes": sizes.classes,
        "processes": PROCESSES,
        "Mbit/s": options.rate,
        "link": "tc" if shaped else "simulated",
    }
    with joined(options.device, minutes=2):
        yield Case("step over a slow link", variants, described, memory=False)


def finish(options: argparse.Namespace, case: Case, measured: list[Measured]) -> None:
    """Print and write the measurements in the first process, which waited for the other."""
    if rank() == 0:
        print_and_append(options, case, measured)


def in_namespace(rate: float, command: Sequence[str]) -> list[str] | None:
    """Return a command that runs another one behind a slowed loopback; None if that cannot be."""
    if not all(shutil.which(tool) for tool in ("unshare", "ip", "tc")):
        return None
    own = [] if os.geteuid() == 0 else ["--map-root-user"]
    shaped = [
        "unshare",
        "--net",
        *own,
        "sh",
        "-c",
        f'{_SHAPE.format(rate=rate)} && exec "$@"',
        "sh",
    ]
    tried = subprocess.run([*shaped, "true"], capture_output=True, check=False)
    return [*shaped, *command] if tried.returncode == 0 else None


def start_processes(command: Sequence[str]) -> int:
    """Run a command in connected processes; return the worst status."""
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    common = {**os.environ, **place, "WORLD_SIZE": str(PROCESSES), "GLOO_SOCKET_IFNAME": "lo"}
    started = [
        subprocess.Popen(command, env={**common, "RANK": str(number), "LOCAL_RANK": "0"})
        for number in range(PROCESSES)
    ]
    deadline = time.monotonic() + 60 * MINUTES
    try:
        return max(abs(p.wait(max(0, deadline - time.monotonic()))) for p in started)
    except subprocess.TimeoutExpired:
        print(f"the benchmark was ended after {MINUTES} minutes", file=sys.stderr)
        return 1
    finally:
        for process in started:
            process.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = make_parser("distributed", str(__doc__), threads=1, device="cpu")
    add = parser.add_argument
    add("--rate", type=float, default=1000.0, help="of the link, in Mbit/s (default: 1000)")
    add("--batch", type=int, help="images in the batch of a process (default: 16, short: 8)")
    add("--resolutions", type=int, nargs="+", default=(96, 80, 64, 48, 32))
    add("--classes", type=int, default=1000)
    add("--simulate", action="store_true", help="sleep for the link, use no network namespace")
    options = parser.parse_args(given)
    if options.launches > 1:
        parser.error("the processes are connected once; give more --rounds instead of --launches")
    if is_launched():
        return run(__file__, parser, cases, given, finish=finish)
    command = [sys.executable, str(Path(__file__).resolve()), *given]
    inside = None if options.simulate else in_namespace(options.rate, command)
    if _SHAPED in os.environ or inside is None:
        return start_processes(command)
    return subprocess.run(inside, env={**os.environ, _SHAPED: "1"}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
