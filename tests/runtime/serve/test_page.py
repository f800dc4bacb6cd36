"""Facts about the page of the service, in a headless Chromium.

RSSEG_CHROMIUM names the browser; else `chromium` is looked for.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from rsseg.runtime.predictor import Predictor
from rsseg.runtime.serve.body import Limits
from rsseg.runtime.serve.service import Service
from tests.helpers.small_checkpoint import CLASSES, write_checkpoint
from tests.helpers.small_service import drawn, encoded, serving

if TYPE_CHECKING:
    from playwright import sync_api as sync
else:
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = os.environ.get("RSSEG_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium was found; RSSEG_CHROMIUM may name one"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[sync.Browser]:
    with sync.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def complaints() -> list[str]:
    """What the browser has said against the page, and what the page has asked for elsewhere."""
    return []


@pytest.fixture
def page(browser: sync.Browser, complaints: list[str]) -> Iterator[sync.Page]:
    """A page on a phone, whose every complaint is a fault."""
    opened = browser.new_page(viewport={"width": 390, "height": 844})
    opened.set_default_timeout(300_000)
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("request", lambda asked: complaints.extend(outside(asked.url)))
    yield opened
    opened.close()
    assert complaints == []


def outside(address: str) -> list[str]:
    return [] if address.startswith(("http://127.0.0.1:", "data:", "blob:")) else [address]


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path = write_checkpoint(tmp_path_factory.mktemp("rooms") / "last.pt", "segmentation")
    service = Service(Predictor.open(path), budget_ms=1e5, limits=Limits(body_mb=0.5))
    with serving(service) as address:
        yield address


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path = write_checkpoint(tmp_path_factory.mktemp("cls") / "last.pt")
    with serving(Service(Predictor.open(path), budget_ms=1e5)) as address:
        yield address


def choose(page: sync.Page, content: bytes, name: str = "room.png", kind: str = "png") -> None:
    page.get_by_label("Choose an image").set_input_files(
        {"name": name, "mimeType": f"image/{kind}", "buffer": content}
    )


def answered(page: sync.Page, resolution: int) -> None:
    """Wait until the answer at a resolution is shown."""
    sync.expect(page.locator("#spoken")).to_contain_text(f"{resolution} pixels, ")


def drawn_colours(page: sync.Page) -> set[str]:
    """Read the colours that lie over the image."""
    found = page.locator("#labels").evaluate(
        """canvas => {
          const copy = new OffscreenCanvas(canvas.width, canvas.height);
          const context = copy.getContext("2d", { willReadFrequently: true });
          context.drawImage(canvas, 0, 0);
          const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
          const found = new Set(), hex = (value) => value.toString(16).padStart(2, "0");
          for (let i = 0; i < data.length; i += 4)
            if (data[i + 3]) found.add("#" + hex(data[i]) + hex(data[i + 1]) + hex(data[i + 2]));
          return [...found];
        }"""
    )
    return set(found)


def test_label_map_is_drawn_and_follows_the_slider(page: sync.Page, segmenter: str) -> None:
    page.goto(segmenter)
    sync.expect(page.locator("#about")).to_contain_text("segmenter, 3 classes, trained at 64, 32")
    choose(page, encoded())
    answered(page, 64)
    sync.expect(page.locator("#labels")).to_be_visible()
    told = page.request.get(f"{segmenter}/model").json()
    colour_of = dict(zip(told["classes"], told["colours"], strict=False))
    names = page.locator("#classes .name").all_text_contents()
    assert drawn_colours(page) == {colour_of[name] for name in names}
    latency = page.locator("#latency").text_content() or ""
    page.get_by_role("slider", name="Resolution").focus()
    page.keyboard.press("Home")
    answered(page, 32)
    sync.expect(page.locator("#asked")).to_have_text("32 pixels")
    sync.expect(page.locator("#latency")).not_to_have_text(latency)
    page.keyboard.press("ArrowRight")
    answered(page, 48)
    sync.expect(page.locator("#asked")).to_have_text("48 pixels, not trained")
    sync.expect(page.locator("#times li")).to_have_count(3)


def test_one_class_can_be_shown_alone(page: sync.Page, segmenter: str) -> None:
    page.goto(segmenter)
    choose(page, encoded())
    answered(page, 64)
    every = drawn_colours(page)
    page.locator("#classes button").first.click()
    assert len(drawn_colours(page)) == 1
    page.locator("#classes button").first.click()
    assert drawn_colours(page) == every


def test_service_chooses_for_a_budget_and_says_so(page: sync.Page, segmenter: str) -> None:
    page.goto(segmenter)
    choose(page, encoded("JPEG"), "room.jpg", "jpeg")
    answered(page, 64)
    page.get_by_label("Budget in milliseconds").fill("1")
    page.get_by_label("Choose it for a budget of").focus()
    answered(page, 32)
    sync.expect(page.locator("#note")).to_contain_text("would not keep the budget")
    sync.expect(page.locator("#asked")).to_have_text("32 pixels")


def test_only_the_newest_position_of_the_slider_is_asked_for(
    page: sync.Page, segmenter: str
) -> None:
    page.goto(segmenter)
    choose(page, encoded())
    answered(page, 64)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.partition("?")[2]))
    page.get_by_role("slider", name="Resolution").evaluate(
        """slider => {
          for (let i = 0; i < 40; i++) {
            slider.value = i % 2;
            slider.dispatchEvent(new Event("input", { bubbles: true }));
          }
        }"""
    )
    answered(page, 48)
    sync.expect(page.locator("body")).not_to_have_class("busy")
    assert asked == ["resolution=32", "resolution=48"]


def test_large_image_of_any_kind_is_made_smaller_before_it_is_sent(
    page: sync.Page, segmenter: str
) -> None:
    page.goto(segmenter)
    choose(page, encoded("GIF", drawn(1000, 2000) // 255), "wide.gif", "gif")
    answered(page, 64)
    caption = page.locator("#caption")
    sync.expect(caption).to_contain_text(re.compile(r"wide\.gif . 1600 . 800, .* from 2000 . 1000"))


def test_what_is_no_image_is_told_and_the_next_one_is_shown(
    page: sync.Page, segmenter: str, complaints: list[str]
) -> None:
    page.goto(segmenter)
    choose(page, b"no image", "notes.png")
    sync.expect(page.get_by_role("alert")).to_contain_text("notes.png is not an image")
    choose(page, encoded("JPEG CMYK"), "print.jpg", "jpeg")
    sync.expect(page.get_by_role("alert")).to_contain_text("a CMYK image; expected RGB")
    choose(page, encoded())
    answered(page, 64)
    sync.expect(page.get_by_role("alert")).to_be_hidden()
    assert ["400" in complaint for complaint in complaints] == [True]  # Chromium's own line
    complaints.clear()


def test_page_fits_a_phone_and_every_control_has_a_name(page: sync.Page, segmenter: str) -> None:
    page.goto(segmenter)
    choose(page, encoded(image=drawn(400, 600)))
    answered(page, 64)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    for control in page.locator("input, button").all():
        name = control.evaluate("c => c.ariaLabel || c.labels?.[0]?.textContent || c.textContent")
        assert name.strip()


def test_classes_of_a_classifier_are_shown(page: sync.Page, classifier: str) -> None:
    page.goto(classifier)
    sync.expect(page.locator("#about")).to_contain_text("classifier, 3 classes")
    choose(page, encoded())
    answered(page, 64)
    assert sorted(page.locator("#classes .name").all_text_contents()) == sorted(CLASSES)
    sync.expect(page.locator("#labels")).to_be_hidden()
    page.get_by_role("slider", name="Resolution").fill("0")
    answered(page, 32)
    sync.expect(page.locator("#times li")).to_have_count(2)
