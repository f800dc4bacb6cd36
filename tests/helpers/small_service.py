"""Small services: a network that costs nothing, networks of files, and a server in a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image as Pictures

from rsseg.images.preprocessing import Image
from rsseg.runtime.budget.budget import Budget
from rsseg.runtime.predictor import Predictor
from rsseg.runtime.protocol import Logits, Views
from rsseg.runtime.serve.app import make_app
from rsseg.runtime.serve.connections import Room, make_server
from rsseg.runtime.serve.guard import Hosts
from rsseg.runtime.serve.server import listen, url
from rsseg.runtime.serve.service import Service
from tests.helpers.small_exported import description

IDLE = {64: 40.0, 48: 20.0, 32: 10.0}  # what the fake network is said to take


class FakeExecutor:
    """Gives the logits 1, 3, 2 for every view; `before` is called first."""

    name = "fake"
    device = "cpu"

    def __init__(
        self,
        before: Callable[[int], object] | None = None,
        resolutions: tuple[int, ...] = tuple(IDLE),
    ) -> None:
        self.before = before or (lambda _: None)
        self.resolutions = resolutions

    def logits(self, images: Views, resolution: int) -> Logits:
        self.before(resolution)
        return np.array([[1, 3, 2]] * len(images), np.float32)


def fake_service(before: Callable[[int], object] | None = None, **options: Any) -> Service:
    """Make a service of the fake network; `before` is called before each answer."""
    executor = FakeExecutor()
    predictor = Predictor(
        executor, description(resolutions=tuple(IDLE)), make_budget=lambda _: Budget(IDLE)
    )
    service = Service(predictor, **{"budget_ms": 200.0, **options})
    executor.before = before or executor.before
    return service


def drawn(height: int = 40, width: int = 50) -> Image:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(form: str = "PNG", image: Image | None = None, **options: Any) -> bytes:
    """Write an image in a format, such as "PNG", and a mode, such as "PNG L"."""
    kind, _, mode = form.partition(" ")
    stream = BytesIO()
    picture = Pictures.fromarray(drawn() if image is None else image).convert(mode or "RGB")
    picture.save(stream, kind, **options)
    return stream.getvalue()


@contextmanager
def serving(
    service: Service, hosts: Hosts | None = None, space: Room | None = None
) -> Iterator[str]:
    """Serve in a thread; give the address."""
    server = make_server(make_app(service, hosts), space)
    with listen("127.0.0.1", 0) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            yield url("127.0.0.1", listening.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join()
