"""What `rsseg doctor` checks of a machine, whatever is to run on it: each check, put together.

A check measures, and has what it measured judged by `doctor_checks`. What depends on a
configuration is in `doctor_run`.
"""

from __future__ import annotations

import importlib
import os
import platform
import resource
import shutil
import socket
import warnings
from collections.abc import Iterator
from functools import partial
from importlib import metadata
from pathlib import Path

import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from rsseg.common.messages import first_line
from rsseg.doctor import checks, measures
from rsseg.doctor.checks import Check, Finding, attempted

# Packages by their names in the index and in an import, and what one can do without.
PACKAGES = {name: name for name in ("torch", "torchvision", "timm", "numpy")}
PACKAGES |= {"segmentation-models-pytorch": "segmentation_models_pytorch"}
PACKAGES |= {"opencv-python-headless": "cv2", "pillow": "PIL"}
PACKAGES |= {name: name for name in ("albumentations", "h5py", "simplejpeg", "triton")}
OPTIONAL = {
    "albumentations": "train_seg.py needs it",
    "h5py": "train_seg.py needs it",
    "simplejpeg": "without it JPEG files are decoded more slowly",
    "triton": "without it training on CUDA devices is slower, and nothing is compiled",
}
FILES = 256  # What a process opens besides batches.


def packages() -> Iterator[Finding]:
    """Check Python and all packages against what the installed rsseg asks for."""
    version, _ = installed("rsseg")
    if version is None:
        told = "not installed, so which versions it needs is not known"
        yield Finding("rsseg", "hint", told, "pip install -e '.[data]' in the folder of rsseg")
    else:
        yield Finding("rsseg", "ok", version)
    expected, python = requirements()
    yield checks.check_version("python", platform.python_version(), python)
    names = dict.fromkeys([*PACKAGES, *expected])
    yield from attempted({name: partial(_package, name, expected.get(name, "")) for name in names})


def _package(name: str, expected: str) -> list[Finding]:
    version, error = installed(name)
    use = OPTIONAL.get(name, "")
    return [checks.check_version(name, version, expected, error=error, use=use)]


def requirements() -> tuple[dict[str, str], str]:
    """Return which versions the installed rsseg asks for, by package, and of Python.

    Those that read data are among them; without an installed rsseg there are none.
    """
    try:
        lines, about = metadata.requires("rsseg") or [], metadata.metadata("rsseg")
    except metadata.PackageNotFoundError:
        return {}, ""
    found = map(Requirement, lines)
    wanted = [r for r in found if r.marker is None or r.marker.evaluate({"extra": "data"})]
    expected = {str(canonicalize_name(r.name)): str(r.specifier) for r in wanted}
    return expected, about["Requires-Python"] or ""


def installed(name: str) -> tuple[str | None, str]:
    """Return the version of a package, and why it cannot be imported or an empty text."""
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return None, ""
    # Else albumentations would look for a newer version of itself on the network.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module(PACKAGES.get(name, "rsseg"))
    except Exception as error:  # Libraries that do not fit each other raise anything.
        return version, first_line(error)
    return version, ""


def devices() -> list[Finding]:
    """Check the CUDA devices, and tell of the processor."""
    return [*checks.check_cuda(measures.measured_cuda()), _processor()]


def _processor() -> Finding:
    bf16 = "bf16" if measures.cpu_has_bf16() else "no bf16"
    vectors = torch.backends.cpu.get_cpu_capability()
    return Finding("CPU", "ok", f"{platform.machine()}, vectors of {vectors}, {bf16}")


def threads() -> Finding:
    """Check the threads of torch against the cores that this process may use."""
    setting = os.environ.get("OMP_NUM_THREADS")
    return checks.check_threads(measures.usable_cores(), torch.get_num_threads(), setting)


def temporary_files() -> Finding:
    """Check the folder for temporary files."""
    return checks.check_temporary(*measures.temporary_folder())


def connections() -> Iterator[Finding]:
    """Check by what several processes can talk, and find each other."""
    there = torch.distributed.is_available()
    available = {
        "gloo": there and torch.distributed.is_gloo_available(),
        "nccl": there and torch.distributed.is_nccl_available(),
    }
    yield checks.check_backends(available, torch.cuda.device_count())
    name = socket.gethostname()
    address = measures.within(measures.SECONDS, partial(measures.address_of, name), None)
    yield checks.check_hostname(name, address)


def space(*, shared: int, files: int) -> dict[str, Check]:
    """Return checks of the bytes of shared memory and of the open files that a run needs."""
    limit, free = resource.getrlimit(resource.RLIMIT_NOFILE)[0], measures.free_shared_memory
    return {
        "shared memory": lambda: [checks.check_shared_memory(free(), shared)],
        "open files": lambda: [checks.check_open_files(limit, files)],
    }


def disk(folder: Path, needed: int) -> Finding:
    """Check that a folder can be made, and has room for some bytes."""
    whole = folder.absolute()
    there = next(path for path in (whole, *whole.parents) if path.exists())
    writable = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    return checks.check_disk(there, shutil.disk_usage(there).free, needed, writable=writable)
