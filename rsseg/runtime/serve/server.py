"""Starts the service: opens the network, takes the port, serves until it is stopped."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rsseg.common.config import plain
from rsseg.common.cores import default_threads, usable_cores
from rsseg.runtime.accuracies import accuracies_beside
from rsseg.runtime.predictor import Predictor
from rsseg.runtime.serve.app import make_app
from rsseg.runtime.serve.body import Limits
from rsseg.runtime.serve.connections import make_server
from rsseg.runtime.serve.guard import known_hosts
from rsseg.runtime.serve.service import QUEUE, Service


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to serve.

    Args:
        host: Address that is listened at.
        port: Its port; 0 for any that is free.
        executor: "torch", "onnxruntime" or "openvino"; default: the one natural for the file.
        threads: Threads that compute one image; default: as many as PyTorch.
        device: "cpu"; PyTorch also takes "auto" and "cuda".
        workers: Images that are computed at once; default: as many as have cores of their own.
        queue: How many requests may wait.
        budget_ms: Milliseconds in which a request is to be answered; default: see `Service`.
        limits: What an image may be.
        allow_builder: See `rsseg.load_checkpoint`.
        full_decode: Decode photos whole, also where their view is much smaller.
        allow_hosts: Names that it is reached by besides its address, see `guard.known_hosts`.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    executor: str | None = None
    threads: int | None = None
    device: str = "cpu"
    workers: int | None = None
    queue: int = QUEUE
    budget_ms: float | None = None
    limits: Limits = field(default_factory=Limits)
    allow_builder: bool = False
    full_decode: bool = False
    allow_hosts: tuple[str, ...] = ()


def serve(path: Path, options: Options, *, tell: Callable[[str], None] = print) -> None:
    """Serve a network until the process is interrupted or terminated.

    Args:
        path: A checkpoint (.pt) or an exported file (.onnx).
        options: How.
        tell: Takes what is going on, line by line.

    Raises:
        ValueError: If something given is not valid, or the port is taken.
        ImportError: If the executor is not installed.
        OSError: If the file cannot be read.
    """
    hosts = known_hosts(options.host, options.allow_hosts)
    # First: a port in use is an error before the network is opened.
    with listen(options.host, options.port) as listening:
        service = open_service(path, options)
        place = url(options.host, listening.getsockname()[1])
        predictor = service.predictor
        tell(
            f"serving {predictor.name} ({predictor.task}) at resolutions "
            f"{', '.join(map(str, predictor.resolutions))}: budget {service.budget_ms:g} ms, "
            f"{service.policy.workers} at once, {options.queue} may wait"
        )
        tell(f"listening at {place}")
        make_server(make_app(service, hosts)).run(sockets=[listening])
        tell("stopped")


def open_service(path: Path, options: Options) -> Service:
    """Open a network as a service, see `serve`."""
    predictor = Predictor.open(
        path,
        options.executor,
        threads=options.threads,
        device=options.device,
        allow_builder=options.allow_builder,
        full_decode=options.full_decode,
    )
    threads = options.threads or default_threads()
    return Service(
        predictor,
        limits=options.limits,
        workers=options.workers or max(1, usable_cores() // threads),
        queue=options.queue,
        budget_ms=options.budget_ms,
        accuracies=accuracies_beside(path, plain(predictor.description)),
    )


def listen(host: str, port: int) -> socket.socket:
    """Open a port.

    Raises:
        ValueError: If it cannot be taken.
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"--port must be in 0..65535, got {port}")
    if not host:  # which would be every address of this machine
        raise ValueError("--host is empty; expected an address, such as 127.0.0.1")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        # Errors of names have numbers of their own; others repeat the address in their text.
        number = None if isinstance(error, socket.gaierror) else error.errno
        reason = error.strerror or error if number is None else os.strerror(number)
        raise ValueError(
            f"cannot listen at {url(host, port)} ({reason}); give another --host or --port"
        ) from error


def url(host: str, port: int) -> str:
    """Write an address as a browser takes it."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
