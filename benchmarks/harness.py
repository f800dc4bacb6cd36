"""What the benchmarks share: variants measured in turn, their ratios, a table, and JSON lines.

A case has variants that do the same work; one of them is the peer. They run in rounds, A B C A B C
and so on, so that whatever else the machine does meets all of them, and each round gives a ratio,
time(peer) / time(variant). Memory is measured beforehand, each variant in a process of its own;
times in one process, or in several, since one may be lucky with its threads and its memory.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.machine import describe
from rsseg.common.messages import text_table

RESULTS = Path("build/benchmarks")
_MIB = 2**20


class UnavailableError(RuntimeError):
    """A variant that this machine cannot run; the message says why."""


@dataclass(frozen=True)
class Work:
    """One variant, ready to run.

    Args:
        call: What is measured.
        warm: The same at a small size; it runs once before memory is measured, so that
            libraries that are loaded late do not count.
        units: Pieces of work in one call; times are given for one of them.
        notes: Further numbers for table and record, by name.
    """

    call: Callable[[], object]
    warm: Callable[[], object] | None = None
    units: int = 1
    notes: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """Variants that do the same work.

    Args:
        name: Name of the case.
        variants: What prepares each variant, by name; an UnavailableError leaves one out.
        sizes: What the work is, plain values.
        peer: Name of the variant that the others are compared with; default is the first.
        memory: Measure memory.
        left_out: Variants that this machine is known not to run, and why.
    """

    name: str
    variants: Mapping[str, Callable[[], Work]]
    sizes: Mapping[str, Any]
    peer: str | None = None
    memory: bool = True
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def reference(self) -> str:
        """Name of the peer."""
        return next(iter(self.variants)) if self.peer is None else self.peer


@dataclass(frozen=True)
class Measured:
    """What was measured of one variant.

    Attributes:
        variant: Its name.
        times: Seconds of each round.
        ratios: time(peer) / time(variant) of each round.
        memory: Bytes needed at the peak over those held before; None if not measured.
        memory_ratio: Memory over the peer's.
        resident: On a CPU the bytes that the process holds at its peak over those before, more
            than needed where the allocator keeps freed blocks; None if not measured.
        notes: Further numbers.
        left_out: Why nothing was measured; empty if it was.
    """

    variant: str
    times: list[float]
    ratios: list[float]
    memory: int | None
    memory_ratio: float | None
    resident: int | None
    notes: Mapping[str, float]
    left_out: str = ""


class Timed(NamedTuple):
    """The seconds of each round of a variant, and further numbers; or why there are none."""

    times: Sequence[float]
    notes: Mapping[str, float]
    left_out: str = ""


Cases = Callable[[argparse.Namespace], Iterable[Case]]
Finish = Callable[[argparse.Namespace, Case, list[Measured]], None]
Watch = Callable[[str, int, Mapping[str, Sequence[float]]], None]


def interleaved(
    works: Mapping[str, Work],
    rounds: int,
    *,
    clock: Callable[[], float] = time.perf_counter,
    wait: Callable[[], None] = lambda: None,
    watch: Watch = lambda _variant, _round, _times: None,
) -> dict[str, list[float]]:
    """Time variants in turn, after one round that does not count.

    Args:
        works: The variants.
        rounds: Number of rounds.
        clock: Seconds.
        wait: Returns when the device has done its work.
        watch: Is told of each call: the variant, the round, 0 for the one that does not count,
            and the times of all variants so far, that one's included.

    Returns:
        Seconds for one unit of work, of each round.
    """
    times: dict[str, list[float]] = {name: [] for name in works}
    for number_of_round in range(rounds + 1):
        for name, work in works.items():
            begin = clock()
            work.call()
            wait()
            if number_of_round:
                times[name].append((clock() - begin) / work.units)
            watch(name, number_of_round, times)
    return times


def compared(
    case: Case,
    timed: Mapping[str, Timed],
    memory: Mapping[str, int],
    resident: Mapping[str, int],
) -> list[Measured]:
    """Set each variant's times and memory against the peer's."""
    peer_times, peer_memory = timed[case.reference].times, memory.get(case.reference)
    return [
        Measured(
            variant=name,
            times=list(times),
            ratios=[p / own for p, own in zip(peer_times, times, strict=True)] if times else [],
            memory=memory.get(name),
            memory_ratio=memory[name] / peer_memory if peer_memory and name in memory else None,
            resident=resident.get(name),
            notes=notes,
            left_out=left_out,
        )
        for name, (times, notes, left_out) in timed.items()
    ]


def table(case: Case, measured: Sequence[Measured]) -> str:
    """Lay out a case as text, one line for each variant."""
    notes = sorted({name for m in measured for name in m.notes})
    rows = [
        [case.name, "time, ms", "speed", "(min..max)", "memory, MiB", "memory", "held, MiB", *notes]
    ]
    for m in measured:
        if m.left_out:
            continue
        rows.append(
            [
                m.variant,
                number(1000 * statistics.median(m.times)),
                f"{statistics.median(m.ratios):.2f}",
                f"({min(m.ratios):.2f}..{max(m.ratios):.2f})",
                mebibytes(m.memory),
                "-" if m.memory_ratio is None else f"{m.memory_ratio:.3f}",
                mebibytes(m.resident),
                *(number(m.notes[name]) if name in m.notes else "-" for name in notes),
            ]
        )
    left_out = [f"{m.variant}: left out, {m.left_out}" for m in measured if m.left_out]
    return "\n".join([text_table(rows), *left_out])


def number(value: float) -> str:
    """Write a number with three digits or more."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def mebibytes(count: int | None) -> str:
    """Write bytes in MiB, and nothing measured as a dash."""
    return "-" if count is None else number(count / _MIB)


def records(
    options: argparse.Namespace, case: Case, measured: Sequence[Measured]
) -> list[dict[str, Any]]:
    """Return one plain dict for each variant: what was measured, of what, and where."""
    common = context(options, case)
    return [
        {
            **common,
            "variant": m.variant,
            "peer": case.reference,
            "times": m.times,
            "ratios": m.ratios,
            "memory": m.memory,
            "memory_ratio": m.memory_ratio,
            "resident": m.resident,
            "notes": dict(m.notes),
            "left_out": m.left_out,
        }
        for m in measured
    ]


def context(options: argparse.Namespace, case: Case) -> dict[str, Any]:
    """Return what is common to all records of a case."""
    return {
        "benchmark": options.benchmark,
        "case": case.name,
        "allocator": options.allocator,
        "machine": describe(options.device),
        "sizes": dict(case.sizes),
        "seed": options.seed,
        "rounds": options.rounds,
        "launches": options.launches,
        "command": options.command,
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def append(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Append records to a file of JSON lines, made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def print_and_append(options: argparse.Namespace, case: Case, measured: list[Measured]) -> None:
    """Print the table of a case, and append its records to the file of results."""
    print(f"\n{table(case, measured)}", flush=True)
    append(options.out, records(options, case, measured))
