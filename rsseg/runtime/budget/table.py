"""The file NAME.latency.json beside a checkpoint: measured times, of several machines.

An entry belongs to a kind of machine, an executor, a number of threads and the file that was
measured; writing one leaves those of others as they are.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, field
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from rsseg.common.cores import usable_cores
from rsseg.common.files import read_json, write_whole
from rsseg.runtime.beside import read_or_warn
from rsseg.runtime.stages import Stages

_PROCESSORS = Path("/proc/cpuinfo")


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Machine:
    """A kind of machine.

    Args:
        cpu: Model of the processor.
        cores: How many of its cores this process may use.
        device: What computes: "cpu", or the name of a GPU.
    """

    cpu: str
    cores: int
    device: str = "cpu"


def this_machine(device: str = "cpu") -> Machine:
    """Describe this machine; `device` is what computes, such as "cpu" or "cuda:0"."""
    name = _gpu(device) if device.startswith("cuda") else "cpu"
    return Machine(cpu=_model(), cores=usable_cores(), device=name)


def _gpu(device: str) -> str:
    import torch  # noqa: PLC0415 The process of an exported file does without.

    return torch.cuda.get_device_name(device)


def _model() -> str:
    try:
        lines = _PROCESSORS.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


SUFFIX: Final = ".latency.json"
_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
_Milliseconds = Annotated[float, Field(gt=0)]
_Side = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Row:
    """What was measured at one resolution.

    Args:
        resolution: Side of the view in pixels.
        median_ms: Median of a whole prediction.
        p95_ms: What 95 of 100 predictions took at most.
        network_ms: Median of the network alone.
        peak_bytes: Memory at the peak above what the process held before the network was opened;
            None if it was not measured.
        accuracy: Of the metric of the entry, 0..1; None if it is not known.
        stages: Medians of the stages, of a JPEG, whose decoding and encoding the times above leave
            out; None in tables of earlier versions.
    """

    resolution: _Side
    median_ms: _Milliseconds
    p95_ms: _Milliseconds
    network_ms: _Milliseconds
    peak_bytes: int | None = None
    accuracy: float | None = None
    stages: Stages | None = None

    @property
    def decode_ms(self) -> float:
        """Of decoding a JPEG; 0 if it was not measured."""
        return 0.0 if self.stages is None else self.stages.decode


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Entry:
    """What was measured of one file in one way.

    Args:
        machine: Where.
        executor: Name of the executor.
        threads: Threads that computed one image.
        file: Name of the file that was measured.
        rows: One for each resolution, largest first.
        runs: Predictions that were timed at each resolution.
        image: Height and width of the image.
        metric: Name of the metric that the accuracies are of.
        versions: Of what computed, by name.
        measured: When, UTC, as ISO 8601.
    """

    machine: Machine
    executor: str
    threads: int
    file: str
    rows: tuple[Row, ...]
    runs: int
    image: tuple[int, int]
    metric: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    measured: str = ""

    def key(self) -> tuple[Machine, str, int, str]:
        """Return what tells it from other entries of the same file."""
        return self.machine, self.executor, self.threads, self.file


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class _Table:
    entries: tuple[Entry, ...]
    format: Literal[1] = 1


def latency_file(path: Path) -> Path:
    """Return the path of the times of a checkpoint or an exported file."""
    return path.with_name(path.stem + SUFFIX)


def read_entries(path: Path) -> list[Entry]:
    """Read a file of times.

    Raises:
        ValueError: If it is not such a file, or damaged; names it.
        OSError: If it cannot be read.
    """
    try:
        return list(TypeAdapter(_Table).validate_python(read_json(path)).entries)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(map(str, fault["loc"])) or "the whole"
        raise ValueError(
            f"{path} is not a table of latencies ({place}: {fault['msg']}); move it away and "
            "measure again"
        ) from error


def update_entries(path: Path, entries: Sequence[Entry]) -> None:
    """Write entries into a file of times; those with the same key are replaced, others stay.

    Raises:
        ValueError: If there is a file that is not such a table.
        OSError: If it cannot be read or written.
    """
    old = read_entries(path) if path.exists() else []
    new = {entry.key(): entry for entry in entries}
    kept = [entry for entry in old if entry.key() not in new]
    table = asdict(_Table(entries=(*kept, *new.values())))
    write_whole(path, json.dumps(table, indent=1) + "\n")


def find_rows(path: Path, *, machine: Machine, executor: str, threads: int) -> tuple[Row, ...]:
    """Return what was measured of a file on this kind of machine, in this way.

    The table of its own name comes first, then every other in its folder.

    Args:
        path: A checkpoint or an exported file.
        machine: The machine.
        executor: Name of the executor.
        threads: Threads that compute one image.

    Returns:
        The rows, none if nothing was measured. A table that cannot be used is a warning where it
        has the file's own name, and says nothing otherwise.
    """
    own = latency_file(path)
    others = sorted(set(path.parent.glob(f"*{SUFFIX}")) - {own})
    for entries in (*([_own_entries(own)] if own.exists() else []), *map(_entries_of, others)):
        for entry in entries:
            if entry.key() == (machine, executor, threads, path.name):
                return entry.rows
    return ()


def _own_entries(table: Path) -> list[Entry]:
    consequence = "until then times are measured at each start"
    return read_or_warn(lambda: read_entries(table), [], consequence=consequence)


def _entries_of(table: Path) -> list[Entry]:
    """Read a table; one of another file that cannot be read says nothing about this file."""
    try:
        return read_entries(table)
    except (ValueError, OSError):
        return []
