"""The findings of `rsseg doctor`: one function each, from what was measured to a finding.

Nothing is measured here, so that tests can make up a machine of any kind; `machine` and
`configuration` do that. A finding that is not "ok" says what the user can do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packaging.specifiers import SpecifierSet

from rsseg.common.messages import counted, first_line
from rsseg.common.processor import is_emulated

State = Literal["ok", "hint", "fault"]


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Args:
        check: Name of the check.
        state: "fault" for what stops a run; "hint" for what makes it slow, or stops some runs.
        found: What was measured.
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
            measurement = f"could not be checked ({type(error).__name__}: {first_line(error)})"
            findings.append(
                Finding(name, "fault", measurement, "report this line as a fault of rsseg")
            )
    return findings


FEW_FILES = 1024  # What most systems allow; below that little is left for anything else.


def _finding(check: str, state: State, measurement: str, remedy: str) -> Finding:
    return Finding(check, state, measurement, "" if state == "ok" else remedy)


def in_words(count: float) -> str:
    """Write a number of bytes.

    Example:
        >>> in_words(3 * 2**29), in_words(2**26)
        ('1.5 GiB', '64 MiB')
    """
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def check_version(
    name: str, version: str | None, expected: str, *, error: str = "", use: str = ""
) -> Finding:
    """Check that a package is there, is new enough, and can be imported.

    Args:
        name: Name in the package index, or "python".
        version: What is installed, None for nothing.
        expected: Versions that will do, such as ">=2.6"; empty if that is not known.
        error: Why it cannot be imported; empty if it can.
        use: What it is for, if one can do without it.
    """
    pip, wanted = "pip install --upgrade", f"'{name}{expected}'"
    remedy = f"{pip} {wanted}" if name != "python" else f"make an environment with {wanted}"
    if name in ("torch", "torchvision"):
        remedy += ", and torch and torchvision from one index, in versions that fit each other"
    if version is None:
        missing = f"not installed; {use}" if use else "not installed"
        return Finding(name, "hint" if use else "fault", missing, remedy)
    if not SpecifierSet(expected).contains(version, prereleases=True):
        return Finding(name, "fault", f"{version}, expected {expected}", remedy)
    if error:
        remedy = remedy.replace("--upgrade", "--force-reinstall")
        return Finding(name, "fault", f"{version} cannot be imported: {error}", remedy)
    return Finding(name, "ok", f"{version} ({expected})" if expected else version)


def check_cuda(devices: int, gpus: int, visible: str | None) -> Finding:
    """Check the CUDA devices of torch against the GPUs; `visible` is CUDA_VISIBLE_DEVICES."""
    measurement = f"torch can use {devices} CUDA devices, the system has {gpus} NVIDIA GPUs"
    remedy = "python -m torch.utils.collect_env shows build and driver; install those that fit"
    if visible in ("", "-1"):
        measurement, remedy = (
            f"{measurement}, CUDA_VISIBLE_DEVICES hides them",
            "unset CUDA_VISIBLE_DEVICES",
        )
    return _finding("CUDA", "hint" if gpus and not devices else "ok", measurement, remedy)


def check_threads(cores: int, threads: int, setting: str | None) -> Finding:
    """Check the threads of torch against the usable cores; `setting` is OMP_NUM_THREADS."""
    measurement = (
        f"torch uses {threads} on {cores} usable cores, OMP_NUM_THREADS is {setting or 'unset'}"
    )
    # Anything else is passed over, and as many threads are started as the machine has cores.
    obeyed = not setting or bool(re.fullmatch(r"[1-9]\d*(,[1-9]\d*)*", setting.strip()))
    state: State = "ok" if obeyed and threads <= cores else "hint"
    remedy = f"export OMP_NUM_THREADS={cores}, or fewer for each of several processes"
    return _finding(
        "threads", state, measurement if obeyed else f"{measurement}, not a number above 0", remedy
    )


def check_workers(workers: int, cores: int) -> Finding:
    """Check the processes that load images against the usable cores."""
    measurement = f"{counted(workers, 'process')} load images, {cores} usable cores"
    remedy = f"--set workers={cores}, or less for each of several processes that train"
    return _finding("workers", "hint" if workers > cores else "ok", measurement, remedy)


def check_shared_memory(free: int | None, needed: int) -> Finding:
    """Check the bytes by which workers pass on batches; `free` is None where nothing limits it."""
    if free is None:
        return Finding("shared memory", "ok", "this system sets no limit (it has no /dev/shm)")
    measurement = f"{in_words(free)} free in /dev/shm, {in_words(needed)} needed"
    remedy = "give more, such as docker run --shm-size=8g, or load without workers (workers: 0)"
    return _finding("shared memory", "fault" if free < needed else "ok", measurement, remedy)


def check_open_files(limit: int, needed: int) -> Finding:
    """Check how many files a process may open; each tensor from a worker is one of them."""
    limit = 2**31 if limit < 0 else limit  # Unlimited, as the system writes it.
    state: State = "fault" if limit < needed else "hint" if limit < FEW_FILES else "ok"
    measurement = f"at most {limit}, about {needed} needed"
    return _finding("open files", state, measurement, f"ulimit -n {max(4 * FEW_FILES, needed)}")


def check_disk(folder: Path, free: int, needed: int, *, writable: bool) -> Finding:
    """Check the folder in which the folder of a run is made."""
    if not writable:
        remedy = "write the run elsewhere with --run, or change the rights of this folder"
        return Finding("disk", "fault", f"{folder} cannot be written to", remedy)
    measurement = f"{in_words(free)} free in {folder}, {in_words(needed)} needed"
    remedy = "free some, or write the run to another disk with --run"
    return _finding("disk", "fault" if free < needed else "ok", measurement, remedy)


def check_data(root: str, error: str) -> Finding:
    """Check the data of a run; `error` says why they cannot be read."""
    measurement = f"{root} cannot be read: {error}" if error else f"{root} can be read"
    remedy = "--set data.root=PATH with the place of the data; look at its rights and its mount"
    return _finding("data", "fault" if error else "ok", measurement, remedy)


def check_precision(precision: str, device: str, *, bf16: bool) -> Finding:
    """Check that a device, "cpu" or "cuda", calculates in a number format without a detour."""
    slow = is_emulated(precision, device, bf16=bf16)
    measurement = f"{precision} on {device}" + (", which has to emulate it" if slow else "")
    remedy = "compare --estimate with that of --set precision=fp32, or set precision=auto"
    return _finding("precision", "hint" if slow else "ok", measurement, remedy)
