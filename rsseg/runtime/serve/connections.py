"""The connections of a service: how many there may be, how long one may be silent, how all end.

uvicorn bounds how long a connection is kept after an answer. Here is what it leaves open: headers
that do not come, a process without a file left for one more connection, and answers that nobody
reads. When places run out the connection that has been idle for longest makes room, so that the
service stays in reach of those who do send something.

When the service is stopped, whoever asks it is told so: a connection that is only cut off would
look like a fault.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final, cast

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.flow_control import CLOSE_HEADER
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from rsseg.runtime.serve.response import Draining

HEADER_SECONDS: Final = 10.0  # in which the headers of a request have to arrive
READ_SECONDS: Final = 30.0  # in which a client has to read the end of its answer, or some of it
LAST_CALL: Final = 1.0  # seconds in which a stopping service still refuses by an answer
_LAST_ANSWERS: Final = 30  # seconds for answers that are on their way when it is stopped
_OTHER_FILES: Final = 64  # that the process may have open: the log, libraries, the network
_MOST: Final = 1024  # connections, where files allow more
_QUEUE: Final = 1024  # connections that wait in the kernel, which cost no file of the process
_PIPELINE: Final = 4  # rounds of the event loop from accepting a connection to its end
_REASON: Final = b'{"error": "too many connections; connect again later"}'
_FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(_REASON), _REASON)
)


@dataclass(frozen=True)
class Room:
    """How many connections a process has room for.

    Args:
        connections: How many there may be.
        batch: How many are accepted at once; each takes a file until it is served or closed.
    """

    connections: int
    batch: int


def room(files: int | None = None) -> Room:
    """Return the room of a process that may open so many files; default: this process."""
    spare = (_open_files_limit() if files is None else files) - _OTHER_FILES
    batch = min(128, max(1, spare // (2 * _PIPELINE)))
    return Room(min(_MOST, max(4, spare - _PIPELINE * batch)), batch)


def _open_files_limit() -> int:
    try:
        import resource  # noqa: PLC0415 Windows has none.
    except ImportError:
        return _MOST
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**20 if soft == resource.RLIM_INFINITY else soft


class Config(uvicorn.Config):
    """How connections are served.

    Args:
        app: The application.
        space: How many there may be.
    """

    def __init__(self, app: ASGIApp, space: Room) -> None:
        super().__init__(
            app,
            log_level="error",  # A warning for every bad request would fill the disk.
            http=Connection,  # By h11: its limits are known, whatever else is installed.
            ws="none",
            access_log=False,
            server_header=False,
            backlog=space.batch,
            timeout_graceful_shutdown=_LAST_ANSWERS,
        )
        self.space = space


class Connection(H11Protocol):
    """A connection that ends when its client is silent for too long, or others need its place."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._space = config.space
        self._silent_since: float | None = None  # while headers are due
        self._closing_since: float | None = None
        self._unread = 0  # bytes of an answer that wait in this process
        self._unread_since = self.loop.time()
        self.changed = self.loop.time()  # when a request or an answer last began or ended

    @property
    def is_idle(self) -> bool:
        """Whether no request is being received or answered."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def is_computed(self) -> bool:
        """Whether a whole request for a prediction is not answered yet."""
        unread = self.transport.get_write_buffer_size() > 0
        received = not self.is_idle and not self.cycle.more_body
        return received and not unread and self.scope["method"] == "POST"

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or refuse it where no other can make room."""
        super().connection_made(transport)
        self.changed = self._silent_since = self.loop.time()
        if len(self.connections) > self._space.connections and not self._make_room():
            transport.write(_FULL)
            transport.close()

    def data_received(self, data: bytes) -> None:
        """Receive bytes of a request."""
        was_idle = self.is_idle
        super().data_received(data)
        now = self.loop.time()
        if not self.is_idle:
            self._silent_since = None
            self.changed = now if was_idle else self.changed
        elif self._silent_since is None:
            self._silent_since = now  # The first bytes of another request.

    def on_response_complete(self) -> None:
        """Wait for another request."""
        self.changed = self.loop.time()
        super().on_response_complete()

    def _make_room(self) -> bool:
        """End the idlest connection, or else the slowest one for which nothing is computed."""
        others = [c for c in self.connections if isinstance(c, Connection) and c is not self]
        idle = [c for c in others if c.is_idle]
        victims = idle or [c for c in others if not c.is_computed]
        if not victims:
            return False
        min(victims, key=lambda c: c.changed).end()
        return True

    def stop(self) -> None:
        """Let what is being answered be the last, and say so in its headers; refuse what follows.

        A client that is not told sends its next request to a connection that is being closed.
        """
        self.app = _stopping
        if not self.is_idle:
            self.cycle.default_headers = [*self.cycle.default_headers, CLOSE_HEADER]

    def end(self) -> None:
        """Give the place up at once."""
        self.connections.discard(self)
        self.transport.abort()

    def end_if_late(self, now: float) -> None:
        """End a connection whose headers have not come, or whose answer is not read."""
        unread = self.transport.get_write_buffer_size()
        if not unread or unread != self._unread:
            self._unread, self._unread_since = unread, now
        if now - self._unread_since > READ_SECONDS:
            late = True
        elif self.transport.is_closing():
            self._closing_since = self._closing_since or now
            late = now - self._closing_since > READ_SECONDS
        else:
            late = self._silent_since is not None and now - self._silent_since > HEADER_SECONDS
        if late:
            self.end()


