"""Fetching the official file, from a server on this machine."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from datasets.nyudv2.download import download

CONTENT = np.random.default_rng(0).bytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT on this machine and remembers the ranges it was asked for.

    `breaks_after`: bytes after which the connection breaks. `ranges`: whether ranges are known.
    """

    breaks_after: int | None = None
    ranges = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/data.mat"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers["Range"]
        self.server.asked.append(wanted)
        start = 0
        if self.path != "/data.mat":
            self.send_error(404)
            return
        if wanted and self.server.ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # who refuses the size hangs up at once
            self.wfile.write(CONTENT[start : self.server.breaks_after])

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def fetch(target: Path, server: Server, sha256: str = SHA256, size: int = len(CONTENT)) -> Path:
    return download(target, server.url, size=size, sha256=sha256)


def test_download_into_a_folder_gives_the_file_of_the_url(tmp_path: Path, server: Server) -> None:
    path = fetch(tmp_path / "new", server)
    assert path == tmp_path / "new" / "data.mat"
    assert path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == ["data.mat"]


def test_right_file_is_not_fetched_again(
    tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data.mat").write_bytes(CONTENT)
    assert fetch(tmp_path / "data.mat", server).read_bytes() == CONTENT
    assert "is there already" in capsys.readouterr().out
    assert not server.asked


@pytest.mark.parametrize("content", [CONTENT[:-1], b"x" + CONTENT[1:]])
def test_wrong_file_under_the_name_is_refused_and_kept(
    tmp_path: Path, server: Server, content: bytes
) -> None:
    (tmp_path / "data.mat").write_bytes(content)
    with pytest.raises(ValueError, match=r"data\.mat: .*expected .*move it away"):
        fetch(tmp_path / "data.mat", server)
    assert (tmp_path / "data.mat").read_bytes() == content
    assert not server.asked


def test_broken_download_is_kept_and_gone_on_with(tmp_path: Path, server: Server) -> None:
    server.breaks_after = 1_000_000
    with pytest.raises(OSError, match=r"broke off; 1000000 of 3000000 bytes are in .*\.part, run"):
        fetch(tmp_path / "data.mat", server)
    assert not (tmp_path / "data.mat").exists()
    server.breaks_after = None
    assert fetch(tmp_path / "data.mat", server).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=1000000-"]


def test_server_without_ranges_sends_all_of_it_again(tmp_path: Path, server: Server) -> None:
    server.ranges = False
    (tmp_path / "data.mat.part").write_bytes(b"something else")
    assert fetch(tmp_path / "data.mat", server).read_bytes() == CONTENT


def test_complete_part_is_checked_and_renamed(tmp_path: Path, server: Server) -> None:
    (tmp_path / "data.mat.part").write_bytes(CONTENT)
    assert fetch(tmp_path / "data.mat", server).read_bytes() == CONTENT
    assert not server.asked


def test_part_that_is_too_long_is_fetched_anew(tmp_path: Path, server: Server) -> None:
    (tmp_path / "data.mat.part").write_bytes(CONTENT + b"x")
    assert fetch(tmp_path / "data.mat", server).read_bytes() == CONTENT


def test_wrong_hash_leaves_nothing(tmp_path: Path, server: Server) -> None:
    with pytest.raises(ValueError, match=rf"sha256 is {SHA256}, expected {'0' * 64}.*removed"):
        fetch(tmp_path / "d" / "data.mat", server, sha256="0" * 64)
    assert not list((tmp_path / "d").iterdir())


def test_wrong_size_is_refused_before_anything_is_fetched(tmp_path: Path, server: Server) -> None:
    with pytest.raises(ValueError, match="offers 3000000 bytes, expected 4000000; give the right"):
        fetch(tmp_path / "data.mat", server, size=4_000_000)
    assert not list(tmp_path.iterdir())


def test_unreachable_places_are_named(tmp_path: Path, server: Server) -> None:
    with pytest.raises(OSError, match=r"/other\.mat: HTTP Error 404.*give another --url"):
        download(tmp_path, server.url.replace("data", "other"), size=5, sha256=SHA256)
    with pytest.raises(OSError, match=r"127\.0\.0\.1:1/a\.mat: .*0 of 5 bytes"):
        download(tmp_path, "http://127.0.0.1:1/a.mat", size=5, sha256=SHA256)


def test_disk_space_is_checked_first(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=2_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OSError, match=r"0.00 GB free, 0.00 GB needed; make room"):
        fetch(tmp_path / "data.mat", server)
    assert not server.asked
