"""The command line of a benchmark: its options, fresh processes, and one case after another."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import (
    RESULTS,
    Case,
    Cases,
    Finish,
    Measured,
    Timed,
    UnavailableError,
    Work,
    compared,
    interleaved,
    mebibytes,
    number,
    print_and_append,
)
from benchmarks.machine import (
    ALLOCATORS,
    NARROWING,
    environment_of,
    extra_memory,
    use_threads,
    waiter,
)
from rsseg.common.device import choose_device
from rsseg.common.distributed import is_main_process

Again = Callable[[Sequence[str], str], Any]


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
    add("--rounds", type=positive_count, default=5, help="rounds that are timed (default: 5)")
    add("--launches", type=positive_count, default=1, help="processes that each time the rounds")
    add("--short", action="store_true", help="the sizes of `make bench`")
    add("--threads", type=positive_count, default=threads, help="threads of torch and OpenCV")
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
    add("--times-of", metavar="CASE", help=argparse.SUPPRESS)
    parser.set_defaults(benchmark=benchmark)
    return parser


def positive_count(text: str) -> int:
    """Return the number that an option gives, from 1.

    Raises:
        argparse.ArgumentTypeError: If it is less.
        ValueError: If it is not a whole number.
    """
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
    # The process that measures memory has an allocator of its own.
    here = options.memory_of or environment_of(chosen[0], os.environ) == dict(os.environ)
    if len(chosen) > 1 or not here:
        return max(_again(script, given, allocator) for allocator in chosen)
    options.command = command_line(options.benchmark, given, os.environ)
    use_threads(options.threads)
    try:
        options.device = choose_device(options.device)
        for case in cases(options):
            if not options.memory_of and not options.times_of:
                finish(options, case, measure(script, given, options, case))
            elif options.memory_of and options.memory_of[0] == case.name:
                print(json.dumps(_memory_of(options, case)))
            elif options.times_of == case.name:
                print(json.dumps(_times_here(options, case)))
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


def command_line(benchmark: str, arguments: Sequence[str], environment: Mapping[str, str]) -> str:
    """Write a command as anybody can run it: without the place of the results or other paths.

    Variables that narrow the processor to another class are part of it.
    """
    narrowed = [f"{name}={environment[name]}" for name in NARROWING if name in environment]
    words = ["PATH" if os.sep in word else word for word in without("--out", arguments)]
    return " ".join([*narrowed, f"python -m benchmarks.{benchmark}", *words])


def without(option: str, arguments: Sequence[str]) -> list[str]:
    """Leave an option and its value out of a command line."""
    pairs = zip(["", *arguments], arguments, strict=False)
    return [word for before, word in pairs if option not in (before, word, word.partition("=")[0])]


def measure(
    script: str, arguments: Sequence[str], options: argparse.Namespace, case: Case
) -> list[Measured]:
    """Measure memory, then times, of the variants of a case."""
    for variant, reason in case.left_out.items():
        _tell(f"{case.name}: {variant} is left out, {reason}")
    memory: dict[str, int] = {}
    resident: dict[str, int] = {}
    again = partial(_answer, script, arguments, case)
    if case.memory and not options.no_memory:
        memory = dict(_memories(again, case, "exact"))
        if options.device.type == "cpu":
            resident = dict(_memories(again, case, options.allocator))
    if options.launches == 1:
        launches = [_times_here(options, case)]
    else:
        what = ("--times-of", case.name)
        launches = [again(what, options.allocator) for _ in range(options.launches)]
    return compared(case, _merged(launches), memory, resident)


def _times_here(options: argparse.Namespace, case: Case) -> dict[str, Timed]:
    """Time the variants in this process."""
    works: dict[str, Work] = {}
    left_out = dict(case.left_out)
    for name in case.variants:
        if name in left_out:
            continue
        try:
            works[name] = _prepared(case, name, options.seed)
        except UnavailableError as reason:
            left_out[name] = str(reason)
            _tell(f"{case.name}: {name} is left out, {reason}")
    watch = partial(_tell_times, case, options.rounds)
    times = interleaved(works, options.rounds, wait=waiter(options.device), watch=watch)
    return {
        name: Timed(times[name], works[name].notes)
        if name in works
        else Timed([], {}, left_out[name])
        for name in case.variants
    }


def _tell_times(
    case: Case, rounds: int, name: str, number_of_round: int, times: Mapping[str, Sequence[float]]
) -> None:
    """Print what is known of a variant: that it has run once, and in its last round its row."""
    if number_of_round == 0:
        _tell(f"{case.name}: {name} has run once")
    elif number_of_round == rounds:
        own = times[name]
        ratios = [p / t for p, t in zip(times[case.reference], own, strict=False)]
        speed = f", speed {statistics.median(ratios):.2f}" if ratios else ""
        _tell(f"{case.name}: {name} {number(1000 * statistics.median(own))} ms{speed}")


def _tell(line: str) -> None:
    """Print how far a benchmark is, once for all processes; the tables go to the output."""
    if is_main_process():
        print(line, file=sys.stderr, flush=True)


def _merged(launches: Sequence[Mapping[str, Sequence[Any]]]) -> dict[str, Timed]:
    """Join the rounds of several processes, one behind the other."""
    merged = {}
    for name, first in launches[0].items():
        _, notes, left_out = Timed(*first)
        merged[name] = Timed([t for launch in launches for t in launch[name][0]], notes, left_out)
    return merged


def _prepared(case: Case, variant: str, seed: int) -> Work:
    torch.manual_seed(seed)
    return case.variants[variant]()


def _memories(again: Again, case: Case, allocator: str) -> Iterator[tuple[str, int]]:
    """Return the memory of each variant that can run, from a fresh process for each."""
    for variant in (v for v in case.variants if v not in case.left_out):
        memory = again(("--memory-of", case.name, variant), allocator)
        if memory is not None:
            kind = "extra memory" if allocator == "exact" else "held"
            _tell(f"{case.name}: {variant} {mebibytes(memory)} MiB {kind}")
            yield variant, memory


def _answer(
    script: str, arguments: Sequence[str], case: Case, what: Sequence[str], allocator: str
) -> Any:
    """Return the last line that a fresh process prints after a measurement."""
    process = subprocess.run(
        [sys.executable, script, *arguments, *what],
        env=environment_of(allocator, os.environ),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if process.returncode:
        raise RuntimeError(
            f"{case.name}: the process for {' '.join(map(repr, what))} failed with status "
            f"{process.returncode}; its message stands above"
        )
    return json.loads(process.stdout.splitlines()[-1])


def _memory_of(options: argparse.Namespace, case: Case) -> int | None:
    """Measure the memory of one variant in this process; None if it cannot run."""
    try:
        work = _prepared(case, options.memory_of[1], options.seed)
    except UnavailableError:
        return None
    if work.warm:
        work.warm()
    return extra_memory(work.call, options.device)
