"""Every made-up ill of a machine is found, named with its remedy, and health is not mended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rsseg.doctor import checks
from rsseg.doctor.checks import Finding
from rsseg.doctor.measures import Cuda, CudaDevice

GIB = 2**30
GPU = CudaDevice("H", 70 * GIB, 80 * GIB, (9, 0))
HERE = Path("here")


def cuda(**values: Any) -> Finding:
    (finding,) = checks.check_cuda(Cuda(**values))
    return finding


ILLS: dict[str, tuple[Callable[[], Finding], str, str]] = {
    "old": (lambda: checks.check_version("timm", "1.0.8", ">=1.0.9"), "fault", "1.0.8, expected"),
    "new": (lambda: checks.check_version("alb", "2.1", "==2.0.8"), "fault", "'alb==2.0.8'"),
    "gone": (lambda: checks.check_version("torch", None, ">=2.6"), "fault", "'torch>=2.6', and"),
    "optional": (lambda: checks.check_version("x", None, "", use="is fast"), "hint", "is fast"),
    "broken": (
        lambda: checks.check_version("x", "1.0", ">=1", error="no libGL"),
        *("fault", "1.0 cannot be imported: no libGL"),
    ),
    "python": (lambda: checks.check_version("python", "3.10.2", ">=3.11"), "fault", "environment"),
    "CPU build": (lambda: cuda(hardware=True), "hint", "built for the CPU alone"),
    "no driver": (lambda: cuda(build="13.2"), "hint", "finds no driver; the CPU is used"),
    "old driver": (
        lambda: cuda(build="13.2", hardware=True, complaint="too old (found version 11040)"),
        *("fault", "cannot use the NVIDIA GPU here (too old (found version 11040))"),
    ),
    "hidden": (lambda: cuda(build="13", hardware=True, hidden=True), "hint", "unset CUDA_VISIBLE"),
    "full": (
        lambda: cuda(devices=(replace(GPU, free=9 * GIB),)),
        *("hint", "H, 9.0 GiB of 80.0 GiB free, compute capability 9.0, bf16"),
    ),
    "threads": (lambda: checks.check_threads(4, 64, None), "hint", "OMP_NUM_THREADS=4"),
    "OMP": (lambda: checks.check_threads(4, 4, "four"), "hint", "is four, no number above 0"),
    "workers": (lambda: checks.check_workers(8, 2), "hint", "--set workers=2"),
    "docker": (lambda: checks.check_shared_memory(2**26, GIB), "fault", "64 MiB free in /dev/shm"),
    "few files": (lambda: checks.check_open_files(256, 400), "fault", "ulimit -n 4096"),
    "some files": (lambda: checks.check_open_files(500, 400), "hint", "at most 500"),
    "full disk": (
        lambda: checks.check_disk(HERE, GIB, 2 * GIB, writable=True),
        *("fault", "1.0 GiB free in here, 2.0 GiB needed"),
    ),
    "read-only": (
        lambda: checks.check_disk(HERE, GIB, 1, writable=False),
        "fault",
        "cannot be wri",
    ),
    "temporary": (lambda: checks.check_temporary("/t", "disk full"), "fault", "export TMPDIR"),
    "no gloo": (lambda: checks.check_backends({"gloo": False}, 0), "hint", "torch has no backend"),
    "no nccl": (lambda: checks.check_backends({"gloo": True}, 2), "hint", "a torch that has nccl"),
    "no name": (lambda: checks.check_hostname("node7", None), "hint", "'127.0.1.1 node7'"),
    "no data": (lambda: checks.check_data("/d", "gone"), "fault", "/d cannot be read: gone"),
    "bf16": (lambda: checks.check_precision("bf16", "cpu", bf16=False), "hint", "precision=fp32"),
    "fp16": (lambda: checks.check_precision("fp16", "cpu", bf16=True), "hint", "precision=fp32"),
}
WELL: list[Callable[[], Finding]] = [
    lambda: checks.check_version("timm", "1.0.31", ">=1.0.9"),
    lambda: checks.check_version("torch", "2.6.0+cpu", "==2.6.0"),
    lambda: checks.check_version("unknown", "0.1", ""),
    cuda,
    lambda: cuda(build="13", devices=(GPU,)),
    lambda: checks.check_threads(4, 4, None),
    lambda: checks.check_threads(4, 1, "1"),
    lambda: checks.check_workers(0, 1),
    lambda: checks.check_shared_memory(GIB, GIB),
    lambda: checks.check_shared_memory(0, 0),
    lambda: checks.check_shared_memory(None, GIB),
    lambda: checks.check_open_files(1024, 400),
    lambda: checks.check_open_files(-1, 400),
    lambda: checks.check_disk(HERE, 2 * GIB, GIB, writable=True),
    lambda: checks.check_temporary("/tmp", ""),
    lambda: checks.check_backends({"gloo": True, "nccl": False}, 1),
    lambda: checks.check_hostname("node7", "10.0.0.7"),
    lambda: checks.check_data("/d", ""),
    lambda: checks.check_precision("bf16", "cuda", bf16=True),
    lambda: checks.check_precision("fp16", "cuda", bf16=False),
]


@pytest.mark.parametrize(("check", "state", "told"), ILLS.values(), ids=ILLS)
def test_ill_is_found_and_has_a_remedy(check: Callable[[], Finding], state: str, told: str) -> None:
    finding = check()
    assert finding.state == state
    assert finding.remedy
    assert told in f"{finding.found} {finding.remedy}"


@pytest.mark.parametrize("check", WELL)
def test_health_is_not_mended(check: Callable[[], Finding]) -> None:
    finding = check()
    assert (finding.state, finding.remedy) == ("ok", "")


def test_devices_before_ampere_have_no_bf16() -> None:
    old = cuda(devices=(replace(GPU, capability=(7, 5)),))
    assert old.found.endswith("compute capability 7.5, no bf16")
