"""`rsseg doctor`: what is wrong with this machine, or with a configuration on it, and the remedy.

The command line and the order of the checks. Those of a machine are in `doctor_machine`, those of a
configuration in `doctor_run`; none can end the others. Nothing is left on the disk and nothing is
downloaded.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from rsseg.doctor.checks import Check, Finding, attempted
from rsseg.doctor.configuration import examine_run
from rsseg.doctor.machine import (
    FILES,
    connections,
    devices,
    disk,
    packages,
    space,
    temporary_files,
    threads,
)

LEAST = 2**30  # Bytes that are asked for where no configuration tells how many.


def add_doctor(verb: argparse.ArgumentParser) -> None:
    """Name the arguments of the verb."""
    verb.description = (
        "Look for what would stop or slow down a run here: versions, devices, threads, memory, "
        "disk, and what the given configurations need. Status 1 tells of a fault."
    )
    verb.set_defaults(run=_doctor)
    add = verb.add_argument
    add("configs", type=Path, nargs="*", metavar="CONFIG", help="of train_cls.py or train_seg.py")
    add("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", dest="overrides")
    add("--json", action="store_true", help="print JSON")


def _doctor(args: argparse.Namespace) -> int:
    if args.overrides and not args.configs:
        raise ValueError("--set goes with a configuration; give one, such as configs/NAME.yaml")
    findings = examine(args.configs, args.overrides)
    print(json.dumps([asdict(f) for f in findings], indent=1) if args.json else layout(findings))
    return int(any(finding.state == "fault" for finding in findings))


def layout(findings: Sequence[Finding]) -> str:
    """Write one line for each finding, with its remedy below, and a line that counts them."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.state:<5}  {finding.check}: {finding.found}")
        lines += [f"       -> {finding.remedy}"] if finding.remedy else []
    states = [finding.state for finding in findings]
    counts = [f"{name}: {states.count(name)}" for name in ("fault", "hint", "ok")]
    return "\n".join([*lines, "", ", ".join(counts)])


def examine(configs: Sequence[Path] = (), overrides: Sequence[str] = ()) -> list[Finding]:
    """Check this machine, and each configuration, with the overrides, on it; raises nothing."""
    machine: dict[str, Check] = {
        "packages": packages,
        "devices": devices,
        "threads": lambda: [threads()],
        "temporary files": lambda: [temporary_files()],
        "distributed": connections,
    }
    if not configs:
        machine |= space(shared=LEAST, files=FILES)
        machine["disk"] = lambda: [disk(Path("runs"), LEAST)]
    findings = attempted(machine)
    for path in configs:
        found = attempted({"configuration": partial(examine_run, path, overrides)})
        findings += [replace(finding, check=f"{path}: {finding.check}") for finding in found]
    return findings
