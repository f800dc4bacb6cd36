"""Rows and entries of a table of latencies, made up."""

from __future__ import annotations

from typing import Any

from rsseg.runtime.budget.table import Entry, Machine, Row

HERE, ELSEWHERE = Machine(cpu="a", cores=2), Machine(cpu="b", cores=64)


def row(resolution: int, milliseconds: float, **values: Any) -> Row:
    times = {"median_ms": milliseconds, "p95_ms": 1.5 * milliseconds, "network_ms": milliseconds}
    return Row(resolution=resolution, **(times | values))


def entry(machine: Machine = HERE, *rows: Row, **values: Any) -> Entry:
    held: dict[str, Any] = {
        "machine": machine,
        "executor": "torch",
        "threads": 2,
        "file": "last.pt",
        "rows": rows or (row(64, 40.0), row(32, 10.0)),
        "runs": 30,
        "image": (480, 640),
    }
    return Entry(**{**held, **values})
