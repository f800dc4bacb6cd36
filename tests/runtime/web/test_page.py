"""Facts about how the page is put together; how it behaves is tested in a browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

from rsseg.runtime.web.page import Engine, css_colours, page, policed, policy

ENGINES: list[Engine] = ["service", "browser"]


class Addresses(HTMLParser):
    """Collects what a page would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("src", "href", "srcset")]


@pytest.mark.parametrize("engine", ENGINES)
def test_page_is_whole_and_loads_nothing(engine: Engine) -> None:
    text = page(engine, {"model": {}})
    assert "{{" not in text
    assert all(address.startswith("data:image/") for address in Addresses(text).found)
    # The namespace of SVG and the address that a message names are no requests.
    assert set(re.findall(r"https?://[^\s'\"`]+", text)) <= {
        "http://www.w3.org/2000/svg",
        "http://127.0.0.1:8000",
    }


def test_policy_names_the_digests_of_script_and_style() -> None:
    text = page("service")
    for tag, rule in (("script", "script-src"), ("style", "style-src")):
        content = text.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{rule} 'sha256-{digest}'" in policy(text)


def test_policed_page_states_its_policy_once_and_is_else_the_same() -> None:
    text = page("browser", {"model": {}})
    stated = policed(text)
    meta = re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">\n', stated)
    assert len(meta) == 1
    assert meta[0].startswith("default-src 'none'; script-src 'self' 'wasm-unsafe-eval' 'sha256-")
    assert re.sub(r"\n<meta http-equiv.*>", "", stated) == text


def test_name_of_a_class_cannot_end_the_script() -> None:
    given = {"model": {"classes": ["</script><script>alert(1)</script>"]}}
    text = page("browser", given)
    assert text.count("<script>") == text.count("</script>") == 1
    line = text.partition("const GIVEN = ")[2].partition(";\n")[0]
    assert json.loads(line) == given


def test_colours_are_those_of_the_classes_and_of_void() -> None:
    assert css_colours([(0, 128, 255)]) == ["#0080ff", "#262626"]
