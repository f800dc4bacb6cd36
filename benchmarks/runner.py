"""The command line of a benchmark: its options, fresh processes, and one case after another."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch

from benchmarks.harness import (
    RESULTS,
    Case,
    Cases,
    Finish,
    Measured,
    UnavailableError,
    Work,
    compared,
    interleaved,
    print_and_append,
)
from benchmarks.machine import ALLOCATORS, environment_of, extra_memory, use_threads, waiter
from rsseg.device import choose_device


def make_parser(
    benchmark: str, description: str, *, threads: int | None = None, device: str = "auto"
) -> argparse.ArgumentParser:
    """Return a parser with the options of every benchmark.

    Args:
        benchmark: Name of the script and of its file of results.
        description: Docstring of the script.
        threads: Default of --threads; None leaves torch's own.
        device: Default of --device.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{benchmark}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--rounds", type=_count, default=5, help="rounds that are timed (default: 5)")
    add("--short", action="store_true", help="the sizes of `make bench`")
    add("--threads", type=_count, default=threads, help="threads of torch and OpenCV")
    add("--device", default=device, help="auto, cpu or cuda (default: %(default)s)")
    add("--out", type=Path, default=RESULTS / f"{benchmark}.jsonl", help="JSON lines to append to")
    add("--seed", type=int, default=0)
    add("--no-memory", action="store_true", help="measure times alone")
    add(
        "--allocator",
        choices=(*ALLOCATORS, "both"),
        default="default",
        help="glibc's malloc as it is, or told to keep large blocks; anything else than its own "
        "environment runs the script again in a process of its own",
    )
    add("--memory-of", nargs=2, metavar=("CASE", "VARIANT"), help=argparse.SUPPRESS)
    parser.set_defaults(benchmark=benchmark)
    return parser


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text}")
    return value


def run(
    script: str,
    parser: argparse.ArgumentParser,
    cases: Cases,
    arguments: Sequence[str] | None = None,
    *,
    finish: Finish = print_and_append,
) -> int:
    """Run a benchmark.

    Args:
        script: File of the benchmark, for processes of its own.
        parser: Of its options, made by `make_parser`.
        cases: From the options to the cases; it may clean up behind the last one.
        arguments: Of the command line; default are those of this process.
        finish: Takes what was measured of a case.

    Returns:
        Exit status.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(given)
    chosen = ALLOCATORS if options.allocator == "both" else (options.allocator,)
    if len(chosen) > 1 or environment_of(chosen[0], os.environ) != dict(os.environ):
        return max(_again(script, given, allocator) for allocator in chosen)
    options.command = command_line(options.benchmark, given)
    use_threads(options.threads)
    try:
        options.device = choose_device(options.device)
        if options.memory_of:
            print(json.dumps(_memory_of(options, cases(options))))
            return 0
        for case in cases(options):
            finish(options, case, measure(script, given, options, case))
    except (ValueError, OSError) as problem:
        parser.error(str(problem))
    return 0


def _again(script: str, arguments: Sequence[str], allocator: str) -> int:
    """Run the script in a process with another allocator; give its exit status."""
    others = without("--allocator", arguments)
    command = [sys.executable, script, *others, "--allocator", allocator]
    return subprocess.run(
        command, env=environment_of(allocator, os.environ), check=False
    ).returncode


def command_line(benchmark: str, arguments: Sequence[str]) -> str:
    """Write a command as anybody can run it: without the place of the results or other paths."""
    words = ["PATH" if os.sep in word else word for word in without("--out", arguments)]
    return " ".join([f"python -m benchmarks.{benchmark}", *words])


def without(option: str, arguments: Sequence[str]) -> list[str]:
    """Leave an option and its value out of a command line."""
    pairs = zip(["", *arguments], arguments, strict=False)
    return [word for before, word in pairs if option not in (before, word, word.partition("=")[0])]


def measure(
    script: str, arguments: Sequence[str], options: argparse.Namespace, case: Case
) -> list[Measured]:
    """Measure memory, then times, of the variants of a case."""
    memory: dict[str, int] = {}
    if case.memory and not options.no_memory:
        memory = dict(_memories(script, arguments, case))
    works: dict[str, Work] = {}
    for name in case.variants:
        try:
            works[name] = _prepared(case, name, options.seed)
        except UnavailableError as reason:
            print(f"{case.name}: {name} is left out: {reason}", file=sys.stderr)
    times = interleaved(works, options.rounds, wait=waiter(options.device))
    return compared(case, works, times, memory)


def _prepared(case: Case, variant: str, seed: int) -> Work:
    torch.manual_seed(seed)
    return case.variants[variant]()


def _memories(script: str, arguments: Sequence[str], case: Case) -> Iterator[tuple[str, int]]:
    """Give the memory of each variant that can run, from a fresh process for each."""
    for variant in case.variants:
        command = [sys.executable, script, *arguments, "--memory-of", case.name, variant]
        process = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if process.returncode:
            raise RuntimeError(
                f"{case.name}: the process that measures the memory of {variant!r} failed with "
                f"status {process.returncode}; its message stands above, --no-memory leaves it out"
            )
        memory = json.loads(process.stdout.splitlines()[-1])
        if memory is not None:
            yield variant, memory


def _memory_of(options: argparse.Namespace, cases: Iterable[Case]) -> int | None:
    """Measure the memory of one variant in this process; None if it cannot run."""
    name, variant = options.memory_of
    case = next(case for case in cases if case.name == name)
    try:
        work = _prepared(case, variant, options.seed)
    except UnavailableError:
        return None
    if work.warm:
        work.warm()
    return extra_memory(work.call, options.device)
