"""Facts about where onnxruntime-web comes from, and that nothing else is taken for it."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from rsseg.runtime.web import runtime_files as files
from tests.helpers.file_server import served

CONTENT = {files.MODULE: b"export default 1;", files.WASM: b"\0asm"}


def tarball() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as written:
        for name, content in {**CONTENT, "ort.all.js": b"not needed"}.items():
            entry = tarfile.TarInfo(f"package/dist/{name}")
            entry.size = len(content)
            written.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def expect(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """Let the digests be those of a tarball and of CONTENT."""
    digest = base64.b64encode(hashlib.sha512(content).digest()).decode()
    monkeypatch.setattr(files, "INTEGRITY", f"sha512-{digest}")
    digests = {name: hashlib.sha256(each).hexdigest() for name, each in CONTENT.items()}
    monkeypatch.setattr(files, "DIGESTS", digests)


def registry(tmp_path: Path, content: bytes) -> Path:
    folder = tmp_path / "registry" / "onnxruntime-web" / "-"
    folder.mkdir(parents=True)
    (folder / f"onnxruntime-web-{files.VERSION}.tgz").write_bytes(content)
    return tmp_path / "registry"


def npm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str) -> None:
    """Let a script be the only program there is, under the name npm."""
    path = tmp_path / "bin" / "npm"
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(path.parent))


def test_files_of_a_folder_are_taken_if_their_digests_are_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expect(monkeypatch, b"")
    for name, content in CONTENT.items():
        (tmp_path / name).write_bytes(content)
    assert files.runtime_files(tmp_path) == CONTENT
    (tmp_path / files.WASM).write_bytes(b"\0asm of another version")
    with pytest.raises(ValueError, match=r"threaded\.wasm is not that of onnxruntime-web@1\."):
        files.runtime_files(tmp_path)
    (tmp_path / files.MODULE).unlink()
    with pytest.raises(
        ValueError, match=r"no ort\.wasm\.bundle\.min\.mjs in .*expected the folder"
    ):
        files.runtime_files(tmp_path)


def test_npm_fetches_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = tarball()
    expect(monkeypatch, content)
    (tmp_path / "ready").write_bytes(content)
    script = f'[ "$1 $2" = "pack {files.NAME}" ] && /bin/cp "{tmp_path}/ready" onnxruntime-web.tgz'
    npm(monkeypatch, tmp_path, script)
    assert files.runtime_files() == CONTENT


def test_failing_npm_is_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    npm(monkeypatch, tmp_path, "echo 'npm error code ENOTFOUND' >&2; exit 1")
    with pytest.raises(ValueError, match=r"ENOTFOUND.*offline, give --runtime-files DIR"):
        files.runtime_files()


def test_registry_of_npms_settings_is_asked_without_npm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = tarball()
    expect(monkeypatch, content)
    monkeypatch.setenv("PATH", "")
    with served(registry(tmp_path, content)) as address:
        monkeypatch.setenv("npm_config_registry", f"{address}/")
        assert files.runtime_files() == CONTENT
    monkeypatch.setenv("npm_config_registry", str(tmp_path))
    with pytest.raises(ValueError, match=r"cannot fetch .*http.*--runtime-files"):
        files.runtime_files()
    monkeypatch.delenv("npm_config_registry")
    monkeypatch.delenv("NPM_CONFIG_REGISTRY", raising=False)
    with pytest.raises(ValueError, match=r"no npm .*or set NPM_CONFIG_REGISTRY .*--runtime-files"):
        files.runtime_files()


def test_other_content_from_the_registry_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with served(registry(tmp_path, tarball())) as address:
        monkeypatch.setenv("npm_config_registry", address)
        with pytest.raises(
            ValueError, match=r"has the digest sha512-.*expected sha512-.*--runtime"
        ):
            files.runtime_files()
