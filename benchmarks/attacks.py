"""`rsseg serve` under attack, in a process that may open 256 files: tried N, survived N.

Every attempt has to end in an answer or a refusal, never in a fault of the service (5xx, but for
503 where it is full or stops) or in a connection that is cut off without a word, unless the client
sends nothing for its part. After each attack the service has to be in reach, and an ordinary image
answered at the highest resolution. The last attack stops the service under load.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

if not __package__:  # Run as a script: nothing is installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import RESULTS
from benchmarks.hostile.images import (
    bombs,
    damaged,
    disguised,
    flat_png,
    in_parts,
    odd,
    photo,
)
from benchmarks.hostile.requests import OWN, framings, queries, request, strange
from benchmarks.http_load import Server, running
from benchmarks.overload import drawn_jpeg, make_network
from rsseg.common.files import written_whole

FILES: Final = 256  # that the service may open
IDLE: Final = 300  # connections: more than that
SECONDS: Final = 60.0  # after which an attempt counts as lost
LOST: Final = 0  # status of an attempt without an answer


@dataclass(frozen=True)
class Outcome:
    """What became of an attack.

    Args:
        attack: Its name.
        tried: Attempts.
        survived: Of these, those that ended as they should.
        note: What else was seen.
    """

    attack: str
    tried: int
    survived: int
    note: str = ""


Attack = Callable[[Server], Awaitable[Outcome]]


# Requests


class Answer(NamedTuple):
    """What a client is told: whether its connection is closed, among others."""

    status: int
    resolution: int | None = None
    closes: bool = False


async def send(server: Server, content: bytes) -> Answer:
    """Send bytes on a connection of their own."""
    try:
        async with asyncio.timeout(SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            try:
                writer.write(content)
                return await answer(reader, body=not content.startswith(b"HEAD"))
            finally:
                writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError):
        return Answer(LOST)


async def answer(reader: asyncio.StreamReader, *, body: bool = True) -> Answer:
    """Read an answer to its end, `100 Continue` left out."""
    status = 100
    while status == 100:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
        status = int(head[0].split()[1])
    headers = dict(line.split(": ", 1) for line in head[1:] if line)
    if not body:
        pass
    elif "content-length" in headers:
        await reader.readexactly(int(headers["content-length"]))
    else:
        await reader.read()
    resolution = headers.get("x-resolution")
    closes = headers.get("connection") == "close"
    return Answer(status, int(resolution) if resolution else None, closes)


async def healthy(server: Server, times: int = 10) -> int:
    """Return how many of some requests to /health were answered."""
    get = request(target="/health", method="GET")
    return sum([(await send(server, get))[0] == 200 for _ in range(times)])


async def ordinary(server: Server, times: int) -> Counter[int | None]:
    """Send ordinary images one after the other; return how many had each resolution."""
    content = request(drawn_jpeg(0))
    return Counter([(await send(server, content))[1] for _ in range(times)])


# Attacks


async def judged(
    server: Server, attack: str, contents: Sequence[bytes], allowed: Sequence[int], note: str = ""
) -> Outcome:
    """Send requests, each alone; those that end with an allowed status have been survived."""
    statuses = Counter([(await send(server, content))[0] for content in contents])
    seen = ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))
    survived = sum(statuses[status] for status in allowed)
    return Outcome(attack, len(contents), survived, f"{seen}{note}")


def large(attack: str, content: bytes, times: int) -> Attack:
    """Return an attack by large images, after which a hundred ordinary ones are sent."""

    async def run(server: Server) -> Outcome:
        statuses = Counter([(await send(server, request(content)))[0] for _ in range(times)])
        after = await ordinary(server, 100)
        note = f"{len(content) / 1000:.1f} kB each; {statuses[200]} answered"
        return Outcome(
            f"{times} {attack}, then 100 ordinary images",
            100,
            after[server.largest],
            f"{note}; survived: at {server.largest}",
        )

    return run


def held(attack: str, count: int, start: bytes, more: bytes = b"") -> Attack:
    """Return an attack by connections that are kept open, with a few bytes now and then."""

    async def hold(server: Server) -> None:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            try:
                writer.write(start)
                while not reader.at_eof():
                    writer.write(more)
                    await writer.drain()
                    await asyncio.sleep(0.5)
            finally:
                writer.close()

    async def run(server: Server) -> Outcome:
        clients = [asyncio.create_task(hold(server)) for _ in range(count)]
        await asyncio.sleep(2)
        begin = time.perf_counter()
        alive = await healthy(server, 50)
        slowest = time.perf_counter() - begin
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        note = f"survived: /health answered, {1000 * slowest / 50:.0f} ms each"
        return Outcome(f"{count} {attack}", 50, alive, note)

    return run


async def foreign(server: Server) -> Outcome:
    """Send images as a page of another site would, and to a foreign name."""
    own, image = "Host: localhost", drawn_jpeg(0)
    kinds: tuple[list[str], ...] = ([], ["Content-Type: image/jpeg"], ["Content-Type: text/plain"])
    senders = [
        ["Host: evil.example"],
        ["Host: evil.example:8000"],
        ["Host: localhost.evil.example"],
        [own, "Origin: http://evil.example"],
        [own, "Origin: http://localhost:3000"],
        [own, "Origin: null"],
        [own, "Sec-Fetch-Site: cross-site"],
        [own, "Sec-Fetch-Site: same-site"],
    ]
    contents = [
        request(image, headers=[*sender, *kind, "Connection: close"])
        for sender in senders
        for kind in kinds
    ]
    return await judged(server, "foreign Host, Origin, site", contents, (403, 421))


async def repeated(server: Server) -> Outcome:
    """Give parameters twice."""
    largest = server.largest
    queries = (
        f"resolution={largest}&resolution=1",
        "budget_ms=9&budget_ms=9",
        f"resolution={largest}&" * 3000 + "x=1",
    )
    contents = [request(drawn_jpeg(0), target=f"/predict?{query}") for query in queries]
    return await judged(server, "parameters given twice", contents, (400,))


async def broken(server: Server) -> Outcome:
    """Send damaged images; some of the changed ones are still images."""
    return await judged(
        server, "cut and changed images", [request(c) for c in damaged()], (200, 400, 413, 422)
    )


async def bombed(server: Server) -> Outcome:
    """Send images that unpack to gigabytes."""
    return await judged(
        server, "decompression bombs", [request(c) for c in bombs()], (200, 400, 413)
    )


async def many_parts(server: Server) -> Outcome:
    """Send images in too many parts; they are refused before they take time."""
    begin = time.perf_counter()
    contents = [request(c) for c in in_parts()]
    outcome = await judged(server, "images in a million parts", contents, (200, 400))
    took = time.perf_counter() - begin
    survived = outcome.survived if took < SECONDS else 0
    return Outcome(outcome.attack, outcome.tried, survived, f"{outcome.note}; {took:.1f} s in all")


async def disguises(server: Server) -> Outcome:
    """Send other files as JPEGs, and photos whose metadata lie."""
    kind = (*OWN, "Content-Type: image/jpeg")
    contents = [request(c, headers=kind) for c in disguised()]
    return await judged(server, "other files as JPEGs, EXIF that lies", contents, (200, 400))


async def smuggled(server: Server) -> Outcome:
    """Frame a body in two ways; what follows it must not be taken for a request."""
    statuses = [await last_status(server, content) for content in framings()]
    survived = sum(status in (400, 413, 501, LOST) for status in statuses)
    counts = ", ".join(f"{n} x {s}" for s, n in sorted(Counter(statuses).items()))
    return Outcome("bodies of two lengths, bad chunks", len(statuses), survived, counts)


async def last_status(server: Server, content: bytes) -> int:
    """Send bytes; return the status of the last answer before the connection is closed."""
    status = LOST
    with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
        async with asyncio.timeout(SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            try:
                writer.write(content)
                writer.write_eof()
                while True:
                    status = (await answer(reader))[0]
            finally:
                writer.close()
    return status


async def other_requests(server: Server) -> Outcome:
    """Ask for other files, by other methods and protocols."""
    allowed = (200, 400, 404, 405, 421, 426, 501, 505)
    return await judged(server, "paths, methods, protocols", strange(), allowed)


async def expecting(server: Server) -> Outcome:
    """Ask whether to send, and send nothing; or send it; or ask for far too much."""
    image = drawn_jpeg(0)
    head = "POST /predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nExpect: "
    contents = [
        f"{head}100-continue\r\nContent-Length: {len(image)}\r\n\r\n".encode(),
        f"{head}100-continue\r\nContent-Length: {len(image)}\r\n\r\n".encode() + image,
        f"{head}100-continue\r\nContent-Length: {2**40}\r\n\r\n".encode(),
        f"{head}the-unexpected\r\nContent-Length: {len(image)}\r\n\r\n".encode() + image,
        f"{head}100-continue\r\nContent-Length: 0\r\n\r\n".encode(),
    ]
    statuses = [told.status for told in await asyncio.gather(*(send(server, c) for c in contents))]
    survived = sum(s in wanted for s, wanted in zip(statuses, EXPECTED, strict=True))
    return Outcome("Expect: 100-continue", len(contents), survived, ", ".join(map(str, statuses)))


EXPECTED: Final = ((408,), (200,), (413,), (200, 417), (400,))


async def odd_queries(server: Server) -> Outcome:
    """Give thousands of parameters, and what is no query."""
    contents = [request(drawn_jpeg(0), target=f"/predict?{text}") for text in queries()]
    return await judged(server, "queries of 60 kB, odd values", contents, (200, 400))


def unread(count: int) -> Attack:
    """Return an attack by clients that ask for the page again and again, and never read it."""
    page = request(target="/", method="GET", headers=("Host: localhost",))
    return held("connections that ask and never read", count, page * 300)


async def headers(server: Server) -> Outcome:
    """Send headers that are too long, too many, or none."""
    contents = [
        request(headers=[*OWN, "X-Long: " + "a" * 200_000], target="/health", method="GET"),
        request(headers=[*OWN, *("X-Many: 1",) * 20_000], target="/health", method="GET"),
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00" * 100 + b"\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ]
    # A client that goes on sending while it is refused may lose the answer: cut off is right too.
    return await judged(server, "headers too long, or wrong", contents, (400, 408, LOST))


async def pipelined(server: Server) -> Outcome:
    """Send many requests at once on one connection."""
    keep = ("Host: localhost",)
    image = request(drawn_jpeg(0), headers=keep)
    content = (request(target="/health", method="GET", headers=keep) + image) * 25
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    statuses = Counter[int]()
    with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
        async with asyncio.timeout(SECONDS):
            writer.write(content)
            for _ in range(50):
                statuses[(await answer(reader))[0]] += 1
    writer.close()
    return Outcome("pipelined requests", 50, statuses[200], "on one connection")


async def memory(server: Server) -> Outcome:
    """Send odd images; the process may then hold half as much again as before."""
    before = resident(server.pid)
    contents = [request(content) for content in odd()]
    outcome = await judged(server, "odd images", contents, (200, 400, 413, 422, 429))
    after = resident(server.pid)
    note = f"{outcome.note}; {before} MB before, {after} MB after"
    survived = outcome.survived if after <= 1.5 * before else 0
    return Outcome(outcome.attack, outcome.tried, survived, note)


async def flood(server: Server, statuses: Counter[str], end: asyncio.Event, *, keep: bool) -> None:
    """Send an image as often as it is answered, until the end, or the service no longer listens.

    Args:
        server: The service.
        statuses: Counts how each request ended.
        end: Set when the client is to stop.
        keep: Whether it keeps its connection, or opens one for each image.
    """
    content = request(drawn_jpeg(0), headers=("Host: localhost",) if keep else OWN)
    while not end.is_set():
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        except OSError:
            return
        try:
            while not end.is_set():
                writer.write(content)
                told = await answer(reader)
                statuses[str(told.status)] += 1
                if told.closes:
                    break
        except (OSError, asyncio.IncompleteReadError) as error:
            statuses[type(error).__name__] += 1
        finally:
            writer.close()


async def stopped(server: Server) -> Outcome:
    """Stop the service while clients send as fast as they can, by new and by kept connections."""
    statuses, end = Counter[str](), asyncio.Event()
    clients = [
        asyncio.create_task(flood(server, statuses, end, keep=index % 2 == 0))
        for index in range(32)
    ]
    await asyncio.sleep(3)
    os.kill(server.pid, signal.SIGTERM)
    await asyncio.wait(clients, timeout=SECONDS)
    end.set()
    tried = statuses.total()
    survived = sum(statuses[status] for status in ("200", "429", "503"))
    seen = ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))
    return Outcome("SIGTERM under a flood", tried, survived, seen)


def resident(process: int) -> int:
    """Return the megabytes of memory that a process holds."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    return int(status.split("VmRSS:")[1].split()[0]) // 1024


