"""A server process and its clients: requests that wait for their answers, and requests that do not.

Plain HTTP over asyncio: a client library would take more of the machine than what is measured.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
TIMEOUT: Final = 30.0  # seconds after which an answer counts as lost
_COMMAND: Final = "import sys; from rsseg.cli.main import main; sys.exit(main())"


@dataclass(frozen=True)
class Reply:
    """What became of one request.

    Args:
        at: When it should have been sent, in seconds from the beginning of its phase.
        status: HTTP status; 0 if there was no answer.
        milliseconds: From then to the whole answer.
        resolution: That of the answer, None without one.
    """

    at: float
    status: int
    milliseconds: float
    resolution: int | None = None


@dataclass(frozen=True)
class Server:
    """A running server.

    Args:
        port: Where it listens.
        line: What it has told about itself.
        pid: Its process.
    """

    port: int
    line: str
    pid: int = 0

    @property
    def largest(self) -> int:
        """Its highest resolution."""
        return int(self.line.split("resolutions ")[1].split(",")[0].split(":")[0])

    @property
    def workers(self) -> int:
        """How many images it computes at once."""
        return int(self.line.split(" at once")[0].split()[-1])


@contextmanager
def running(
    network: Path,
    flags: Sequence[object],
    *,
    files: int | None = None,
    log: int | None = None,
) -> Iterator[Server]:
    """Start `rsseg serve` in a process of its own, and stop it in the end.

    Args:
        network: Checkpoint or exported file.
        flags: Of the command.
        files: How many the process may have open; default: as this one.
        log: File descriptor that its log is written to; default: that of this process.
    """
    given = ["serve", network, "--port", 0, *flags]
    command = [sys.executable, "-c", _COMMAND, *map(str, given)]
    if files is not None:
        command = ["sh", "-c", f'ulimit -n {files}; exec "$@"', "sh", *command]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=ROOT
    ) as process:
        try:
            assert process.stdout is not None
            line, place = process.stdout.readline().strip(), process.stdout.readline().strip()
            if not place:
                raise ValueError("the server has not started; it has said why above")
            yield Server(int(place.rpartition(":")[2]), line, process.pid)
        finally:
            process.terminate()


async def post(port: int, image: bytes, query: str = "") -> tuple[int, int | None]:
    """Send an image; return status and resolution."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        head = f"POST /predict{query} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        head += f"Content-Type: image/jpeg\r\nContent-Length: {len(image)}\r\n\r\n"
        writer.write(head.encode() + image)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:] if line)
        await reader.readexactly(int(headers["content-length"]))
        resolution = headers.get("x-resolution")
        return int(lines[0].split()[1]), int(resolution) if resolution else None
    finally:
        writer.close()


async def capacity(server: Server, image: bytes, resolution: int, seconds: float) -> float:
    """Measure the requests per second that are answered at one resolution.

    Raises:
        ValueError: If the server has lowered the resolution.
    """
    query, answers = f"?resolution={resolution}", list[tuple[int, int | None]]()
    begin = time.perf_counter()

    async def client() -> None:
        while time.perf_counter() < begin + seconds:
            answers.append(await post(server.port, image, query))

    await asyncio.gather(*(client() for _ in range(server.workers + 1)))
    took = time.perf_counter() - begin
    others = {answer for answer in answers if answer != (200, resolution)}
    if others:
        raise ValueError(
            f"asked for {resolution}, got {sorted(map(str, others))}; raise --budget-ms"
        )
    return len(answers) / took


async def load(
    server: Server, image: bytes, rate: float, seconds: float, rng: random.Random
) -> list[Reply]:
    """Send requests at random times, on average `rate` in a second."""
    begin, at, sent = time.perf_counter(), rng.expovariate(rate), list[asyncio.Task[Reply]]()

    async def one(at: float) -> Reply:
        try:
            async with asyncio.timeout(TIMEOUT):
                status, resolution = await post(server.port, image)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError, KeyError):
            status, resolution = 0, None
        return Reply(at, status, 1000 * (time.perf_counter() - begin - at), resolution)

    while at < seconds:
        await asyncio.sleep(max(0.0, begin + at - time.perf_counter()))
        sent.append(asyncio.create_task(one(at)))
        at += rng.expovariate(rate)
    return list(await asyncio.gather(*sent))
