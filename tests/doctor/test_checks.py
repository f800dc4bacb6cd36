"""Every made-up ill of a machine is found, named with its remedy, and health is not mended."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rsseg.doctor import checks
from rsseg.doctor.checks import Finding

GIB = 2**30
HERE = Path("here")


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
    "no driver": (lambda: checks.check_cuda(0, 1, None), "hint", "torch.utils.collect_env"),
    "hidden": (lambda: checks.check_cuda(0, 2, "-1"), "hint", "unset CUDA_VISIBLE_DEVICES"),
    "threads": (lambda: checks.check_threads(4, 64, None), "hint", "OMP_NUM_THREADS=4"),
    "OMP": (lambda: checks.check_threads(4, 4, "four"), "hint", "is four, not a number above 0"),
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
    "no data": (lambda: checks.check_data("/d", "gone"), "fault", "/d cannot be read: gone"),
    "bf16": (lambda: checks.check_precision("bf16", "cpu", bf16=False), "hint", "precision=fp32"),
    "fp16": (lambda: checks.check_precision("fp16", "cpu", bf16=True), "hint", "precision=fp32"),
}
WELL: list[Callable[[], Finding]] = [
    lambda: checks.check_version("timm", "1.0.31", ">=1.0.9"),
    lambda: checks.check_version("torch", "2.6.0+cpu", "==2.6.0"),
    lambda: checks.check_version("unknown", "0.1", ""),
    lambda: checks.check_cuda(0, 0, None),
    lambda: checks.check_cuda(1, 1, "0"),
    lambda: checks.check_threads(4, 4, None),
    lambda: checks.check_threads(4, 1, "1"),
    lambda: checks.check_workers(0, 1),
    lambda: checks.check_shared_memory(GIB, GIB),
    lambda: checks.check_shared_memory(0, 0),
    lambda: checks.check_shared_memory(None, GIB),
    lambda: checks.check_open_files(1024, 400),
    lambda: checks.check_open_files(-1, 400),
    lambda: checks.check_disk(HERE, 2 * GIB, GIB, writable=True),
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
