"""Facts about the page of the service, in a headless Chromium."""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import BytesIO

import numpy as np
import pytest
from PIL import Image as Pictures

from rsseg.images.preprocessing import LabelMap
from rsseg.runtime.predictor import Predictor
from rsseg.runtime.serve.body import Limits
from rsseg.runtime.serve.service import Service
from tests.helpers.browser import (
    DESKTOP,
    NEEDS_CHROMIUM,
    answered,
    choose,
    compared,
    drawn_colours,
    opened_page,
    sync,
)
from tests.helpers.small_checkpoint import CLASSES, write_checkpoint
from tests.helpers.small_service import drawn, encoded, serving
from tests.runtime.serve.prefix_proxy import proxied
from tests.runtime.serve.test_body import animation

pytestmark = NEEDS_CHROMIUM
CHANGED = "#ff2bb0"
NO_NUMBER = "\u2013"


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path = write_checkpoint(tmp_path_factory.mktemp("rooms") / "last.pt", "segmentation")
    service = Service(Predictor.open(path), budget_ms=1e5, limits=Limits(body_mb=0.5))
    with serving(service) as address:
        yield address


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path = write_checkpoint(tmp_path_factory.mktemp("cls") / "last.pt")
    accuracies = ("top1", {64: 0.875, 32: 0.5})
    with serving(Service(Predictor.open(path), budget_ms=1e5, accuracies=accuracies)) as address:
        yield address


def label_map(page: sync.Page, address: str, resolution: int, content: bytes) -> LabelMap:
    """Ask the service itself for a label map."""
    told = page.request.post(
        f"{address}/predict?resolution={resolution}",
        data=content,
        headers={"Content-Type": "image/png"},
    )
    return np.asarray(Pictures.open(BytesIO(told.body())))


def sent_types(page: sync.Page) -> list[str]:
    """Note the type of every image that the page sends."""
    types: list[str] = []

    def note(asked: sync.Request) -> None:
        if asked.method == "POST":
            types.append(asked.headers["content-type"])

    page.on("request", note)
    return types


def test_label_map_is_drawn_and_follows_the_slider(page: sync.Page, segmenter: str) -> None:
    page.goto(segmenter)
    sync.expect(page.locator("#about")).to_contain_text("segmenter, 3 classes, trained at 64, 32")
    choose(page, encoded())
    answered(page, 64)
    sync.expect(page.locator("#labels")).to_be_visible()
    told = page.request.get(f"{segmenter}/model").json()
    colour_of = dict(zip(told["classes"], told["colours"], strict=False))
    names = page.locator("#classes .name").all_text_contents()
    assert set(drawn_colours(page)) == {colour_of[name] for name in names}
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


def test_second_resolution_stands_beside_the_first_with_the_pixels_that_changed(
    page: sync.Page, segmenter: str
) -> None:
    content = encoded()
    page.goto(segmenter)
    choose(page, content)
    answered(page, 64)
    compared(page, 32)
    maps = [label_map(page, segmenter, side, content) for side in (64, 32)]
    told = page.request.get(f"{segmenter}/model").json()
    for labels, canvas in zip(maps, ("#labels", "#labels-second"), strict=True):
        values, counts = np.unique(labels, return_counts=True)
        expected = {told["colours"][v]: int(n) for v, n in zip(values, counts, strict=True)}
        assert drawn_colours(page, canvas) == expected
    differs = maps[0] != maps[1]
    assert 0 < differs.mean() < 1
    assert drawn_colours(page, "#changed")[CHANGED] == differs.sum()
    assert page.locator("#share").text_content() == f"{100 * differs.mean():.1f} %"
    heads = page.locator("#classes .head .value").all_text_contents()
    assert heads == ["64 px", "32 px"]
    page.get_by_label("Compare with").select_option("")
    sync.expect(page.locator("#second")).to_be_hidden()
    sync.expect(page.locator("#change")).to_be_hidden()


def test_one_class_can_be_shown_alone(page: sync.Page, segmenter: str) -> None:
    page.goto(segmenter)
    choose(page, encoded())
    answered(page, 64)
    every = drawn_colours(page)
    page.locator("#classes button").first.click()
    assert len(drawn_colours(page)) == 1
    page.locator("#classes button").first.click()
    assert drawn_colours(page) == every


