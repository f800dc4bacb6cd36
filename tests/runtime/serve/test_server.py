"""Facts about the service on a real connection: slow, huge, vanishing clients; the command."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from rsseg import runtime
from rsseg.cli import main as cli
from rsseg.runtime import serve
from rsseg.runtime.serve.app import make_app
from rsseg.runtime.serve.body import Limits
from rsseg.runtime.serve.connections import make_server
from rsseg.runtime.serve.server import Options, listen, open_service
from tests.helpers import processes
from tests.helpers.small_checkpoint import write_checkpoint
from tests.helpers.small_exported import description, small_net, write_onnx
from tests.helpers.small_service import encoded, fake_service, serving

HEAD = "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
MEGABYTE = 10**6


def connect(address: str) -> socket.socket:
    split = urlsplit(address)
    return socket.create_connection((split.hostname, split.port), timeout=processes.SECONDS)


def predict(address: str) -> httpx.Response:
    return httpx.post(f"{address}/predict", content=encoded(), timeout=processes.SECONDS)


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that is about to happen."""
    end = time.monotonic() + processes.SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def status(connection: socket.socket) -> int:
    return int(connection.makefile("rb").readline().split()[1])


def test_slow_clients_are_told_so_and_hold_nobody_up() -> None:
    with serving(fake_service(limits=Limits(seconds=3))) as address:
        slow = [connect(address) for _ in range(8)]
        for connection in slow:
            connection.sendall(f"{HEAD}Content-Length: 1000\r\n\r\nabc".encode())
        assert predict(address).status_code == 200
        for connection in slow:
            with connection:
                assert status(connection) == 408


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving(fake_service(limits=Limits(body_mb=1, seconds=300))) as place:
        yield place


@pytest.mark.parametrize("length", ["Content-Length: 50000000", "Transfer-Encoding: chunked"])
def test_body_without_end_is_refused_while_it_is_sent(address: str, length: str) -> None:
    chunk = bytes(MEGABYTE // 10)
    framed = f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n" if "chunked" in length else chunk
    with connect(address) as connection:
        connection.sendall(f"{HEAD}{length}\r\n\r\n".encode())
        for _ in range(40):  # Four times the limit, and the client still learns why.
            connection.sendall(framed)
        assert status(connection) == 413
    assert predict(address).status_code == 200


def test_client_that_goes_away_frees_its_place() -> None:
    go, begun = threading.Event(), threading.Event()

    def wait(_: int) -> None:
        begun.set()
        assert go.wait(processes.SECONDS)

    service = fake_service(wait, queue=1, budget_ms=1e6)
    body = encoded()
    with serving(service) as address:
        request = f"{HEAD}Content-Length: {len(body)}\r\n\r\n".encode() + body
        with connect(address) as computed:
            computed.sendall(request)
            assert begun.wait(processes.SECONDS)
            with connect(address) as waits:
                waits.sendall(request)
                until(lambda: service.workers.waiting == 1)
            until(lambda: "rsseg_disconnected_total 1.0" in httpx.get(f"{address}/metrics").text)
            answers: list[httpx.Response] = []
            thread = threading.Thread(target=lambda: answers.append(predict(address)))
            thread.start()
            until(lambda: service.workers.waiting == 1 or bool(answers))
            go.set()
            thread.join()
            assert status(computed) == 200
    assert answers[0].status_code == 200


def test_requests_that_wait_are_answered_when_the_service_is_stopped() -> None:
    go, begun = threading.Event(), threading.Event()

    def wait(_: int) -> None:
        begun.set()
        assert go.wait(processes.SECONDS)

    service = fake_service(wait)
    answers: list[httpx.Response] = []
    with serving(service) as address:
        threads = [
            threading.Thread(target=lambda: answers.append(predict(address))) for _ in range(3)
        ]
        threads[0].start()
        assert begun.wait(processes.SECONDS)  # Else the others may join it, and none waits.
        for thread in threads[1:]:
            thread.start()
        until(lambda: service.workers.waiting == 2)
        threading.Timer(1.0, go.set).start()  # when it has begun to stop
    for thread in threads:
        thread.join()
    assert [answer.status_code for answer in answers] == [200] * 3
    # Else a client would send its next request to a connection that is closed.
    assert [answer.headers.get("Connection") for answer in answers] == ["close"] * 3


def test_connection_that_only_the_kernel_has_accepted_is_refused_by_an_answer() -> None:
    async def stopped() -> bytes:
        server = make_server(make_app(fake_service()))
        server.config.lifespan = "off"
        server.config.load()
        server.lifespan = server.config.lifespan_class(server.config)
        server.servers = []  # It has not begun to accept.
        with listen("127.0.0.1", 0) as listening:
            listening.setblocking(False)
            with connect(f"http://127.0.0.1:{listening.getsockname()[1]}") as waits:
                waits.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                await server.shutdown([listening])
                return await asyncio.to_thread(waits.recv, 1000)

    answer = asyncio.run(stopped())
    assert answer.startswith(b"HTTP/1.1 503")
    assert b"is being stopped" in answer


def test_taken_port_is_a_clear_error() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=rf"cannot listen at http://127\.0\.0\.1:{port} .*--p"):
            listen("127.0.0.1", port)
    with pytest.raises(ValueError, match=r"--port must be in 0\.\.65535, got 70000"):
        listen("127.0.0.1", 70000)


