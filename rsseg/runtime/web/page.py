"""The page to try a network, as one HTML file that asks for nothing elsewhere.

Two engines answer images: that of `rsseg serve` sends them to the service, that of
`rsseg export --web` runs the network in the browser. All else is the same.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any, Final, Literal

from rsseg.segmentation.palette import VOID_COLOUR

Engine = Literal["service", "browser"]
_SCRIPTS: Final[dict[Engine, tuple[str, ...]]] = {
    "service": ("errors", "pictures", "service", "page"),
    "browser": ("errors", "pictures", "view", "browser", "page"),
}
_MODULES: Final = "script-src 'self' 'wasm-unsafe-eval'"  # of the runtime in the browser


def page(engine: Engine, given: Mapping[str, Any] | None = None) -> str:
    """Return the page.

    Args:
        engine: Who answers images.
        given: What the scripts know as GIVEN, for JSON.
    """
    scripts = [_read(f"{name}.js") for name in _SCRIPTS[engine]]
    if given is not None:
        # "</script>" in the name of a class would end the script.
        values = json.dumps(given).replace("<", "\\u003c")
        scripts.insert(1, f"const GIVEN = {values};\n")
    room = base64.b64encode(_bytes("room.jpg")).decode()
    parts = {
        "style": _read("page.css"),
        "script": "\n".join(scripts),
        "room": f"data:image/jpeg;base64,{room}",
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _read("page.html"))


def policy(text: str) -> str:
    """Return the content security policy of a page: its own scripts and styles, its own server."""
    script, style = (_hashes(text, tag) for tag in ("script", "style"))
    return (
        f"default-src 'none'; script-src {script}; style-src {style}; img-src blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'"
    )


def policed(text: str) -> str:
    """Return a page that states its policy itself, and may load modules and workers beside it."""
    rules = policy(text).replace("script-src", _MODULES) + "; worker-src 'self' blob:"
    meta = f'<meta http-equiv="Content-Security-Policy" content="{rules}">'
    return text.replace('<meta charset="utf-8">', f'<meta charset="utf-8">\n{meta}', 1)


def css_colours(colours: Sequence[Sequence[int]]) -> list[str]:
    """Return the colour of each class as CSS writes it, and that of void at the end."""
    return ["#{:02x}{:02x}{:02x}".format(*colour) for colour in [*colours, VOID_COLOUR]]


def accuracy_values(accuracies: tuple[str, Mapping[int, float]] | None) -> dict[str, Any] | None:
    """Return accuracies for JSON: name of the metric, shares in 0..1 by resolution.

    Args:
        accuracies: As `read_accuracies` returns them.
    """
    if accuracies is None:
        return None
    metric, values = accuracies
    return {"metric": metric, "values": {str(side): value for side, value in values.items()}}


def _hashes(text: str, tag: str) -> str:
    contents = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(c.encode()).digest()).decode() for c in contents)
    return " ".join(f"'sha256-{digest}'" for digest in digests)


@cache
def _bytes(name: str) -> bytes:
    return resources.files(__package__).joinpath(name).read_bytes()


def _read(name: str) -> str:
    return _bytes(name).decode()
