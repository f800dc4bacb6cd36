"""Make the tables of docs/BENCHMARKS.md from the results of the benchmarks.

Of each case, allocator and machine the newest measurement is shown. Each class of machines has a
section with its targets and tables; of a class without results here the section stays as it is, as
does what stands outside the two markers of the document.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

if not __package__:  # Run as a script: nothing is installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import RESULTS, mebibytes, number
from benchmarks.targets import CUDA, TARGETS, Record, Target, class_of, judge
from rsseg.common.files import written_whole
from rsseg.common.messages import counted, markdown_table
from rsseg.common.processor import AMX, ARM, ARM_BF16, AVX2, AVX512, AVX512_BF16, OTHER

ORDER = (
    "imports",
    "step",
    "distributed",
    "pixelwise",
    "loader",
    "nyudv2",
    "inference",
    "label_maps",
    "end_to_end",
    "onnx_files",
    "quantization",
    "optimizer",
    "growth",
)
DOCUMENT = Path("docs/BENCHMARKS.md")
BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"
CLASSES = (AVX2, AVX512, AVX512_BF16, AMX, ARM, ARM_BF16, OTHER, CUDA)
_SECTION = "## "
_WIDTH = 120  # columns of the text between the tables
_ANSWERS = {True: "met", False: "**missed**", None: "not measured"}


def read_results(folder: Path) -> list[Record]:
    """Read all files of JSON lines in a folder.

    Records of earlier versions, which name no class of machines, are left out with a message.

    Raises:
        ValueError: If there is none, or a line is no record.
    """
    paths = sorted(folder.glob("*.jsonl"))
    if not paths:
        raise ValueError(
            f"{folder} holds no results (*.jsonl); run `make bench`, or give --results their folder"
        )
    records: list[Record] = []
    older = 0
    for path in paths:
        for line, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                record = json.loads(text)
            except ValueError as error:
                raise ValueError(f"{path}, line {line} is no JSON ({error}); remove it") from error
            if "class" in record.get("machine", {}):
                records.append(record)
            else:
                older += 1
    if older:
        lines = counted(older, "record")
        print(f"{folder}: {lines} without a class of machines left out; measure again")
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


def sections(
    records: Sequence[Record], targets: Sequence[Target] = TARGETS
) -> dict[str, list[str]]:
    """Return the lines of a section for each class of machines that has been measured."""
    classes = {class_of(record) for record in records}
    return {name: _section(name, records, targets) for name in CLASSES if name in classes}


def _section(name: str, records: Sequence[Record], targets: Sequence[Target]) -> list[str]:
    own = [record for record in records if class_of(record) == name]
    lines = [f"{_SECTION}{name}", "", f"### Targets: {name}"]
    lines += _target_table([target for target in targets if target.is_for(name)], own)
    for group in newest(own):
        first = group[0]
        allocator = "" if first["allocator"] == "default" else f", {first['allocator']} allocator"
        lines += ["", f"### {first['benchmark']}: {first['case']}{allocator}", ""]
        text = textwrap.wrap(f"{_where(first)}. {_what(first)}.", _WIDTH)
        lines += [f"    {first['command']}", "", *text, ""]
        lines += _growth_table(first) if "fits" in first else _table(group)
    return lines


def _where(record: Record) -> str:
    machine = record["machine"]
    cores = f"{machine['cores']} cores, {counted(machine['threads'], 'thread')}"
    device = "" if machine["device"] == "cpu" else f"{machine['device']}, "
    return f"{device}{machine['cpu']} ({machine['class']}), {cores}, torch {machine['torch']}"


def _what(record: Record) -> str:
    shown = {name: value for name, value in record["sizes"].items() if name != "unit"}
    sizes = ", ".join(f"{name} {_plain(value)}" for name, value in shown.items())
    launches = (
        "" if record["launches"] == 1 else f" in each of {counted(record['launches'], 'process')}"
    )
    rounds = f"{counted(record['rounds'], 'round')}{launches}, seed {record['seed']}"
    return f"{rounds}; {sizes}" if sizes else rounds


def _plain(value: object) -> str:
    return "/".join(map(str, value)) if isinstance(value, list) else str(value)


def _rows(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return markdown_table([head, *rows]).splitlines()


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
    head = ["variant", "time, ms", "speed (min..max)", "extra memory, MiB", "memory", "held, MiB"]
    for record in group:
        times, ratios, share = record["times"], record["ratios"], record["memory_ratio"]
        if record["left_out"]:
            dashes = ["-"] * (len(head) + len(notes) - 2)
            rows.append([record["variant"], f"left out: {record['left_out']}", *dashes])
            continue
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


def inserted(document: str, measured: Mapping[str, Sequence[str]], where: Path) -> str:
    """Write the sections of classes between the markers of a document, in place of theirs.

    Args:
        document: The text of the document.
        measured: Lines of the section of each class that has been measured.
        where: Name of the document, for the error.

    Raises:
        ValueError: If it does not hold each marker once, in order.
    """
    before, begin, rest = document.partition(BEGIN)
    inner, end, after = rest.partition(END)
    if not (begin and end) or BEGIN in rest or END in after:
        raise ValueError(
            f"{where} must hold the line {BEGIN} and below it the line {END}, each once; the "
            "tables are written between them"
        )
    kept = _sections_in(inner)
    texts = {**kept, **{name: "\n".join(lines) for name, lines in measured.items()}}
    tables = "\n\n".join(texts[name] for name in CLASSES if name in texts)
    return f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}"


def _sections_in(text: str) -> dict[str, str]:
    """Return the sections of a text by the class in their headings; others are dropped."""
    parts = f"\n{text}".split(f"\n{_SECTION}")[1:]
    return {part.partition("\n")[0].strip(): f"{_SECTION}{part.strip()}" for part in parts}


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
        measured = sections(read_results(options.results))
        text = inserted(options.document.read_text(encoding="utf-8"), measured, options.document)
        with written_whole(options.document) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except (ValueError, OSError) as problem:
        parser.error(str(problem))
    classes = ", ".join(measured)
    print(f"{options.document} has the tables of {options.results}, of the classes {classes}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
