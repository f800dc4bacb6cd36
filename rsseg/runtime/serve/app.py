"""The service as an ASGI application: routes, statuses, headers.

Faults of the client are answered with JSON, {"error": what was given, expected, and to do}; faults
of the service too, without their traceback, which the server logs.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import cache
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rsseg.runtime.serve.body import MEGA, RefusedError, Store, check_headers, receive_body
from rsseg.runtime.serve.guard import Guard, Hosts
from rsseg.runtime.serve.metrics import Metrics
from rsseg.runtime.serve.request import check_repeated, parse
from rsseg.runtime.serve.response import Draining, body_is_whole
from rsseg.runtime.serve.service import Answer, Service
from rsseg.runtime.web import page as web


@cache
def page() -> bytes:
    """Return the page."""
    return web.page("service").encode()


@cache
def page_headers() -> dict[str, str]:
    """Return its headers: it may run its own script and style, and ask its own service alone."""
    return {
        "Content-Security-Policy": f"{web.policy(page().decode())}; frame-ancestors 'none'",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }


IDENTITY: Final = "X-Model"  # header that tells which network answers, and how
_GONE = 499  # The client no longer listens; nobody reads this status.


def make_app(service: Service, hosts: Hosts | None = None) -> Starlette:
    """Build the application.

    Args:
        service: Answers; it is closed when the application ends.
        hosts: Names that it is known by; default: any.
    """
    pages = Pages(service)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.close)

    app = Starlette(
        routes=[
            Route("/", pages.page),
            Route("/predict", pages.predict, methods=["POST"]),
            Route("/model", pages.model),
            Route("/health", pages.health),
            Route("/metrics", pages.metrics_text),
        ],
        exception_handlers={HTTPException: pages.http_error, Exception: pages.fault},
        lifespan=lifespan,
        middleware=[Middleware(Guard, hosts=hosts or Hosts())],
    )
    app.router.redirect_slashes = False  # Each wrong address gets the same answer.
    return app


class Pages:
    """What each address answers.

    Args:
        service: Answers requests.
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        self.store = Store(int(service.limits.held_mb * MEGA))
        self.metrics = Metrics(
            waiting=lambda: service.workers.waiting, ceiling=lambda: service.policy.ceiling
        )
        self.description = self._description()

    async def predict(self, request: Request) -> Response:
        """Answer an image."""
        try:
            answer = await self._predict(request)
        except RefusedError as refused:
            self.metrics.refused(refused.status)
            return Draining(refused.message, refused.status, refused.headers | self._identity)
        except ClientDisconnect:
            self.metrics.gone()
            return Response(status_code=_GONE)
        except Exception:
            self.metrics.refused(500)
            raise
        info = answer.info
        self.metrics.answered(info.resolution, info.total_ms / 1000, info.wait_ms / 1000)
        headers = info.headers() | self._identity
        return Response(answer.content, media_type=answer.content_type, headers=headers)

    @property
    def _identity(self) -> dict[str, str]:
        return {IDENTITY: self.description["id"]}

    async def _predict(self, request: Request) -> Answer:
        service, headers = self.service, request.headers
        check_repeated([name for name, _ in request.query_params.multi_items()])
        options = parse(request.query_params, service.predictor.head, service.allowed)
        length = headers.get("content-length")
        check_headers(headers.get("content-type"), headers.get("content-encoding"), length)
        with self.store.body() as body:
            content = await receive_body(request.stream(), length, service.limits, body)
            body_is_whole(request)
            # In a thread, as it reads the header of the image.
            submitted = await asyncio.to_thread(service.submit, content, options)
            future = asyncio.wrap_future(submitted)
            del content  # The job holds it, until it is done.
            return await _unless_gone(request, future)

    async def page(self, _: Request) -> Response:
        """Return the page for the browser."""
        return Response(page(), media_type="text/html", headers=page_headers())

    async def model(self, _: Request) -> Response:
        """Describe the network and the options of a request."""
        return JSONResponse(self.description)

    def _description(self) -> dict[str, Any]:
        """Return what /model tells; another network, or what is shown of it, has another `id`."""
        predictor, limits = self.service.predictor, self.service.limits
        classes = list(predictor.classes)
        described: dict[str, Any] = {
            "name": predictor.name,
            "task": predictor.task,
            "executor": predictor.executor.name,
            "classes": classes,
            "resolutions": list(predictor.resolutions),
            "allowed": list(self.service.allowed),
            "formats": list(predictor.head.formats),
            "accuracy": web.accuracy_values(self.service.accuracies),
            "budget_ms": self.service.budget_ms,
            "preprocessing": asdict(predictor.preprocessing),
            "limits": {"body_mb": limits.body_mb, "megapixels": limits.megapixels},
        }
        if predictor.head.dense:
            described["colours"] = web.css_colours(predictor.colours.tolist())
        # The budget is measured at each start where none is given.
        known = described | {"weights": predictor.description.weights, "budget_ms": None}
        digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()
        return described | {"id": digest[:16]}

    async def health(self, _: Request) -> Response:
        """Return whether the service works."""
        service = self.service
        ready = service.workers.alive
        state = {
            "ready": ready,
            "model": service.predictor.name,
            "resolutions": list(service.predictor.resolutions),
            "ceiling": service.policy.ceiling,
            "waiting": service.workers.waiting,
        }
        return JSONResponse(state, 200 if ready else 503)

    async def metrics_text(self, _: Request) -> Response:
        """Return the numbers for Prometheus."""
        return Response(
            self.metrics.text(),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    async def http_error(self, request: Request, error: Exception) -> Response:
        """Refuse an address or a method that there is not."""
        assert isinstance(error, HTTPException)
        path, method = request.url.path, request.method
        messages = {
            404: f"there is nothing at {path[:80]!r}; expected /, /predict, /model, /health or "
            "/metrics",
            405: f"{method} {path}; expected "
            + ("POST with the image's bytes as the body" if path == "/predict" else "GET"),
        }
        message = messages.get(error.status_code, error.detail)
        return Draining(message, error.status_code, error.headers)

    async def fault(self, _: Request, error: Exception) -> Response:
        """Hide a fault of the service from the client; the server logs it."""
        message = "a fault of the service, which its log describes; tell who runs it"
        return JSONResponse({"error": message}, 500)


async def _unless_gone(request: Request, future: asyncio.Future[Answer]) -> Answer:
    """Wait for an answer; a client that goes away frees its place in the queue.

    Raises:
        ClientDisconnect: If it has gone.
    """
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait((future, gone), return_when=asyncio.FIRST_COMPLETED)
        if not future.done():
            raise ClientDisconnect
        return future.result()
    finally:
        gone.cancel()
        future.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