def attacks() -> list[Attack]:
    """Return all attacks in their order; the service does not survive the last one."""
    slow = b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
    body = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999\r\n\r\n"
    return [
        memory,
        large("PNGs of 38 megapixels", flat_png(7600, 5000), 3),
        large("photos of 12 megapixels", photo(), 20),
        held("idle connections", IDLE, b""),
        held("slow headers", IDLE, slow, b"a"),
        held("slow bodies", IDLE, body, b"a"),
        unread(IDLE),
        foreign,
        repeated,
        broken,
        bombed,
        many_parts,
        disguises,
        headers,
        smuggled,
        expecting,
        odd_queries,
        other_requests,
        pipelined,
        stopped,
    ]


async def run(server: Server, chosen: Sequence[Attack]) -> list[Outcome]:
    """Run attacks one after the other."""
    outcomes = []
    await ordinary(server, 20)  # warms up
    for attack in chosen:
        outcomes.append(await attack(server))
        print(row(outcomes[-1]), flush=True)
    return outcomes


def row(outcome: Outcome) -> str:
    """Return an outcome as a row of Markdown."""
    return f"| {outcome.attack} | {outcome.tried} | {outcome.survived} | {outcome.note} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; status 1 if something was not survived."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attacks", description=__doc__)
    what = "checkpoint or exported file (default: an untrained ResNet-18)"
    parser.add_argument("network", type=Path, nargs="?", help=what)
    parser.add_argument("--budget-ms", type=float, default=1000.0, help="(default: %(default)g)")
    parser.add_argument("--out", type=Path, default=RESULTS / "attacks.json")
    options = parser.parse_args(arguments)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))  # for the clients
    flags = ["--threads", 1, "--budget-ms", options.budget_ms]
    with tempfile.TemporaryDirectory() as folder:
        network = options.network or make_network(Path(folder), "resnet18")
        with (
            (Path(folder) / "log").open("wb") as log,
            running(network, flags, files=FILES, log=log.fileno()) as server,
        ):
            print(server.line, f"{resident(server.pid)} MB", sep="\n")
            print("| attack | tried | survived | seen |\n| --- | --- | --- | --- |")
            outcomes = asyncio.run(run(server, attacks()))
        logged = (Path(folder) / "log").stat().st_size
    print(f"{logged} bytes of log")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(options.out) as temporary:
        record = {
            "server": server.line,
            "log_bytes": logged,
            "attacks": [vars(o) for o in outcomes],
        }
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0 if all(outcome.survived == outcome.tried for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
