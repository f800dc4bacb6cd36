"""`rsseg doctor`: what is wrong with this machine, or with a configuration on it, and the remedy.

The order of the checks. Those of a machine are in `machine`, those of a configuration in
`configuration`; none can end the others. Nothing is left on the disk and nothing is
downloaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
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