def test_service_chooses_for_a_budget_and_says_that_it_is_not_kept(
    page: sync.Page, segmenter: str
) -> None:
    page.goto(segmenter)
    choose(page, encoded("JPEG"), "room.jpg", "jpeg")
    answered(page, 64)
    page.get_by_label("Budget in milliseconds").fill("1")
    page.get_by_label("Choose it for a budget of").focus()
    answered(page, 32)
    sync.expect(page.locator("#note")).to_contain_text("The budget of 1 ms was not kept")
    sync.expect(page.locator("#note")).to_contain_text("at the lowest resolution")
    sync.expect(page.locator("#asked")).to_have_text("32 pixels")


@pytest.mark.parametrize(
    ("total", "reason", "note"),
    [
        ("20", "budget", "A higher resolution would not keep the budget."),
        (
            "20",
            "image",
            "This image takes long at every resolution: a higher one would not keep the budget.",
        ),
        ("20", "load", "The service is busy: it answers at a lower resolution for now."),
        ("60000.5", "largest", "The budget of 50000 ms was not kept: this answer took 60001 ms."),
        ("20", "largest", ""),
    ],
)
def test_note_on_a_budget_is_true(
    page: sync.Page, segmenter: str, total: str, reason: str, note: str
) -> None:
    def changed(route: sync.Route) -> None:
        told = route.fetch()
        headers = {**told.headers, "x-total-milliseconds": total, "x-chosen-by": reason}
        route.fulfill(response=told, headers=headers)

    page.goto(segmenter)
    choose(page, encoded())
    answered(page, 64)
    page.route("**/predict*", changed)
    page.get_by_label("Budget in milliseconds").fill("50000")  # more than the way here takes
    with page.expect_response("**/predict*"):
        page.get_by_label("Choose it for a budget of").focus()
    sync.expect(page.locator("body")).not_to_have_class("busy")
    assert page.locator("#note").text_content() == note


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


def test_every_resolution_is_measured_and_stands_at_its_place_on_the_slider(
    page: sync.Page, segmenter: str
) -> None:
    asked: list[str] = []
    page.goto(segmenter)
    choose(page, encoded())
    answered(page, 64)
    page.on("request", lambda request: asked.append(request.url.partition("resolution=")[2]))
    page.get_by_role("button", name="Measure all").click()
    sync.expect(page.locator("#times li")).to_have_count(3)
    sync.expect(page.get_by_role("button", name="Measure all")).to_be_enabled()
    places = page.locator("#times li").evaluate_all(
        "bars => bars.map(bar => [Number(bar.lastChild.textContent), bar.offsetLeft])"
    )
    (_, left), (_, middle), (_, right) = places
    assert [side for side, _ in places] == [32, 48, 64]
    assert left < middle < right
    assert middle == pytest.approx((left + right) / 2, abs=1)
    sync.expect(page.locator("#asked")).to_have_text("64 pixels")
    assert asked == [*("32", "48", "64") * 3, "64"]  # medians need rounds, in turn


