"""A browser for tests of pages; playwright is imported where one asks for it, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    from tests.helpers.browser import chromium

    with chromium() as started:
        yield started


@pytest.fixture
def complaints() -> list[str]:
    """What the browser has said against a page, and what the page has asked for elsewhere."""
    return []


@pytest.fixture
def window() -> tuple[int, int]:
    """Width and height of the window in pixels: those of a phone."""
    from tests.helpers.browser import PHONE

    return PHONE


@pytest.fixture
def page(browser: Any, complaints: list[str], window: tuple[int, int]) -> Iterator[Any]:
    """A page whose every complaint is a fault."""
    from tests.helpers.browser import opened_page

    with opened_page(browser, complaints, window) as opened:
        yield opened
