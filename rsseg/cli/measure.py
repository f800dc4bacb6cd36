"""What `rsseg profile --measure` does: latency and memory of a network on this machine."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from tqdm import tqdm

from rsseg.common.config import plain
from rsseg.common.file_kinds import NETWORKS, file_kind, wrong_kind_message
from rsseg.runtime.accuracies import accuracies_beside
from rsseg.runtime.benchmark.processes import Subject
from rsseg.runtime.benchmark.report import layout, measure_entry, subjects
from rsseg.runtime.budget.budget import check_budget
from rsseg.runtime.budget.table import Entry, latency_file, read_entries, update_entries
from rsseg.runtime.opening import open_executor
from rsseg.switchable.resolutions import Resolutions


def measure(args: argparse.Namespace, *, runs: int) -> None:
    """Measure, print, and save beside the file; `runs` is the number where --runs is absent."""
    path, runs, threads = _check(args, runs)
    ways = subjects(
        path,
        executors=args.executors,
        onnx=args.onnx or (),
        threads=threads,
        device=args.device or "cpu",
        allow_builder=args.allow_builder,
    )
    _check_tables([_table(path, way) for way in ways])
    entries, tables = [], dict[Path, None]()
    for subject, entry in _entries(args, path, ways, runs):
        table = _table(path, subject)
        update_entries(table, [entry])
        entries.append(entry)
        tables[table] = None
    if args.json:
        print(json.dumps([asdict(entry) for entry in entries], indent=1))
        return
    print("\n\n".join(layout(entry, args.budget) for entry in entries))
    print(f"\nlatencies: {', '.join(map(str, tables))}")


def _table(path: Path, subject: Subject) -> Path:
    """Return the table of a way: beside the file that is measured, where its predictor looks."""
    beside = Path(subject.path).resolve().parent == path.resolve().parent
    return latency_file(path if beside else Path(subject.path))


def _check_tables(tables: Sequence[Path]) -> None:
    """Read the tables that will be added to, as measuring takes minutes."""
    for table in dict.fromkeys(tables):
        if table.exists():
            read_entries(table)


def _entries(
    args: argparse.Namespace, path: Path, ways: Sequence[Subject], runs: int
) -> Iterator[tuple[Subject, Entry]]:
    """Measure one way after the other; yield those that have any of the resolutions."""
    with tqdm(ways, desc="measure", unit="way", leave=False) as bar:
        for subject in bar:
            _, description = open_executor(
                Path(subject.path), subject.executor, allow_builder=subject.allow_builder
            )
            entry = measure_entry(
                subject,
                resolutions=args.resolutions,
                runs=runs,
                accuracies=accuracies_beside(path, plain(description)),
                memory=not args.no_memory,
                tell=bar.set_postfix_str,
            )
            if entry.rows:
                yield subject, entry


def _check(args: argparse.Namespace, runs: int) -> tuple[Path, int, int]:
    """Check the arguments; return the file, the runs and the threads."""
    path = Path(args.network)
    if file_kind(path) not in NETWORKS:
        raise ValueError(f"nothing to measure: {wrong_kind_message(path, NETWORKS)}")
    if args.classes is not None:
        raise ValueError(f"{path} has its own number of classes; leave out --classes")
    runs = runs if args.runs is None else args.runs
    threads = torch.get_num_threads() if args.threads is None else args.threads
    for name, value in (("--runs", runs), ("--threads", threads)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if args.resolutions:
        Resolutions(args.resolutions)
    if args.budget is not None:
        check_budget(args.budget)
    return path, runs, threads