def test_large_image_of_any_kind_is_made_smaller_before_it_is_sent(
    page: sync.Page, segmenter: str
) -> None:
    page.goto(segmenter)
    choose(page, encoded("GIF", drawn(1000, 2000) // 255), "wide.gif", "gif")
    answered(page, 64)
    caption = page.locator("#caption")
    sync.expect(caption).to_contain_text(re.compile(r"wide\.gif . 1600 . 800, .* from 2000 . 1000"))


@pytest.mark.parametrize("form", ["PNG", "WEBP", "JPEG CMYK"])
def test_image_that_the_service_refuses_is_encoded_anew(
    page: sync.Page, segmenter: str, form: str
) -> None:
    content = encoded(form) if form == "JPEG CMYK" else animation(form)
    kind = form.partition(" ")[0].lower()
    refused = page.request.post(
        f"{segmenter}/predict", data=content, headers={"Content-Type": f"image/{kind}"}
    )
    assert refused.status == 400
    types = sent_types(page)
    page.goto(segmenter)
    choose(page, content, f"image.{kind}", kind)
    answered(page, 64)
    assert types == ["image/jpeg"]
    sync.expect(page.locator("#caption")).to_contain_text(re.compile("50 . 40"))


@pytest.mark.parametrize("form", ["PNG", "WEBP", "JPEG", "JPEG L", "BMP"])
def test_image_that_the_service_takes_is_sent_as_it_is(
    page: sync.Page, segmenter: str, form: str
) -> None:
    content = encoded(form)
    kind = form.partition(" ")[0].lower()
    page.goto(segmenter)
    with page.expect_request("**/predict*") as asked:
        choose(page, content, f"image.{kind}", kind)
    answered(page, 64)
    headers = asked.value.all_headers()
    assert headers["content-type"] == f"image/{kind}"
    assert headers["content-length"] == str(len(content))


@pytest.mark.parametrize("form", ["AVIF", "GIF"])
def test_image_of_another_kind_than_its_name_says_is_encoded_anew(
    page: sync.Page, segmenter: str, form: str
) -> None:
    types = sent_types(page)
    page.goto(segmenter)
    choose(page, encoded(form), "photo.png")
    answered(page, 64)
    assert types == ["image/jpeg"]


def test_photo_is_turned_as_its_camera_says_and_its_name_may_have_any_letters(
    page: sync.Page, segmenter: str
) -> None:
    exif = Pictures.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    page.goto(segmenter)
    choose(page, encoded("JPEG", drawn(40, 60), exif=exif), "K\u00fcche \u2013 <b>1.jpg", "jpeg")
    answered(page, 64)
    caption = page.locator("#caption")
    sync.expect(caption).to_have_text("K\u00fcche \u2013 <b>1.jpg \u00b7 40 \u00d7 60")
    size = page.evaluate("[shown[0].labels.width, shown[0].labels.height]")
    assert size == [40, 60]


def dropped(page: sync.Page, names: list[str], content: bytes, text: str = "") -> None:
    """Drop files, or a text, on the page."""
    page.evaluate(
        """([names, bytes, text]) => {
          const dataTransfer = new DataTransfer();
          if (text) dataTransfer.setData("text/plain", text);
          for (const name of names)
            dataTransfer.items.add(new File([Uint8Array.from(bytes)], name, { type: "image/png" }));
          for (const kind of ["dragover", "drop"])
            document.body.dispatchEvent(
              new DragEvent(kind, { dataTransfer, bubbles: true, cancelable: true }));
        }""",
        [names, list(content), text],
    )


def test_first_of_two_images_that_are_dropped_is_shown_and_that_is_said(
    page: sync.Page, segmenter: str
) -> None:
    page.goto(segmenter)
    dropped(page, ["one.png", "two.png"], encoded())
    answered(page, 64)
    caption = page.locator("#caption")
    sync.expect(caption).to_have_text("one.png \u00b7 50 \u00d7 40, the first of 2 files")


def test_text_that_is_dropped_is_told_to_be_none_and_the_image_stays(
    page: sync.Page, segmenter: str
) -> None:
    page.goto(segmenter)
    choose(page, encoded())
    answered(page, 64)
    dropped(page, [], b"", "a text")
    sync.expect(page.get_by_role("alert")).to_contain_text("That is not a file; drop an image")
    sync.expect(page.locator("#labels")).to_be_visible()


def test_image_is_pasted(page: sync.Page, segmenter: str) -> None:
    page.goto(segmenter)
    page.evaluate(
        """bytes => {
          const clipboardData = new DataTransfer();
          clipboardData.items.add(
            new File([Uint8Array.from(bytes)], "image.png", { type: "image/png" }));
          document.body.dispatchEvent(
            new ClipboardEvent("paste", { clipboardData, bubbles: true }));
        }""",
        list(encoded()),
    )
    answered(page, 64)


def test_slider_that_is_moved_while_a_budget_is_answered_keeps_its_place(
    page: sync.Page, segmenter: str
) -> None:
    held: list[sync.Route] = []
    budgeted = re.compile("budget_ms")
    page.goto(segmenter)
    choose(page, encoded())
    answered(page, 64)
    page.route(budgeted, lambda route: held.append(route))  # noqa: PLW0108 Playwright marks it.
    with page.expect_request(budgeted):
        page.get_by_label("Choose it for a budget of").check()
    page.get_by_role("slider", name="Resolution").fill("0")
    sync.expect(page.locator("#asked")).to_have_text("32 pixels")
    held[0].continue_()
    answered(page, 32)
    sync.expect(page.locator("body")).not_to_have_class("busy")
    assert page.get_by_role("slider", name="Resolution").input_value() == "0"
    sync.expect(page.locator("#asked")).to_have_text("32 pixels")


def answer_by(route: sync.Route, address: str, change: str = "") -> None:
    """Answer as where the service was stopped, and another one started at its address."""
    place = "/model" if "model" in route.request.url else f"/predict{change}"
    kept = {"content-type": route.request.headers.get("content-type", "image/png")}
    route.fulfill(response=route.fetch(url=address + place, headers=kept))


@pytest.mark.parametrize("refused", [False, True])
def test_service_that_runs_another_network_is_noticed(
    page: sync.Page, segmenter: str, classifier: str, complaints: list[str], refused: bool
) -> None:
    page.goto(segmenter)
    choose(page, encoded())
    answered(page, 64)
    change = "?top=x" if refused else ""
    page.route(re.compile("predict|model"), lambda route: answer_by(route, classifier, change))
    page.get_by_role("slider", name="Resolution").fill("0")
    about = page.locator("#about")
    sync.expect(about).to_contain_text("classifier, 3 classes")
    sync.expect(about).to_contain_text("was restarted with another network")
    if not refused:
        answered(page, 64)
        sync.expect(page.locator("#labels")).to_be_hidden()
        assert sorted(page.locator("#classes .name").all_text_contents()) == sorted(CLASSES)
    assert page.locator("#ticks span").count() == 2
    assert page.locator("#pair option").count() == 4
    sync.expect(page.locator("body")).not_to_have_class("busy")
    complaints.clear()  # Chromium's own line on 400


def test_slider_may_be_moved_while_the_other_network_cannot_be_opened(
    page: sync.Page, segmenter: str, classifier: str, complaints: list[str]
) -> None:
    page.goto(segmenter)
    choose(page, encoded())
    answered(page, 64)
    page.route(re.compile("predict"), lambda route: answer_by(route, classifier))
    page.route(re.compile("model"), lambda route: route.abort())
    slider, again = page.get_by_role("slider", name="Resolution"), page.locator("#again")
    slider.fill("0")
    sync.expect(again).to_be_visible()
    slider.fill("1")
    assert all("Failed to load" in complaint for complaint in complaints)
    complaints.clear()
    page.route(re.compile("model"), lambda route: answer_by(route, classifier))
    again.click()
    answered(page, 64)
    sync.expect(page.locator("#about")).to_contain_text("classifier, 3 classes")


def test_page_says_that_it_needs_scripts_where_they_are_off(
    browser: sync.Browser, segmenter: str
) -> None:
    page = browser.new_page(java_script_enabled=False)
    page.goto(segmenter)
    sync.expect(page.get_by_text("This page needs JavaScript")).to_be_visible()
    page.close()


def test_focus_of_the_keyboard_is_always_seen(page: sync.Page, segmenter: str) -> None:
    page.goto(segmenter)
    choose(page, encoded())
    answered(page, 64)
    page.evaluate("document.activeElement.blur()")
    outlined = []
    for _ in range(12):
        page.keyboard.press("Tab")
        outlined.append(
            page.evaluate(
                """() => {
                  const all = [...document.querySelectorAll("*")];
                  const drawn = all.filter((e) => getComputedStyle(e).outlineStyle === "solid" &&
                    e.checkVisibility() && e.getBoundingClientRect().width > 5);
                  return drawn.map((e) => e.id || e.dataset.place);
                }"""
            )
        )
    order = ["another", "sample", "camera", "pair", "opacity", "resolution", "auto", "budget"]
    assert [names[0] for names in outlined[: len(order) + 1]] == [*order, "sweep"]
    assert all(len(names) == 1 for names in outlined[: len(order) + 1])


def test_what_is_no_image_is_told_and_the_next_one_is_shown(
    page: sync.Page, segmenter: str
) -> None:
    page.goto(segmenter)
    choose(page, b"no image", "notes.png")
    sync.expect(page.get_by_role("alert")).to_contain_text("notes.png is not an image")
    choose(page, encoded())
    answered(page, 64)
    sync.expect(page.get_by_role("alert")).to_be_hidden()


def test_refusal_clears_the_numbers_of_the_answer_before(
    page: sync.Page, segmenter: str, complaints: list[str]
) -> None:
    page.goto(segmenter)
    choose(page, encoded())
    answered(page, 64)
    page.get_by_label("Budget in milliseconds").fill("0")
    page.get_by_label("Choose it for a budget of").focus()
    sync.expect(page.get_by_role("alert")).to_contain_text("budget_ms '0'; expected a positive")
    sync.expect(page.get_by_role("button", name="Try again")).to_be_hidden()
    for name in ("#latency", "#wait", "#trip"):
        assert page.locator(name).text_content() == NO_NUMBER
    for name in ("#labels", "#stages", "#note", "#mixing"):
        sync.expect(page.locator(name)).to_be_hidden()
    assert page.locator("#classes li").count() == 0
    page.get_by_label("Choose it for a budget of").uncheck()
    answered(page, 64)
    sync.expect(page.get_by_role("alert")).to_be_hidden()
    assert ["400" in complaint for complaint in complaints] == [True]  # Chromium's own line
    complaints.clear()


def test_lost_network_is_told_and_a_retry_answers(
    page: sync.Page, segmenter: str, complaints: list[str]
) -> None:
    page.goto(segmenter)
    choose(page, encoded())
    answered(page, 64)
    page.route("**/predict*", lambda route: route.abort())
    page.get_by_role("slider", name="Resolution").fill("0")
    sync.expect(page.get_by_role("alert")).to_contain_text("The service does not answer")
    assert page.locator("#latency").text_content() == NO_NUMBER
    page.unroute("**/predict*")
    page.get_by_role("button", name="Try again").click()
    answered(page, 32)
    sync.expect(page.get_by_role("alert")).to_be_hidden()
    page.context.set_offline(True)
    page.get_by_role("slider", name="Resolution").fill("1")
    sync.expect(page.get_by_role("alert")).to_contain_text("The service does not answer")
    page.context.set_offline(False)  # The browser says so, and the page asks again itself.
    answered(page, 48)
    assert all("ERR_" in complaint for complaint in complaints)  # Chromium's own lines
    complaints.clear()


def test_page_opened_too_early_can_be_tried_again(
    page: sync.Page, segmenter: str, complaints: list[str]
) -> None:
    page.route("**/model", lambda route: route.fulfill(status=502, body="starting"))
    page.goto(segmenter)
    sync.expect(page.get_by_role("alert")).to_contain_text("The service has failed: status 502")
    page.unroute("**/model")
    page.get_by_role("button", name="Try again").click()
    sync.expect(page.locator("#about")).to_contain_text("segmenter, 3 classes")
    sync.expect(page.get_by_role("alert")).to_be_hidden()
    complaints.clear()  # Chromium's own line on 502


@pytest.mark.parametrize("last", ["", "/"])
def test_page_works_behind_the_prefix_of_a_proxy(
    page: sync.Page, segmenter: str, last: str
) -> None:
    with proxied(segmenter) as address:
        page.goto(address + last)
        choose(page, encoded())
        answered(page, 64)


def test_sample_is_answered_and_needs_no_file(page: sync.Page, segmenter: str) -> None:
    page.goto(segmenter)
    page.get_by_role("button", name="Sample").click()
    answered(page, 64)
    sync.expect(page.locator("#caption")).to_contain_text(re.compile("a drawn room . 468 . 348"))


def test_camera_is_answered_frame_after_frame_until_it_is_stopped(
    page: sync.Page, segmenter: str
) -> None:
    page.goto(segmenter)
    types = sent_types(page)
    camera = page.get_by_role("button", name="Camera")
    camera.click()
    answered(page, 64)
    sync.expect(page.locator("#caption")).to_contain_text(re.compile("camera . 640 . 480"))
    page.get_by_role("slider", name="Resolution").fill("0")
    answered(page, 32)
    camera.click()
    sync.expect(page.locator("body")).not_to_have_class("busy")
    assert len(types) >= 2
    asked = len(types)
    page.get_by_role("slider", name="Resolution").fill("1")  # the last frame stays the image
    answered(page, 48)
    assert len(types) == asked + 1


@pytest.mark.parametrize("width", [390, 320])
def test_slider_stands_beside_the_picture_on_a_phone(
    page: sync.Page, segmenter: str, width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 700})
    page.goto(segmenter)
    choose(page, encoded(image=drawn(400, 600)))
    answered(page, 64)
    for second in ("", "32"):
        page.get_by_label("Compare with").select_option(second)
        sync.expect(page.locator("body")).not_to_have_class("busy")
        picture = page.locator("#image").bounding_box()
        slider = page.get_by_role("slider", name="Resolution").bounding_box()
        assert picture is not None
        assert slider is not None
        assert picture["x"] + picture["width"] <= slider["x"]
        assert slider["x"] + slider["width"] <= width
        assert slider["y"] < picture["y"] + picture["height"]
        assert slider["y"] + slider["height"] <= 700  # without scrolling
        assert slider["height"] > 100
        assert page.evaluate("document.documentElement.scrollWidth") == width
    for control in page.locator("input, button, select").all():
        name = control.evaluate("c => c.ariaLabel || c.labels?.[0]?.textContent || c.textContent")
        assert name.strip()


def test_pictures_stand_side_by_side_on_a_desktop(
    browser: sync.Browser, complaints: list[str], segmenter: str
) -> None:
    with opened_page(browser, complaints, DESKTOP) as page:
        page.goto(segmenter)
        choose(page, encoded(image=drawn(400, 600)))
        answered(page, 64)
        compared(page, 32)
        left, right = (page.locator(f"#{n}").bounding_box() for n in ("image", "image-second"))
        assert left is not None
        assert right is not None
        assert left["y"] == right["y"]
        assert left["x"] + left["width"] < right["x"]
        assert page.evaluate("document.documentElement.scrollWidth") == DESKTOP[0]


def test_classes_of_a_classifier_are_shown_with_the_accuracy_of_the_resolution(
    page: sync.Page, classifier: str
) -> None:
    page.goto(classifier)
    sync.expect(page.locator("#about")).to_contain_text("classifier, 3 classes")
    choose(page, encoded())
    answered(page, 64)
    sync.expect(page.locator("#accuracy")).to_have_text("top-1 87.5 %")
    assert sorted(page.locator("#classes .name").all_text_contents()) == sorted(CLASSES)
    sync.expect(page.locator("#labels")).to_be_hidden()
    page.get_by_role("slider", name="Resolution").fill("0")
    answered(page, 32)
    sync.expect(page.locator("#accuracy")).to_have_text("top-1 50.0 %")
    sync.expect(page.locator("#times li")).to_have_count(2)
    page.get_by_role("slider", name="Resolution").fill("1")  # 48, whose accuracy nobody knows
    sync.expect(page.locator("#accuracy")).to_have_text("")


def test_classes_of_two_resolutions_are_compared(page: sync.Page, classifier: str) -> None:
    page.goto(classifier)
    choose(page, encoded())
    answered(page, 64)
    compared(page, 32)
    expected = {}
    for side in (64, 32):
        told = page.request.post(
            f"{classifier}/predict?resolution={side}",
            data=encoded(),
            headers={"Content-Type": "image/png"},
        ).json()
        expected[side] = {row["class"]: row["probability"] for row in told["classes"]}
    for row in page.locator("#classes .item:not(.head)").all():
        name = row.locator(".name").text_content() or ""
        values = row.locator(".value").all_text_contents()
        shares = [expected[side][name] for side in (64, 32)]
        assert values == [f"{100 * s:.1f} %" if not 0 < s < 0.001 else "< 0.1 %" for s in shares]
        assert row.locator(".track").count() == 2
