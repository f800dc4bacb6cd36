"""A proxy that serves another server below a prefix, as those in front of services do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import httpx

from tests.helpers.file_server import listening

PREFIX = "/nets/rooms"
_PASSED = ("Content-Type", "Host", "Origin", "Sec-Fetch-Site")
_KEPT = ("content-type", "content-security-policy")


@contextmanager
def proxied(address: str) -> Iterator[str]:
    """Serve what is at an address below PREFIX; give the new address, without a last slash."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer("GET", None)

        def do_POST(self) -> None:
            self.answer("POST", self.rfile.read(int(self.headers["Content-Length"])))

        def answer(self, method: str, body: bytes | None) -> None:
            if not self.path.startswith(PREFIX):
                self.send_error(404)
                return
            inner = address + (self.path.removeprefix(PREFIX) or "/")
            passed = {name: self.headers[name] for name in _PASSED if name in self.headers}
            told = httpx.request(method, inner, content=body, headers=passed, timeout=120)
            self.send_response(told.status_code)
            for name, value in told.headers.items():
                if name in _KEPT or name.startswith("x-"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(told.content)))
            self.end_headers()
            self.wfile.write(told.content)

        def log_message(self, *_: object) -> None:
            pass

    with listening(Handler) as outer:
        yield f"{outer}{PREFIX}"
