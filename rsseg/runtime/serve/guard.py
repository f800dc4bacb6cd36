"""Which requests are taken at all, by what their headers say of the page that sent them.

A browser sends requests on behalf of any page that its user has open. Two rules keep foreign pages
out: the name in `Host` must be one of the service (a foreign name that is made to point to this
machine, DNS rebinding, is not), and a page of another origin may send nothing. Programs such as
curl send neither `Origin` nor `Sec-Fetch-Site`.

Sources: https://www.rfc-editor.org/rfc/rfc9110#name-host-and-authority and
https://www.w3.org/TR/fetch-metadata/.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from rsseg.runtime.serve.body import RefusedError
from rsseg.runtime.serve.response import Draining

LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_READING: Final = ("GET", "HEAD")  # methods that change and compute nothing
_OWN: Final = ("same-origin", "none")  # values of Sec-Fetch-Site; none: typed by the user
_SHOWN: Final = 80  # letters of a header in a message


@dataclass(frozen=True)
class Hosts:
    """The names that a service is known by.

    Args:
        given: Names that whoever runs it has given; their pages may send requests as well.
        known: Names that `Host` may have; None for any.
    """

    given: frozenset[str] = frozenset()
    known: frozenset[str] | None = None


def known_hosts(host: str, given: Sequence[str] = ()) -> Hosts:
    """Return the names of a service.

    Args:
        host: The address at which it listens.
        given: Further names, such as that of a proxy before it; with one, no other name than
            these and those of loopback is taken.

    Raises:
        ValueError: If a name has a scheme, a port or a path.
    """
    for name in given:
        if name.strip("[]") != _name(name) or not name:
            raise ValueError(
                f"--allow-host {name!r}: expected a name alone, such as example.org, without "
                "scheme, port and path"
            )
    names = frozenset(name.strip("[]").lower() for name in given)
    if not names and not is_loopback(host):
        return Hosts()
    own = {host.lower()} if is_loopback(host) else set()
    return Hosts(names, names | own | {*LOOPBACK})


def is_loopback(host: str) -> bool:
    """Return whether an address is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class Guard:
    """Refuses what foreign pages send; everything else goes to the application.

    Args:
        app: The application.
        hosts: Names of the service.
    """

    def __init__(self, app: ASGIApp, hosts: Hosts) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] == "http":
            try:
                headers = Headers(scope=scope)
                check_framing(headers)
                check_sender(scope["method"], headers, self._hosts)
            except RefusedError as refused:
                answer = Draining(refused.message, refused.status, refused.headers)
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)


def check_framing(headers: Headers) -> None:
    """Check that a body has one length.

    What a proxy before the service takes for the end of a request has to be its end here (request
    smuggling, RFC 9112, 6.3).

    Raises:
        RefusedError: If it has two.
    """
    if "transfer-encoding" in headers and "content-length" in headers:
        raise RefusedError(400, "Content-Length and Transfer-Encoding are both given; send one")


def check_sender(method: str, headers: Headers, hosts: Hosts) -> None:
    """Check where a request comes from.

    Raises:
        RefusedError: If it is meant for another host, or sent by a page of another origin.
    """
    host = headers.get("host", "")
    if hosts.known is not None and _name(host) not in hosts.known:
        raise RefusedError(
            421,
            f"Host {host[:_SHOWN]!r}; expected {' or '.join(sorted(hosts.known))}; if this is a "
            "name of the service, start it with --allow-host NAME",
        )
    for origin in headers.getlist("origin"):
        if not _is_own(origin, host, hosts):
            raise RefusedError(
                403,
                f"sent by a page of {origin[:_SHOWN]!r}, expected one of {host[:_SHOWN]!r}; if the "
                "page is meant to, start the service with --allow-host NAME",
            )
    for site in headers.getlist("sec-fetch-site"):
        if method not in _READING and site.lower() not in _OWN:
            raise RefusedError(
                403,
                f"sent by a page of another site (Sec-Fetch-Site {site[:_SHOWN]!r}); expected one "
                "of the service's own",
            )


def _is_own(origin: str, host: str, hosts: Hosts) -> bool:
    scheme, _, place = origin.lower().partition("://")
    if scheme not in ("http", "https"):  # "null" too: a file, or a frame in a sandbox
        return False
    return place == host.lower() or _name(place) in hosts.given


def _name(place: str) -> str:
    """Return the name in HOST or HOST:PORT, without brackets; empty if there is none."""
    try:
        split = urlsplit(f"//{place}")
        valid = split.netloc == place and "@" not in place and (split.port is None or split.port)
    except ValueError:  # a port or an address that is none
        return ""
    return (split.hostname or "").rstrip(".") if valid else ""
