"""`rsseg doctor`: what is wrong with this machine, or with a configuration on it, and the remedy.

The order of the checks. Those of a machine are in `machine`, those of a configuration in
`configuration`; none can end the others. Nothing is left on the disk and nothing is
downloaded. What torch.utils.collect_env prints is not repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from rsseg.doctor.checks import Check, Finding, attempted
from rsseg.doctor.configuration import examine_run
from rsseg.doctor.machine import FILES, cuda, disk, packages, space, threads

LEAST = 2**30  # Bytes of disk and shared memory that any run needs, without a configuration.
COLLECT_ENV = "hardware, driver and build of torch: python -m torch.utils.collect_env"


def layout(findings: Sequence[Finding]) -> str:
    """Return one line for each finding, its remedy below, and a line that counts them."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.state:<5}  {finding.check}: {finding.found}")
        lines += [f"       -> {finding.remedy}"] if finding.remedy else []
    states = [finding.state for finding in findings]
    counts = [f"{name}: {states.count(name)}" for name in ("fault", "hint", "ok")]
    return "\n".join([*lines, "", ", ".join(counts), COLLECT_ENV])


def examine(configs: Sequence[Path] = (), overrides: Sequence[str] = ()) -> list[Finding]:
    """Check this machine, and each configuration, with the overrides, on it; raises nothing."""
    machine: dict[str, Check] = {
        "packages": packages,
        "CUDA": lambda: [cuda()],
        "threads": lambda: [threads()],
    }
    if not configs:
        machine |= space(shared=LEAST, files=FILES)
        machine["disk"] = lambda: [disk(Path("runs"), LEAST)]
    findings = attempted(machine)
    for path in configs:
        of_run = attempted({"configuration": partial(examine_run, path, overrides)})
        findings += [replace(finding, check=f"{path}: {finding.check}") for finding in of_run]
    return findings
