"""The query table of a checkpoint: what each resolution costs on this machine, and how good it is.

Times and memory are measured, accuracies are those of results.json beside the checkpoint.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

from rsseg.common.device import choose_device
from rsseg.common.extras import extra_message
from rsseg.common.file_kinds import CHECKPOINTS, file_kind
from rsseg.common.messages import counted, percent
from rsseg.images.preprocessing import PHOTO_SIZE
from rsseg.runtime.accuracies import Accuracies
from rsseg.runtime.benchmark.processes import Subject, measure_times, with_memory
from rsseg.runtime.budget.budget import check_budget
from rsseg.runtime.budget.table import Entry, Row, this_machine
from rsseg.runtime.opening import EXECUTORS
from rsseg.runtime.stages import NAMES

_MIB: Final = 2**20


def subjects(
    path: Path,
    *,
    executors: Sequence[str] | None,
    onnx: Sequence[Path],
    threads: int,
    device: str,
    allow_builder: bool = False,
) -> list[Subject]:
    """Return what can be measured of a checkpoint or an exported file.

    Args:
        path: The file.
        executors: Names of executors; default: all that are installed and have a file.
        onnx: Exported files; default: those beside a checkpoint whose names begin like its own.
        threads: Threads that compute one image.
        device: Where PyTorch computes.
        allow_builder: See `rsseg.load_checkpoint`.

    Raises:
        ValueError: If an executor is not known, not installed or has no file.
    """
    unknown = [name for name in executors or () if name not in EXECUTORS]
    if unknown:
        raise ValueError(f"unknown executor '{unknown[0]}'; expected one of {', '.join(EXECUTORS)}")
    listed = []
    for name, opener in EXECUTORS.items():
        files = [file for file in _files(path, onnx) if file_kind(file) in opener.kinds]
        if executors is not None and name in executors:
            _check_measurable(name, files)
        if (executors is None or name in executors) and _is_installed(name):
            place = device if name == "torch" else "cpu"
            listed += [
                Subject(
                    path=str(file),
                    executor=name,
                    threads=threads,
                    device=place,
                    allow_builder=allow_builder,
                )
                for file in files
            ]
    return listed


def _check_measurable(executor: str, files: Sequence[Path]) -> None:
    if not files:
        kind = "checkpoint" if executor == "torch" else "ONNX file of `rsseg export`"
        raise ValueError(f"executor {executor} cannot be measured: there is no {kind}")
    if not _is_installed(executor):
        raise ValueError(f"executor {executor} cannot be measured: {extra_message(executor)}")


def _files(path: Path, onnx: Sequence[Path]) -> list[Path]:
    is_checkpoint = file_kind(path) in CHECKPOINTS
    beside = sorted(path.parent.glob(f"{path.stem}*.onnx")) if is_checkpoint else []
    return list(dict.fromkeys([path, *(onnx or beside)]))


def _is_installed(executor: str) -> bool:
    return importlib.util.find_spec(executor) is not None


def measure_entry(
    subject: Subject,
    *,
    resolutions: Sequence[int] | None,
    runs: int,
    accuracies: tuple[str, Accuracies] | None,
    memory: bool = True,
    tell: Callable[[str], None] = lambda _: None,
) -> Entry:
    """Measure a file in one way.

    Args:
        subject: The file, and the way.
        resolutions: Sides of the views in pixels; default: those of the file.
        runs: Predictions that are timed at each resolution.
        accuracies: Name of a metric, and its value by resolution.
        memory: Measure memory as well.
        tell: Called with what is measured next.

    Raises:
        ValueError: If the file cannot be used, or not at one of the resolutions.
    """
    metric, accuracy_of = accuracies or (None, {})
    tell(f"{subject.executor}: times")
    rows = measure_times(subject, resolutions, runs=runs)
    done: list[Row] = []
    for row in rows:
        if memory:
            tell(f"{subject.executor}: memory at {row.resolution}")
            row = with_memory(subject, row)  # noqa: PLW2901
        done.append(replace(row, accuracy=accuracy_of.get(row.resolution)))
    device = choose_device(subject.device)
    return Entry(
        machine=this_machine(str(device)),
        executor=subject.executor,
        threads=subject.threads,
        file=Path(subject.path).name,
        rows=tuple(sorted(done, key=lambda row: -row.resolution)),
        runs=runs,
        image=PHOTO_SIZE,
        metric=metric,
        versions={name: version(name) for name in dict.fromkeys(("torch", subject.executor))},
        measured=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def best_row(entry: Entry, budget_ms: float) -> Row | None:
    """Return the highest resolution that keeps a budget, None without one.

    What has to fit are 95 of 100 predictions, and decoding.

    Raises:
        ValueError: If the budget is not a positive number.
    """
    check_budget(budget_ms)
    return next((row for row in entry.rows if row.decode_ms + row.p95_ms <= budget_ms), None)


def layout(entry: Entry, budget_ms: float | None = None) -> str:
    """Lay out what was measured as text, and the answer for a budget."""
    height, width = entry.image
    threads = counted(entry.threads, "thread")
    metric = (entry.metric or "accuracy").replace("_", " ")
    lines = [
        f"{entry.executor}, {entry.file}, {entry.machine.device}, {threads}; one image of "
        f"{width}x{height}, {counted(entry.runs, 'run')}",
        f"{'resolution':>10}{'median ms':>11}{'p95 ms':>9}{'network ms':>12}{'memory MiB':>12}"
        f"{metric:>11}",
    ]
    stages = [_stages(row) for row in entry.rows]
    if any(stages):
        lines[-1] += "".join(f"{name:>9}" for name in (*NAMES, "sum ms"))
    for row, times in zip(entry.rows, stages, strict=True):
        memory = "" if row.peak_bytes is None else f"{row.peak_bytes / _MIB:.1f}"
        lines.append(
            f"{row.resolution:>10}{row.median_ms:>11.2f}{row.p95_ms:>9.2f}{row.network_ms:>12.2f}"
            f"{memory:>12}{_percent(row):>11}{times}"
        )
    return "\n".join([*lines, *([] if budget_ms is None else [_answer(entry, budget_ms)])])


def _stages(row: Row) -> str:
    """Return the stages and their sum as text, nothing where they were not measured."""
    if row.stages is None:
        return ""
    values = (*asdict(row.stages).values(), row.stages.total)
    return "".join(f"{value:>9.2f}" for value in values)


def _percent(row: Row) -> str:
    return "" if row.accuracy is None else percent(row.accuracy, unit=" %")


def _answer(entry: Entry, budget_ms: float) -> str:
    row = best_row(entry, budget_ms)
    if row is None:
        return f"within {budget_ms:g} ms: no resolution"
    accuracy = ""
    if row.accuracy is not None:
        accuracy = f", {(entry.metric or '').replace('_', ' ')} {_percent(row)}"
    decode = f", decoding {row.decode_ms:.2f} ms" if row.decode_ms else ""
    return f"within {budget_ms:g} ms: {row.resolution}, p95 {row.p95_ms:.2f} ms{decode}{accuracy}"
