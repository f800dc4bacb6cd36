"""Make the tables of docs/BENCHMARKS.md from the results of the benchmarks.

Of each case, allocator and machine the newest measurement is shown. What stands outside the two
markers of the document stays as it is.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

if not __package__:  # Run as a script: nothing is installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import RESULTS, mebibytes, number
from benchmarks.targets import TARGETS, Record, Target, judge
from rsseg.common.files import written_whole
from rsseg.common.messages import counted

ORDER = (
    "imports",
    "step",
    "distributed",
    "pixelwise",
    "loader",
    "nyudv2",
    "inference",
    "label_maps",
    "onnx_files",
    "quantization",
    "growth",
)
DOCUMENT = Path("docs/BENCHMARKS.md")
BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"
_ANSWERS = {True: "met", False: "**missed**", None: "not measured"}


def read_results(folder: Path) -> list[Record]:
    """Read all files of JSON lines in a folder.

    Raises:
        ValueError: If there is none, or a line is no record.
    """
    paths = sorted(folder.glob("*.jsonl"))
    if not paths:
        raise ValueError(
            f"{folder} holds no results (*.jsonl); run `make bench`, or give --results their folder"
        )
    records: list[Record] = []
    for path in paths:
        for line, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                records.append(json.loads(text))
            except ValueError as error:
                raise ValueError(f"{path}, line {line} is no JSON ({error}); remove it") from error
    return records


def newest(records: Iterable[Record]) -> list[list[Record]]:
    """Group records by what was measured where, and keep the newest measurement of each group."""
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        machine = json.dumps(record["machine"], sort_keys=True)
        key = (record["benchmark"], record["case"], record["allocator"], machine)
        groups.setdefault(key, []).append(record)
    last = {key: max(r["measured"] for r in group) for key, group in groups.items()}
    kept = [[r for r in group if r["measured"] == last[key]] for key, group in groups.items()]
    order = {name: place for place, name in enumerate(ORDER)}
    return sorted(kept, key=lambda group: order.get(group[0]["benchmark"], len(order)))


def markdown(records: Sequence[Record], targets: Sequence[Target] = TARGETS) -> str:
    """Write all tables: the targets, then each case."""
    parts = ["## Targets", *_target_table(targets, records)]
    for group in newest(records):
        first = group[0]
        allocator = "" if first["allocator"] == "default" else f", {first['allocator']} allocator"
        parts += ["", f"## {first['benchmark']}: {first['case']}{allocator}", ""]
        parts += [f"    {first['command']}", "", f"{_where(first)}. {_what(first)}.", ""]
        parts += _growth_table(first) if "fits" in first else _table(group)
    return "\n".join(parts)


def _where(record: Record) -> str:
    machine = record["machine"]
    cores = f"{machine['cores']} cores, {counted(machine['threads'], 'thread')}"
    device = "" if machine["device"] == "cpu" else f"{machine['device']}, "
    return (
        f"{device}{machine['cpu']} ({machine['instructions']}), {cores}, torch {machine['torch']}"
    )


def _what(record: Record) -> str:
    shown = {name: value for name, value in record["sizes"].items() if name != "unit"}
    sizes = ", ".join(f"{name} {_plain(value)}" for name, value in shown.items())
    launches = (
        "" if record["launches"] == 1 else f" in each of {counted(record['launches'], 'process')}"
    )
    return f"{record['rounds']} rounds{launches}, seed {record['seed']}; {sizes}"


def _plain(value: object) -> str:
    return "/".join(map(str, value)) if isinstance(value, list) else str(value)


def _rows(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def _target_table(targets: Sequence[Target], records: Sequence[Record]) -> list[str]:
    rows = []
    for target in targets:
        verdict = judge(target, records)
        where = [target.device, target.allocator or "any"]
        rows.append([target.what, *where, verdict.wanted, verdict.measured, _ANSWERS[verdict.met]])
    return ["", *_rows(["what", "device", "allocator", "target", "measured (median)", ""], rows)]


def _table(group: Sequence[Record]) -> list[str]:
    """Lay out the variants of a case."""
    notes = sorted({name for record in group for name in record["notes"]})
    rows = []
    for record in group:
        times, ratios, share = record["times"], record["ratios"], record["memory_ratio"]
        speed = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}..{max(ratios):.2f})"
        rows.append(
            [
                record["variant"] + (" (the peer)" if record["variant"] == record["peer"] else ""),
                number(1000 * statistics.median(times)),
                speed,
                mebibytes(record["memory"]),
                "-" if share is None else f"{share:.3f}",
                mebibytes(record["resident"]),
                *(number(record["notes"][n]) if n in record["notes"] else "-" for n in notes),
            ]
        )
    head = ["variant", "time, ms", "speed (min..max)", "extra memory, MiB", "memory", "held, MiB"]
    return _rows([*head, *notes], rows)


def _growth_table(record: Record) -> list[str]:
    """Lay out the points of a case of `growth`, and the lines through them."""
    unit = record["sizes"]["unit"]
    head = [unit, *map(number, record["x"]), "slope", "R^2", "exponent"]
    rows = [
        [
            name,
            *map(number, record[name]),
            number(fit["slope"]),
            f"{fit['r2']:.4f}",
            f"{fit['exponent']:.2f}",
        ]
        for name, fit in record["fits"].items()
    ]
    return _rows(head, rows)


def inserted(document: str, tables: str, where: Path) -> str:
    """Write tables between the markers of a document, in place of what is there.

    Raises:
        ValueError: If it does not hold each marker once, in order; `where` names it.
    """
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end) or BEGIN in rest or END in after:
        raise ValueError(
            f"{where} must hold the line {BEGIN} and below it the line {END}, each once; the "
            "tables are written between them"
        )
    return f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of JSON lines")
    parser.add_argument("--document", type=Path, default=DOCUMENT)
    options = parser.parse_args(arguments)
    try:
        tables = markdown(read_results(options.results))
        text = inserted(options.document.read_text(encoding="utf-8"), tables, options.document)
        with written_whole(options.document) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except (ValueError, OSError) as problem:
        parser.error(str(problem))
    print(f"{options.document} has the tables of {options.results}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
