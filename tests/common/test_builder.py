"""Facts about rsseg/common/builder.py that no file of a network shows."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rsseg.common.builder import Builder


@pytest.mark.parametrize("before", [[], ["."], [".", "elsewhere", "."]])
def test_path_of_imports_is_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    own = [str(tmp_path) if entry == "." else entry for entry in before]
    monkeypatch.setattr(sys, "path", [*own, *sys.path])
    path = sys.path[:]
    Builder("tests.helpers.own_networks:build", {"dense": True}).build(allowed=True)
    assert sys.path == path
