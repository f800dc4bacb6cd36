"""What `rsseg doctor` checks of a machine, whatever is to run on it.

Each check measures, and a function of `checks` compares what it measured. Nothing is raised for an
unfit machine, and nothing is left on the disk. What depends on a configuration is in
`configuration`; hardware, driver and build of torch are printed by torch.utils.collect_env.
"""

from __future__ import annotations

import importlib
import math
import os
import platform
import resource
import shutil
import sys
import warnings
from collections.abc import Iterator
from functools import partial
from importlib import metadata
from pathlib import Path

import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from rsseg.common import cores
from rsseg.common.messages import first_line
from rsseg.doctor import checks
from rsseg.doctor.checks import Check, Finding, attempted

# Looked at first, in this order; then all that the installed rsseg asks for.
PACKAGES = (
    *("torch", "torchvision", "timm", "numpy", "segmentation-models-pytorch"),
    *("opencv-python-headless", "pillow", "albumentations", "h5py", "simplejpeg", "triton"),
)
# Packages whose name in an import is not that in the index.
MODULES = {"opencv-python-headless": "cv2", "pillow": "PIL", "pyyaml": "yaml"}
# What one can do without.
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
        state = "not installed, so which versions it needs is not known"
        yield Finding("rsseg", "hint", state, "pip install -e '.[data]' in the folder of rsseg")
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
    every = map(Requirement, lines)
    needed = [r for r in every if r.marker is None or r.marker.evaluate({"extra": "data"})]
    expected = {str(canonicalize_name(r.name)): str(r.specifier) for r in needed}
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
            importlib.import_module(MODULES.get(name, name.replace("-", "_")))
    except Exception as error:  # Libraries that do not fit each other raise anything.
        return version, first_line(error)
    return version, ""


def cuda() -> Finding:
    """Check that torch can use the NVIDIA GPUs of this machine, if there are any."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    gpus = sum(1 for _ in Path("/dev").glob("nvidia[0-9]*"))
    return checks.check_cuda(count, gpus, os.environ.get("CUDA_VISIBLE_DEVICES"))


def threads() -> Finding:
    """Check the threads of torch against the cores that this process may use."""
    setting = os.environ.get("OMP_NUM_THREADS")
    return checks.check_threads(usable_cores(), torch.get_num_threads(), setting)


def usable_cores(root: Path = Path("/")) -> int:
    """Return how many cores this process may use at a time; `root` is that of the file system."""
    return max(1, math.ceil(min(cores.usable_cores(), cpu_quota(root))))


def cpu_quota(root: Path) -> float:
    """Return how many cores' time a container may take, inf for no limit.

    A container finds its own control group at the top of the mounted ones.

    Sources: https://docs.kernel.org/admin-guide/cgroup-v2.html (cpu.max) and
    https://docs.kernel.org/scheduler/sched-bwc.html (cpu.cfs_quota_us).
    """
    mount = root / "sys/fs/cgroup"
    version_1 = [text_of(mount / f"cpu/cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    quota, period = text_of(mount / "cpu.max").split() or version_1
    return int(quota) / int(period) if quota.isdigit() else math.inf  # "max", "-1", or no file.


def text_of(path: Path) -> str:
    """Return the content of a text file; of one that cannot be read, an empty text."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def space(*, shared: int, files: int) -> dict[str, Check]:
    """Return checks of the bytes of shared memory and of the open files that a run needs."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return {
        "shared memory": lambda: [checks.check_shared_memory(free_shared_memory(), shared)],
        "open files": lambda: [checks.check_open_files(limit, files)],
    }


def free_shared_memory() -> int | None:
    """Return the free bytes of /dev/shm; None where a system other than Linux has none."""
    if not Path("/dev/shm").is_dir():
        return 0 if sys.platform == "linux" else None
    return shutil.disk_usage("/dev/shm").free


def disk(folder: Path, needed: int) -> Finding:
    """Check that a folder can be made, and has room for some bytes."""
    whole = folder.absolute()
    existing = next(path for path in (whole, *whole.parents) if path.exists())
    writable = existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
    return checks.check_disk(existing, shutil.disk_usage(existing).free, needed, writable=writable)