def test_name_that_is_not_known_is_told_in_the_words_of_the_system(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(8, "nodename nor servname provided")  # 8, as macOS counts.

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ValueError, match=r"cannot listen at http://nowhere:8000 \(nodename nor"):
        listen("nowhere", 8000)


def test_command_serves_until_it_is_interrupted(tmp_path: Path) -> None:
    network = write_checkpoint(tmp_path / "last.pt")
    arguments = ["serve", network, "--port", "0", "--budget-ms", "5000", "--threads", "1"]
    (server,) = processes.start(cli.main, arguments, tmp_path, 1)
    try:
        until(lambda: server.printed.count("\n") == 2 or not server.process.is_alive())
        told, where = server.printed.splitlines()
        assert "(classification) at resolutions 64, 32: budget 5000 ms" in told
        assert json.loads(predict(where.split()[-1]).content)["resolution"] == 64
        assert server.process.pid is not None
        os.kill(server.process.pid, signal.SIGINT)
        server.process.join(processes.SECONDS)
        assert "stopped" in server.printed
        assert server.process.exitcode == 0
    finally:
        processes.finish([server], seconds=0)


def test_second_interruption_ends_at_once_and_without_a_traceback(tmp_path: Path) -> None:
    network = write_checkpoint(tmp_path / "last.pt")
    arguments = ["serve", network, "--port", "0", "--threads", "1"]
    (server,) = processes.start(cli.main, arguments, tmp_path, 1)
    try:
        until(lambda: "listening" in server.printed or not server.process.is_alive())
        address = server.printed.split()[-1]
        with connect(address) as upload:  # which is waited for
            upload.sendall(f"{HEAD}Content-Length: 1000\r\n\r\nabc".encode())
            assert httpx.get(f"{address}/health").status_code == 200  # What came before is read.
            assert server.process.pid is not None
            os.kill(server.process.pid, signal.SIGINT)
            time.sleep(2)
            os.kill(server.process.pid, signal.SIGINT)
            server.process.join(processes.SECONDS)
        assert server.process.exitcode == 0
        assert server.printed.splitlines()[2:] == ["stopped"]
    finally:
        processes.finish([server], seconds=0)


def test_threads_that_no_machine_has_are_refused(tmp_path: Path) -> None:
    network = write_onnx(tmp_path / "net.onnx", small_net(), description())
    with pytest.raises(ValueError, match="threads must be at most 1024, got 100000"):
        open_service(network, Options(threads=100_000))


def test_options_reach_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr("rsseg.runtime.serve.server.serve", lambda *told, **_: given.append(told))
    options = "--port 1 --queue 5 --workers 2 --budget-ms 30 --max-mb 3 --max-megapixels 4"
    assert cli.main(["serve", "net.onnx", "--executor", "openvino", *options.split()]) == 0
    expected = Options(
        port=1,
        queue=5,
        workers=2,
        budget_ms=30.0,
        executor="openvino",
        limits=Limits(body_mb=3, megapixels=4),
    )
    assert given == [(Path("net.onnx"), expected)]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--queue 0", "--queue must be at least 1, got 0"),
        ("--threads 0", "--threads must be at least 1, got 0"),
        ("--workers 100000", "--workers must be at most 1024, got 100000"),
        ("--host=", "--host is empty; expected an address, such as 127.0.0.1"),
        ("--host 203.0.113.1", "http://203.0.113.1:0 (Cannot assign requested address); give"),
        ("--budget-ms 0", "budget_ms must be a positive number of milliseconds, got 0.0"),
        ("--max-mb 0", "--max-mb must be a positive number, got 0.0"),
        ("--max-megapixels 100", "megapixels must be at most 89"),
        ("--executor fast", "unknown executor 'fast'; expected one of torch"),
        ("--max-mb inf", "must be a positive number, got inf"),
        ("", "there is no file net.txt; give a checkpoint (.pt or packed .safetensors), an ONNX"),
    ],
)
def test_what_cannot_be_served_is_a_clear_error(
    capsys: pytest.CaptureFixture[str], options: str, told: str
) -> None:
    assert cli.main(["serve", "net.txt", "--port", "0", *options.split()]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["starlette", "uvicorn", "prometheus_client"])
def test_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    monkeypatch.setattr(runtime, "serve", serve)  # put back, as the modules are
    for name in [n for n in sys.modules if n.startswith(("rsseg.runtime.serve", missing))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    assert cli.main(["serve", "net.pt", "--port", "0"]) == 2
    told = capsys.readouterr().err
    assert f"{missing} is not installed; pip install 'rsseg[serve]'" in told
