"""What `rsseg doctor` reports: a finding, and how checks are run so that none ends the others.

What is checked, and what becomes of the findings, is in the other modules of the doctor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "hint", "fault"]


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Args:
        check: What was looked at.
        state: "fault" for what stops a run; "hint" for what makes it slow, or stops some runs.
        found: What there is.
        remedy: How it is mended; empty if there is nothing to mend.
    """

    check: str
    state: State
    found: str
    remedy: str = ""


Check = Callable[[], Iterable[Finding]]


def attempted(named: Mapping[str, Check]) -> list[Finding]:
    """Run checks; one that fails itself is a fault, and does not end the others."""
    findings: list[Finding] = []
    for name, check in named.items():
        try:
            findings += check()
        except Exception as error:
            found = f"could not be checked ({type(error).__name__}: {first_line(error)})"
            findings.append(Finding(name, "fault", found, "report this line as a fault of rsseg"))
    return findings


def first_line(error: Exception) -> str:
    """Return the first line of what an error says, or its kind if it says nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__)
