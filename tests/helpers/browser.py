"""A headless Chromium, and pages in it whose every complaint is a fault.

RSSEG_CHROMIUM names the browser; else `chromium` is looked for.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright import sync_api as sync

__all__ = [
    "CHROMIUM",
    "DESKTOP",
    "NEEDS_CHROMIUM",
    "PHONE",
    "answered",
    "choose",
    "chromium",
    "compared",
    "drawn_colours",
    "opened_page",
    "sync",
]

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = os.environ.get("RSSEG_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
NEEDS_CHROMIUM = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium was found; RSSEG_CHROMIUM may name one"
)
PATIENCE = 120_000  # milliseconds for anything to happen: the machine may be busy
PHONE, DESKTOP = (390, 844), (1240, 900)
_CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")


@contextmanager
def chromium() -> Iterator[sync.Browser]:
    """Start the browser, with a camera that shows a test picture."""
    sync.expect.set_options(timeout=PATIENCE)
    with sync.sync_playwright() as playwright:
        arguments = ["--no-sandbox", *_CAMERA]
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield started
        started.close()


@contextmanager
def opened_page(
    browser: sync.Browser, complaints: list[str], size: tuple[int, int] = PHONE
) -> Iterator[sync.Page]:
    """Open a page; at its end nothing may have been said against it.

    Args:
        browser: Where.
        complaints: Filled with what the browser says against the page, and with what the page
            asks for elsewhere.
        size: Width and height of the window in pixels.
    """
    page = browser.new_page(viewport={"width": size[0], "height": size[1]})
    page.set_default_timeout(PATIENCE)
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda asked: complaints.extend(outside(asked.url)))
    yield page
    page.close()
    assert complaints == []


def outside(address: str) -> list[str]:
    return [] if address.startswith(("http://127.0.0.1:", "data:", "blob:")) else [address]


def choose(page: sync.Page, content: bytes, name: str = "room.png", kind: str = "png") -> None:
    """Choose a file on the page."""
    page.get_by_label("Choose an image").set_input_files(
        {"name": name, "mimeType": f"image/{kind}", "buffer": content}
    )


def answered(page: sync.Page, resolution: int) -> None:
    """Wait until the answer at a resolution is shown."""
    sync.expect(page.locator("#spoken")).to_contain_text(f"{resolution} pixels, ")


def compared(page: sync.Page, resolution: int) -> None:
    """Compare with another resolution, and wait until both are shown."""
    page.get_by_label("Compare with").select_option(str(resolution))
    sync.expect(page.locator("#spoken")).to_contain_text(f"compared with {resolution} pixels: ")


def drawn_colours(page: sync.Page, canvas: str = "#labels") -> dict[str, int]:
    """Count the pixels of each colour that is drawn on a canvas."""
    found: dict[str, int] = page.locator(canvas).evaluate(
        """canvas => {
          const copy = new OffscreenCanvas(canvas.width, canvas.height);
          const context = copy.getContext("2d", { willReadFrequently: true });
          context.drawImage(canvas, 0, 0);
          const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
          const found = {}, hex = (value) => value.toString(16).padStart(2, "0");
          for (let i = 0; i < data.length; i += 4) {
            if (!data[i + 3]) continue;
            const colour = "#" + hex(data[i]) + hex(data[i + 1]) + hex(data[i + 2]);
            found[colour] = (found[colour] ?? 0) + 1;
          }
          return found;
        }"""
    )
    return found
