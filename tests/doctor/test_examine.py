"""`rsseg doctor`: its lines, its JSON and its status, and a whole examination of this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from rsseg.cli import main as cli
from rsseg.doctor import examine as doctor
from rsseg.doctor import machine
from rsseg.doctor.checks import Finding, attempted
from tests.helpers.small_configs import write_config, write_splits


def test_check_that_fails_is_reported_and_ends_no_other() -> None:
    def breaks() -> Iterator[Finding]:
        yield Finding("first", "ok", "before")
        raise RuntimeError("sensor\nbroken")

    found = attempted({"x": breaks, "y": lambda: [Finding("last", "ok", "behind")]})
    assert [finding.check for finding in found] == ["first", "x", "last"]
    assert found[1].state == "fault"
    assert "RuntimeError: sensor)" in found[1].found


@pytest.mark.parametrize(("state", "status"), [("ok", 0), ("hint", 0), ("fault", 1)])
def test_status_tells_of_faults(
    state: Any, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    finding = Finding("disk", state, "full", "" if state == "ok" else "empty it")
    monkeypatch.setattr(doctor, "examine", lambda *_: [finding])
    assert cli.main(["doctor"]) == status
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [state, "disk:", "full"]
    assert lines[1:-3] == ([] if state == "ok" else ["       -> empty it"])
    assert f"{state}: 1" in lines[-2]
    assert "torch.utils.collect_env" in lines[-1]
    assert cli.main(["doctor", "--json"]) == status
    assert json.loads(capsys.readouterr().out) == [asdict(finding)]


def test_overrides_without_a_configuration_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--set", "workers=0"]) == 2
    assert "--set goes with a configuration" in capsys.readouterr().err


def test_this_machine_can_be_examined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    images = write_splits(tmp_path / "images")
    monkeypatch.setattr(machine, "installed", lambda name: ("99.0", ""))
    path = write_config(Path("x.yaml"), data={"root": str(images)})
    alone, with_file = doctor.examine(), doctor.examine([path, Path("gone.yaml")], ["workers=0"])
    assert not [f for f in alone + with_file if "could not be checked" in f.found]
    assert {"threads", "disk", "shared memory"} <= {finding.check for finding in alone}
    assert {"x.yaml: disk", "gone.yaml: configuration"} <= {finding.check for finding in with_file}
    assert sorted(file.name for file in Path().iterdir()) == ["images", "x.yaml"]
