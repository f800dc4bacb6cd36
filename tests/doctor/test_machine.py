"""Packages are held against what the installed rsseg asks for, in made-up environments."""

from __future__ import annotations

from importlib import metadata

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


def test_packages_are_held_against_the_installed_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(machine.PACKAGES, "pillow", "no_such_module")
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
