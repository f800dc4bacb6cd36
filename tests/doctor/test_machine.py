"""Packages are compared with what the installed rsseg asks for; limits are read as they are."""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path

import pytest

from rsseg.doctor import machine
from rsseg.doctor.checks import Finding


def fake_index(monkeypatch: pytest.MonkeyPatch, versions: dict[str, str]) -> dict[str, Finding]:
    """Examine the packages of an environment in which only these are installed."""

    def version(name: str) -> str:
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    def requires(name: str) -> list[str]:
        version(name)
        lines = ["numpy>=1.26", "gone>=3", 'h5py>=3.11; extra == "data"', 'pytest; extra == "dev"']
        return [*lines, "rsseg[data]; extra == 'dev'"]

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(metadata, "requires", requires)
    monkeypatch.setattr(metadata, "metadata", lambda _: {"Requires-Python": ">=99"})
    return {finding.check: finding for finding in machine.packages()}


def test_packages_are_compared_with_the_installed_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(machine.MODULES, "pillow", "no_such_module")
    versions = {"rsseg": "0.1.0", "numpy": "1.25.1", "pillow": "11.0", "torch": "no version"}
    found = fake_index(monkeypatch, versions)
    assert found["numpy"].found == "1.25.1, expected >=1.26"
    assert found["gone"].remedy == "pip install --upgrade 'gone>=3'"
    assert found["pillow"].found == "11.0 cannot be imported: No module named 'no_such_module'"
    assert found["timm"].found == "not installed"
    assert (found["h5py"].state, found["simplejpeg"].state) == ("hint", "hint")
    assert "'h5py>=3.11'" in found["h5py"].remedy
    assert "pytest" not in found
    assert found["python"].found.endswith("expected >=99")
    assert {found[name].state for name in ("numpy", "gone", "pillow", "timm", "python")} == {
        "fault"
    }


def test_rsseg_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    found = fake_index(monkeypatch, {"numpy": "1.0"})
    assert found["rsseg"].state == "hint"
    assert found["numpy"].found == "1.0"
    assert found["python"].state == "ok"


QUOTAS = {
    "none": ({}, float("inf")),
    "v2": ({"cpu.max": "150000 100000"}, 1.5),
    "v2, unlimited": ({"cpu.max": "max 100000"}, float("inf")),
    "v1": ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2),
    "v1, unlimited": ({"cpu/cpu.cfs_quota_us": "-1"}, float("inf")),
}


@pytest.mark.parametrize(("files", "cores"), QUOTAS.values(), ids=QUOTAS)
def test_quota_of_a_container(files: dict[str, str], cores: float, tmp_path: Path) -> None:
    for name, text in files.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert machine.cpu_quota(tmp_path) == cores
    usable = machine.usable_cores(tmp_path)
    assert 1 <= usable <= (os.cpu_count() or 1)
    assert usable < cores + 1
