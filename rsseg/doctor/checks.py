"""What `rsseg doctor` makes of a machine: one function each, from what was measured to a finding.

Nothing is looked at here: all is given, so that a machine of any kind can be made up. Most of it is
measured in `doctor_measures`; which checks there are is in `doctor_machine` and `doctor_run`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packaging.specifiers import SpecifierSet

from rsseg.common.messages import first_line
from rsseg.doctor.measures import Cuda, CudaDevice

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


FEW_FILES = 1024  # What most systems allow; below that little is left for anything else.


def _judged(check: str, state: State, found: str, remedy: str) -> Finding:
    return Finding(check, state, found, "" if state == "ok" else remedy)


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


def check_cuda(cuda: Cuda) -> Iterator[Finding]:
    """Check the CUDA devices, or tell why the CPU is used."""
    for number, device in enumerate(cuda.devices):
        yield _check_device(f"cuda:{number}", device)
    if cuda.devices:
        return
    reason = f" ({cuda.complaint})" if cuda.complaint else ""
    if cuda.build is None and not cuda.hardware:
        yield Finding("CUDA", "ok", "torch is built for the CPU alone, and there is no NVIDIA GPU")
    elif cuda.build is None:
        found = "this machine has an NVIDIA GPU, but torch is built for the CPU alone"
        remedy = "install torch and torchvision built for CUDA, both from one index of pytorch.org"
        yield Finding("CUDA", "hint", found, remedy)
    elif cuda.hidden:
        found = "CUDA_VISIBLE_DEVICES hides every device; the CPU is used"
        yield Finding("CUDA", "hint", found, "unset CUDA_VISIBLE_DEVICES to use GPUs")
    elif cuda.hardware:
        found = f"torch, built for CUDA {cuda.build}, cannot use the NVIDIA GPU here{reason}"
        remedy = "update the driver (nvidia-smi shows it), or install torch for an older CUDA"
        yield Finding("CUDA", "fault", found, remedy)
    else:
        found = f"torch is built for CUDA {cuda.build} but finds no driver{reason}; the CPU is used"
        remedy = "nothing, if there is no GPU; a container gets it by docker run --gpus all"
        yield Finding("CUDA", "hint", found, remedy)


def _check_device(check: str, device: CudaDevice) -> Finding:
    capability = ".".join(map(str, device.capability))
    bf16 = "bf16" if has_bf16(device.capability) else "no bf16"
    memory = f"{in_words(device.free)} of {in_words(device.total)} free"
    found = f"{device.name}, {memory}, compute capability {capability}, {bf16}"
    remedy = "another process fills it (nvidia-smi shows which); end it, or take another device"
    return _judged(check, "hint" if device.free < device.total / 2 else "ok", found, remedy)


def has_bf16(capability: tuple[int, int]) -> bool:
    """Tell whether CUDA devices of a compute capability calculate in bf16 themselves."""
    return capability >= (8, 0)


def check_threads(cores: int, threads: int, setting: str | None) -> Finding:
    """Check the threads of torch against the usable cores; `setting` is OMP_NUM_THREADS."""
    found = f"torch uses {threads} on {cores} usable cores, OMP_NUM_THREADS is {setting or 'unset'}"
    # Anything else is passed over, and as many threads are started as the machine has cores.
    obeyed = not setting or bool(re.fullmatch(r"[1-9]\d*(,[1-9]\d*)*", setting.strip()))
    state: State = "ok" if obeyed and threads <= cores else "hint"
    remedy = f"export OMP_NUM_THREADS={cores}, or fewer for each of several processes"
    return _judged("threads", state, found if obeyed else f"{found}, no number above 0", remedy)


def check_workers(workers: int, cores: int) -> Finding:
    """Check the processes that load images against the usable cores."""
    found = f"{workers} processes load images, {cores} usable cores"
    remedy = f"--set workers={cores}, or less for each of several processes that train"
    return _judged("workers", "hint" if workers > cores else "ok", found, remedy)


def check_shared_memory(free: int | None, needed: int) -> Finding:
    """Check the bytes by which workers pass on batches; `free` is None where nothing limits it."""
    if free is None:
        return Finding("shared memory", "ok", "this system sets no limit (it has no /dev/shm)")
    found = f"{in_words(free)} free in /dev/shm, {in_words(needed)} needed"
    remedy = "give more, such as docker run --shm-size=8g, or load without workers (workers: 0)"
    return _judged("shared memory", "fault" if free < needed else "ok", found, remedy)


def check_open_files(limit: int, needed: int) -> Finding:
    """Check how many files a process may open; each tensor from a worker is one of them."""
    limit = 2**31 if limit < 0 else limit  # Unlimited, as the system writes it.
    state: State = "fault" if limit < needed else "hint" if limit < FEW_FILES else "ok"
    found = f"at most {limit}, about {needed} needed"
    return _judged("open files", state, found, f"ulimit -n {max(4 * FEW_FILES, needed)}")


def check_disk(folder: Path, free: int, needed: int, *, writable: bool) -> Finding:
    """Check the folder in which the folder of a run is made."""
    if not writable:
        remedy = "write the run elsewhere with --run, or change the rights of this folder"
        return Finding("disk", "fault", f"{folder} cannot be written to", remedy)
    found = f"{in_words(free)} free in {folder}, {in_words(needed)} needed"
    remedy = "free some, or write the run to another disk with --run"
    return _judged("disk", "fault" if free < needed else "ok", found, remedy)


def check_temporary(folder: str, error: str) -> Finding:
    """Check the folder for temporary files; `error` says why none could be written."""
    found = f"{folder} cannot be used: {error}" if error else f"{folder} can be written to"
    remedy = "free some space there, or export TMPDIR with a folder that can be written to"
    return _judged("temporary files", "fault" if error else "ok", found, remedy)


def check_backends(available: Mapping[str, bool], devices: int) -> Finding:
    """Check by what several processes can talk; several CUDA devices need nccl."""
    have = [name for name, there in available.items() if there]
    lacking = [name for name in ("gloo", "nccl")[: 1 + (devices > 1)] if name not in have]
    found = f"torch has {' and '.join(have) or 'no backend'}"
    remedy = f"to train with several processes, install a torch that has {' and '.join(lacking)}"
    return _judged("distributed", "hint" if lacking else "ok", found, remedy)


def check_hostname(name: str, address: str | None) -> Finding:
    """Check that this machine knows its own address, by which processes find each other."""
    found = f"{name} is {address}" if address else f"'{name}' cannot be resolved"
    remedy = f"to train with several processes, add '127.0.1.1 {name}' to /etc/hosts"
    return _judged("host name", "ok" if address else "hint", found, remedy)


def check_data(root: str, error: str) -> Finding:
    """Check the data of a run; `error` says why they cannot be read."""
    found = f"{root} cannot be read: {error}" if error else f"{root} can be read"
    remedy = "--set data.root=PATH with the place of the data; look at its rights and its mount"
    return _judged("data", "fault" if error else "ok", found, remedy)


def check_precision(precision: str, device: str, *, bf16: bool) -> Finding:
    """Check that a device, "cpu" or "cuda", calculates in a number format without a detour."""
    slow = (precision == "bf16" and not bf16) or (precision == "fp16" and device == "cpu")
    found = f"{precision} on {device}" + (", which has to emulate it" if slow else "")
    remedy = "compare --estimate with that of --set precision=fp32"
    return _judged("precision", "hint" if slow else "ok", found, remedy)