class Server(uvicorn.Server):
    """uvicorn with an eye on silent connections, which refuses by an answer while it stops.

    Args:
        config: How connections are served.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop; a second interruption ends at once, without a word on what it cuts off."""
        super().handle_exit(sig, frame)
        if self.force_exit:
            logging.getLogger("uvicorn.error").disabled = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        asyncio.get_running_loop().set_exception_handler(_log_faults)
        await super().startup(sockets)
        for listening in sockets or []:
            listening.listen(_QUEUE)  # asyncio has made it as short as what it accepts at once.

    async def on_tick(self, counter: int) -> bool:
        """Look after the connections once in a second."""
        if counter % 10 == 0:
            now = asyncio.get_running_loop().time()
            for connection in self._connections():
                connection.end_if_late(now)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Refuse what comes by an answer, for a moment; then end with what is being answered."""
        self.config.loaded_app = _stopping  # of connections that are still to be accepted
        for connection in self._connections():
            connection.stop()
        await self._accept_last(sockets or [])
        loop = asyncio.get_running_loop()
        end = loop.time() + LAST_CALL
        while any(c.is_idle for c in self._connections()) and loop.time() < end:
            await asyncio.sleep(0.05)
        await super().shutdown(sockets)

    async def _accept_last(self, sockets: Sequence[socket.socket]) -> None:
        """Listen no longer, and take what the kernel has accepted: it would be reset."""
        loop = asyncio.get_running_loop()
        for listening in sockets:
            loop.remove_reader(listening)
        await asyncio.sleep(0.05)  # Those that asyncio has accepted become connections.
        waiting = [each for listening in sockets for each in _accepted(listening)]
        for server in self.servers:
            server.close()
        for each in waiting:
            await loop.connect_accepted_socket(self._connection, each)

    def _connection(self) -> Connection:
        return Connection(cast(Config, self.config), self.server_state, self.lifespan.state)

    def _connections(self) -> list[Connection]:
        return [c for c in self.server_state.connections if isinstance(c, Connection)]


def _accepted(listening: socket.socket) -> Iterator[socket.socket]:
    """Yield the connections that wait at a socket."""
    with suppress(OSError):  # There is none, or no file for it.
        while True:
            connection, _ = listening.accept()
            connection.setblocking(False)
            yield connection


def _log_faults(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what goes wrong, except that files have run out: thousands of lines in a second."""
    error = context.get("exception")
    if not (isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)):
        loop.default_exception_handler(context)


async def _stopping(scope: Scope, receive: Receive, send: Send) -> None:
    """Refuse a request while the service stops."""
    answer = Draining("the service is being stopped; send it again later", 503, _CLOSE)
    await answer(scope, receive, send)


_CLOSE: Final = {"Connection": "close", "Retry-After": "5"}


def make_server(app: ASGIApp, space: Room | None = None) -> Server:
    """Build a server that is silent unless something is wrong.

    Args:
        app: The application.
        space: How many connections there may be; default: as many as this process has files for.
    """
    return Server(Config(app, space or room()))
