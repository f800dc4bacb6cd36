"""The page for the browser: one file that asks for nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib import resources


@cache
def page() -> bytes:
    """Read the page."""
    return resources.files(__package__).joinpath("page.html").read_bytes()


@cache
def page_headers() -> dict[str, str]:
    """Give its headers: it may run its own script and style, and ask its own service alone."""
    text = page().decode()
    script, style = (_hashes(text, tag) for tag in ("script", "style"))
    policy = (
        f"default-src 'none'; script-src {script}; style-src {style}; img-src blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }


def _hashes(text: str, tag: str) -> str:
    contents = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(c.encode()).digest()).decode() for c in contents)
    return " ".join(f"'sha256-{digest}'" for digest in digests)
