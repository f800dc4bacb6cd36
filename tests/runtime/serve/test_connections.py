"""Facts about rsseg/runtime/serve/connections.py: many, silent and interrupted connections."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import httpx
import pytest

from rsseg.runtime.serve import connections
from rsseg.runtime.serve.app import page
from rsseg.runtime.serve.connections import Room, room
from tests.helpers import processes
from tests.helpers.small_service import encoded, fake_service, serving
from tests.runtime.serve.test_server import HEAD, connect, predict, status, until

SMALL = Room(connections=8, batch=2)


@pytest.mark.parametrize("files", [64, 128, 256, 1024, 65536, 2**20])
def test_connections_and_those_on_their_way_fit_the_files(files: int) -> None:
    space = room(files)
    assert space.connections >= 4
    assert space.batch >= 1
    if files > 128:
        assert space.connections + 4 * space.batch + 64 <= files


def test_idle_connections_make_room_for_one_that_asks() -> None:
    with serving(fake_service(), space=SMALL) as address:
        idle = [connect(address) for _ in range(40)]
        for _ in range(5):
            assert httpx.get(f"{address}/health", timeout=processes.SECONDS).status_code == 200
        assert predict(address).status_code == 200
        for connection in idle:
            connection.close()


def test_slow_uploads_make_room_where_nobody_is_idle() -> None:
    with serving(fake_service(), space=SMALL) as address:
        slow = [connect(address) for _ in range(20)]
        for connection in slow:
            connection.sendall(f"{HEAD}Content-Length: 1000\r\n\r\nabc".encode())
        assert predict(address).status_code == 200
        for connection in slow:
            connection.close()


def ask_and_never_read(address: str, count: int) -> list[socket.socket]:
    """Ask for the page again and again, on connections that read nothing."""
    asked = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 500
    connections = [connect(address) for _ in range(count)]
    for connection in connections:
        connection.sendall(asked)
    return connections


def test_answers_that_nobody_reads_make_room() -> None:
    with serving(fake_service(), space=SMALL) as address:
        deaf = ask_and_never_read(address, 20)
        for _ in range(5):
            assert httpx.get(f"{address}/health", timeout=processes.SECONDS).status_code == 200
        assert predict(address).status_code == 200
        for connection in deaf:
            connection.close()


def test_connection_whose_answer_is_not_read_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "READ_SECONDS", 2.0)
    with serving(fake_service()) as address:
        (deaf,) = ask_and_never_read(address, 1)
        time.sleep(8)
        with deaf:
            assert received(deaf) < 500 * len(page())


def received(connection: socket.socket) -> int:
    """Read a connection to its end, a reset included; return how many bytes there were."""
    count = 0
    with contextlib.suppress(ConnectionResetError):
        while content := connection.recv(2**20):
            count += len(content)
    return count


def test_requests_that_are_computed_keep_their_place_and_others_are_told_so() -> None:
    begun, go = threading.Event(), threading.Event()

    def compute(_: int) -> None:
        begun.set()
        go.wait(processes.SECONDS)

    service = fake_service(compute, budget_ms=1e6)
    body = encoded()
    request = f"{HEAD}Content-Length: {len(body)}\r\n\r\n".encode() + body
    with serving(service, space=Room(connections=3, batch=1)) as address:
        computed = [connect(address) for _ in range(3)]
        computed[0].sendall(request)
        assert begun.wait(processes.SECONDS)  # Else the others may join it, and none waits.
        for connection in computed[1:]:
            connection.sendall(request)
        until(lambda: service.workers.waiting == 2)
        with connect(address) as other:
            assert status(other) == 503
        go.set()
        assert [status(connection) for connection in computed] == [200] * 3
        for connection in computed:
            connection.close()


@pytest.mark.parametrize("sent", [b"", b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: "])
def test_headers_that_do_not_come_end_a_connection(
    monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.5)
    with serving(fake_service()) as address, connect(address) as silent:
        silent.sendall(sent)
        begin = time.monotonic()
        assert ended(silent)
        assert time.monotonic() - begin < 5


def test_headers_of_a_second_request_that_do_not_come_end_a_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.5)
    with serving(fake_service()) as address, connect(address) as silent:
        silent.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert status(silent) == 200
        for _ in range(60):  # A byte now and then is no request.
            try:
                silent.sendall(b"G")
            except OSError:
                return
            time.sleep(0.1)
    pytest.fail("the connection is still open")


def ended(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_open_connection_is_told_that_the_service_stops() -> None:
    with serving(fake_service()) as address:
        held = connect(address)
        held.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        stream = held.makefile("rb")
        assert b"200" in stream.readline()
        while stream.readline() not in (b"\r\n", b""):
            pass
        threading.Timer(0.4, held.sendall, [b"GET /model HTTP/1.1\r\nHost: x\r\n\r\n"]).start()
    with held:
        answer = stream.read()  # the rest of the first answer, and the second to its end
    assert b"HTTP/1.1 503" in answer
    assert b"onnection: close" in answer
    assert b"is being stopped" in answer
