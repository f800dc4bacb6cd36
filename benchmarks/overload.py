"""`rsseg serve` under three times the load that it can bear at its highest resolution.

A server process is sent images over HTTP, first by clients that wait for their answers, which gives
the capacity, then at random times of a given rate whether or not it keeps up (open loop). Latencies
count from the moment at which a request should have been sent. Lost is what gets neither an answer
nor a refusal (429). Clients and server share the machine. Requests that wait are computed together,
as `rsseg serve` always does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Final

if not __package__:  # Run as a script: nothing is installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from PIL import Image as Pictures

from benchmarks.harness import RESULTS
from benchmarks.http_load import Reply, Server, capacity, load, running
from benchmarks.machine import describe
from rsseg.common.checkpoint import write_checkpoint
from rsseg.common.files import written_whole
from rsseg.common.messages import markdown_table, text_table
from rsseg.heads import HEADS
from rsseg.runtime.serve.service import TOGETHER
from rsseg.switchable.net import SwitchableNet

RESOLUTIONS: Final = (224, 192, 160, 128, 96)
CALM_SHARE: Final = 0.4  # of the capacity


def summary(phase: str, rate: float, replies: Sequence[Reply]) -> dict[str, Any]:
    """Sum up a phase."""
    answered = [reply for reply in replies if reply.status == 200]
    times = [reply.milliseconds for reply in answered] or [float("nan")]
    p50, p95, p99 = (float(np.percentile(times, share)) for share in (50, 95, 99))
    sides = [reply.resolution or 0 for reply in answered]
    return {
        "phase": phase,
        "rate": rate,
        "sent": len(replies),
        "answered": len(answered),
        "refused": sum(reply.status == 429 for reply in replies),
        "lost": sum(reply.status not in (200, 429) for reply in replies),
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "mean_resolution": float(np.mean(sides)) if sides else None,
        "resolution_each_second": each_second(answered),
    }


def each_second(answered: Sequence[Reply]) -> list[float | None]:
    """Return the mean resolution of the requests of each second."""
    seconds = 1 + int(max((reply.at for reply in answered), default=-1))
    held: list[list[int]] = [[] for _ in range(seconds)]
    for reply in answered:
        held[int(reply.at)].append(reply.resolution or 0)
    return [round(float(np.mean(sides)), 1) if sides else None for sides in held]


def judge(phases: Sequence[dict[str, Any]], *, budget_ms: float, largest: int) -> dict[str, bool]:
    """Return which promises are kept: the phases are calm, overload, calm again."""
    _, overload, after = phases
    last = [side for side in after["resolution_each_second"] if side is not None][-5:]
    return {
        "no request is lost": not any(phase["lost"] for phase in phases),
        "p95 inside the budget": overload["p95_ms"] <= budget_ms,
        "the resolution falls": overload["mean_resolution"] < largest,
        "it recovers": set(last) == {largest},
    }


def table(phases: Sequence[dict[str, Any]]) -> str:
    """Lay out the phases as text."""
    names = ("phase", "rate", "sent", "answered", "refused", "lost", "p50_ms", "p95_ms", "p99_ms")
    rows = [[*names, "resolution"]]
    for phase in phases:
        cells = [f"{phase[n]:.1f}" if isinstance(phase[n], float) else str(phase[n]) for n in names]
        rows.append([*cells, f"{phase['mean_resolution'] or 0:.0f}"])
    lines = [text_table(rows, ">")]
    for phase in phases:
        sides = ("-" if side is None else f"{side:.0f}" for side in phase["resolution_each_second"])
        lines.append(f"{phase['phase']}, each second: {' '.join(sides)}")
    return "\n".join(lines)


def markdown(phases: Sequence[dict[str, Any]]) -> str:
    """Lay out the phases as docs/RUNTIME.md shows them."""
    counts = ("sent", "answered", "refused", "lost")
    rows = [["phase", "sent a second", *counts, "p50, ms", "p95, ms", "mean resolution"]]
    for phase in phases:
        name = f"{phase['phase']}, {len(phase['resolution_each_second'])} s"
        numbers = (phase["p50_ms"], phase["p95_ms"], phase["mean_resolution"] or 0)
        middle = [str(phase[count]) for count in counts]
        rows.append([name, f"{phase['rate']:.1f}", *middle, *(f"{n:.0f}" for n in numbers)])
    first = f"Up to {TOGETHER} requests that wait are computed by one pass of the network."
    return f"{first}\n\n{markdown_table(rows)}"


def drawn_jpeg(seed: int) -> bytes:
    """Draw a photograph of the usual size, about 50 kB: clouds, not noise."""
    rng, stream = np.random.default_rng(seed), BytesIO()
    small = Pictures.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))
    small.resize((500, 375), Pictures.Resampling.BICUBIC).save(stream, "JPEG", quality=92)
    return stream.getvalue()


def make_network(folder: Path, name: str) -> Path:
    """Write a classifier that was not trained: the time does not depend on its weights."""
    model = {"name": name, "classes": 1000}
    net = SwitchableNet(HEADS["classification"].network(model), RESOLUTIONS)
    metadata = {
        "task": "classification",
        "model": model,
        "resolutions": list(RESOLUTIONS),
        "batchnorm": "private",
        "preprocessing": {"fit": "crop"},
        "classes": [str(index) for index in range(1000)],
    }
    path = folder / f"{name}.pt"
    write_checkpoint(path, {"metadata": metadata, "net": net.state_dict()})
    return path


async def measure(server: Server, image: bytes, options: argparse.Namespace) -> dict[str, Any]:
    """Run all phases."""
    await capacity(server, image, server.largest, 2.0)  # warms up
    highest = await capacity(server, image, server.largest, options.calm)
    rng, phases = random.Random(options.seed), []
    lengths = {"before": options.calm, "overload": options.seconds, "after": 2 * options.calm}
    for phase, seconds in lengths.items():
        rate = highest * (options.factor if phase == "overload" else CALM_SHARE)
        phases.append(summary(phase, rate, await load(server, image, rate, seconds, rng)))
    kept = judge(phases, budget_ms=options.budget_ms, largest=server.largest)
    return {"capacity": highest, "phases": phases, "kept": kept}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.overload",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    what = "checkpoint or exported file (default: an untrained ResNet-50)"
    add("network", type=Path, nargs="?", metavar="CHECKPOINT", help=what)
    add("--image", type=Path, help="JPEG that is sent (default: a drawn one, 500x375)")
    add("--executor", help="torch, onnxruntime or openvino")
    add("--threads", type=int, default=1, help="for one image (default: %(default)s)")
    add("--budget-ms", type=float, default=1000.0, help="(default: %(default)g)")
    add("--factor", type=float, default=3.0, help="load over capacity (default: %(default)g)")
    add("--seconds", type=float, default=30.0, help="of overload (default: %(default)g)")
    add("--calm", type=float, default=10.0, help="seconds before; after it twice as long")
    add("--seed", type=int, default=0)
    add("--out", type=Path, default=RESULTS / "overload.json")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; status 1 if something of the promise is not kept."""
    parser = _parser()
    options = parser.parse_args(arguments)
    image = options.image.read_bytes() if options.image else drawn_jpeg(options.seed)
    flags = ["--threads", options.threads, "--budget-ms", options.budget_ms]
    flags += ["--executor", options.executor] if options.executor else []
    with tempfile.TemporaryDirectory() as folder:
        network = options.network or make_network(Path(folder), "resnet50")
        with running(network, flags) as server:
            print(f"{server.line}\nimage of {len(image)} bytes")
            try:
                measured = asyncio.run(measure(server, image, options))
            except (ValueError, OSError) as error:
                parser.error(str(error))
    print(f"capacity at {server.largest}: {measured['capacity']:.1f} requests per second")
    print(table(measured["phases"]), markdown(measured["phases"]), sep="\n\n")
    for promise, kept in measured["kept"].items():
        print(f"{promise}: {'kept' if kept else 'NOT KEPT'}")
    record = {"server": server.line, "image_bytes": len(image), "budget_ms": options.budget_ms}
    record |= {"together": TOGETHER, "factor": options.factor}
    record |= {"machine": describe(torch.device("cpu"))}
    record |= {"measured": datetime.now(UTC).isoformat(timespec="seconds"), **measured}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(options.out) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"written: {options.out}")
    return 0 if all(measured["kept"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
