"""Requests that a service should survive: framed in two ways, strange, too long."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

OWN: Final = ("Host: 127.0.0.1", "Connection: close")


def request(
    body: bytes = b"",
    *,
    target: str = "/predict",
    headers: Sequence[str] = OWN,
    method: str = "POST",
) -> bytes:
    """Return the bytes of a request."""
    lines = [f"{method} {target} HTTP/1.1", *headers]
    if method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def framings() -> list[bytes]:
    """Return requests whose body is framed in two ways, or in none; another one is hidden in it."""
    host = "POST /predict HTTP/1.1\r\nHost: localhost\r\n"
    hidden = "0\r\n\r\nGET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    chunked = "Transfer-Encoding: chunked\r\n"
    bodies = [
        f"Content-Length: {len(hidden)}\r\n{chunked}\r\n{hidden}",
        f"{chunked}Content-Length: {len(hidden)}\r\n\r\n{hidden}",
        f"Content-Length: 5\r\nContent-Length: {len(hidden)}\r\n\r\n{hidden}",
        f"Content-Length: 5, {len(hidden)}\r\n\r\n{hidden}",
        f"Content-Length: +5\r\n\r\n{hidden}",
        f"Content-Length: {2**63}\r\n\r\n",
        f"Content-Length: {'9' * 5000}\r\n\r\n",
        f"Content-Length : 5\r\n\r\n{hidden}",
        f"Transfer-Encoding: gzip, chunked\r\n\r\n{hidden}",
        f"Transfer-Encoding: xchunked\r\n\r\n{hidden}",
        f"{chunked}Transfer-Encoding: identity\r\n\r\n{hidden}",
        f"Transfer-Encoding\t: chunked\r\n\r\n{hidden}",
        f"{chunked}\r\n-1\r\n{hidden}",
        f"{chunked}\r\n0x5\r\nabcde\r\n{hidden}",
        f"{chunked}\r\n{'f' * 16}\r\nabc",
        f"{chunked}\r\n{'f' * 300}\r\nabc",
        f"{chunked}\r\n5;{'a' * 200_000}\r\nabcde\r\n{hidden}",
    ]
    return [(host + framing).encode() for framing in bodies]


def strange() -> list[bytes]:
    """Return requests for other files, by other methods and protocols."""
    places = (
        *(
            "/../../etc/passwd",
            "/%2e%2e/%2e%2e/etc/passwd",
            "/..%2f..%2fetc/passwd",
            "//etc/passwd",
        ),
        *("/page.html", "/room.jpg", "/.git/config", "/predict/", "/%00", "/%ff%fe", "*"),
        "http://evil.example/health",
    )
    get = [request(target=place, method="GET") for place in places]
    verbs = ("HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "PATCH", "CONNECT", "get", "BREW")
    methods = [request(target="/health", method=verb) for verb in verbs]
    upgrades = [
        request(target="/health", method="GET", headers=("Host: localhost", *lines))
        for lines in (
            ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: YQ=="),
            ("Connection: Upgrade, HTTP2-Settings, close", "Upgrade: h2c", "HTTP2-Settings: AA"),
        )
    ]
    raw = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
        b"GET /health HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"GET /health HTTP/1.0\r\n\r\n",
        b"GET /health\r\n\r\n",
        b"\r\n" + b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    ]
    return [*get, *methods, *upgrades, *raw]


def queries() -> list[str]:
    """Return queries of /predict that are long, or hold odd values."""
    return [
        "&".join(f"a{index}=1" for index in range(6000)),
        "&" * 60_000,
        "=" * 60_000,
        "%zz=%00&%ff=%fe",
        "resolution=" + "9" * 60_000,
        "budget_ms=1e999",
        "resolution=%D9%A3%D9%A2",
    ]
