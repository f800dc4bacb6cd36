"""Facts about a network in the browser, in a headless Chromium: it answers as the predictor does.

RSSEG_RUNTIME_FILES names a folder with onnxruntime-web; else it is fetched from the npm registry.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rsseg.common.config import plain
from rsseg.images.preprocessing import Preprocessing
from rsseg.runtime.onnx.export import write_checked
from rsseg.runtime.predictor import Predictor
from rsseg.runtime.web import page as built
from rsseg.runtime.web.export import export_web
from rsseg.runtime.web.page import Engine
from rsseg.runtime.web.runtime_files import runtime_files
from rsseg.segmentation.label_maps import predict_labels
from tests import web_latency
from tests.helpers.browser import (
    DESKTOP,
    NEEDS_CHROMIUM,
    answered,
    choose,
    compared,
    sync,
)
from tests.helpers.file_server import served
from tests.helpers.small_exported import CLASSES, description, small_net, write_clouds
from tests.helpers.small_service import drawn, encoded
from tests.runtime.onnx.test_int8 import small as small_integers
from tests.runtime.onnx.test_int8 import written as integers

pytestmark = NEEDS_CHROMIUM
ENGINE: Engine = "browser"
PREPROCESSINGS = [
    Preprocessing(),
    Preprocessing(fit="aspect"),
    Preprocessing(fit="crop", mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.3), crop_ratios={32: 0.6}),
]


@pytest.fixture
def window() -> tuple[int, int]:
    return DESKTOP


@pytest.fixture(scope="module")
def runtime_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of onnxruntime-web."""
    if "RSSEG_RUNTIME_FILES" in os.environ:
        return Path(os.environ["RSSEG_RUNTIME_FILES"])
    folder = tmp_path_factory.mktemp("onnxruntime-web")
    try:
        files = runtime_files()
    except ValueError as error:
        pytest.skip(f"onnxruntime-web cannot be had here: {error}")
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def web_folder(path: Path, runtime_folder: Path, task: str) -> Path:
    """Export a small network of all resolutions, and that as a folder."""
    net, told = small_net(maps=task == "segmentation"), description(task=task, name="small net")
    exported = path / "net.onnx"
    write_checked(net, told, exported)
    return export_web(exported, path / "web", write=no_write, runtime_folder=runtime_folder).folder


def no_write(*_: object) -> None:
    raise AssertionError("an exported file is copied")


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory, runtime_folder: Path) -> Path:
    return web_folder(tmp_path_factory.mktemp("rooms"), runtime_folder, "segmentation")


def scripts(page: sync.Page) -> None:
    """Load the scripts of the page on an empty one."""
    given = {"model": {}, "runtime": "", "wasm": "", "network": ""}
    text = built.page(ENGINE, given)
    page.goto("about:blank")
    page.set_content(text)


@pytest.mark.parametrize("preprocessing", PREPROCESSINGS, ids=lambda p: p.fit)
@pytest.mark.parametrize("size", [(40, 50), (301, 200), (65, 64)])
def test_view_is_that_of_the_predictor_within_one_grey_level(
    page: sync.Page, preprocessing: Preprocessing, size: tuple[int, int], complaints: list[str]
) -> None:
    scripts(page)
    image = drawn(*size)
    rgba = np.concatenate([image, np.full((*size, 1), 255, np.uint8)], axis=2)
    for resolution in (32, 64, 96):
        expected = preprocessing.normalise(preprocessing.view(image, resolution))
        view = page.evaluate(
            """([data, height, width, preprocessing, resolution]) => {
              const image = { data: Uint8ClampedArray.from(data), height, width };
              const view = view_of(image, preprocessing, resolution);
              return { ...view, data: [...view.data] };
            }""",
            [rgba.ravel().tolist(), *size, plain(preprocessing), resolution],
        )
        assert (view["height"], view["width"]) == expected.shape[1:]
        computed = np.array(view["data"]).reshape(expected.shape)
        std = np.array(preprocessing.std)[:, None, None]
        levels = np.abs(computed - expected.numpy()) * std * 255
        assert levels.max() < 1.01
        assert levels.mean() < 0.1
    complaints.clear()  # An empty page has no network to open.


def test_label_map_is_that_of_the_predictor(page: sync.Page, complaints: list[str]) -> None:
    scripts(page)
    logits = torch.randn(5, 7, 9, generator=torch.Generator().manual_seed(0))
    for size in ((40, 50), (7, 9), (5, 6)):
        values = page.evaluate(
            """([logits, height, width]) =>
              [...label_map(Float32Array.from(logits), [5, 7, 9], { height, width }).values]""",
            [logits.ravel().tolist(), *size],
        )
        expected = predict_labels(logits, size).numpy()
        assert (np.array(values).reshape(size) == expected).mean() > 0.999
    complaints.clear()


def shown_labels(page: sync.Page, place: int = 0) -> Any:
    labels = page.evaluate("place => [...shown[place].labels.values]", place)
    return np.array(labels, np.uint8)


def test_folder_runs_the_network_in_the_browser_and_follows_the_slider(
    page: sync.Page, segmenter: Path
) -> None:
    predictor = Predictor.open(segmenter / "network.onnx")
    image = drawn(60, 80)
    with served(segmenter) as address:
        page.goto(address)
        sync.expect(page.locator("#about")).to_contain_text(
            "run by onnxruntime-web in this browser"
        )
        sync.expect(page.locator("#name")).to_have_text("small net")
        choose(page, encoded(image=image))
        for place, resolution in ((2, 64), (0, 32), (1, 48)):
            page.get_by_role("slider", name="Resolution").fill(str(place))
            answered(page, resolution)
            expected = predictor.predict(image, resolution).label_map
            assert expected is not None
            assert (shown_labels(page) == expected.ravel()).mean() > 0.99
        stages = page.locator("#stages").text_content() or ""
        assert re.fullmatch(r"view [\d.]+ ms . network [\d.]+ ms . label map [\d.]+ ms", stages)


def test_two_resolutions_the_sample_and_the_camera_work_in_the_browser(
    page: sync.Page, segmenter: Path
) -> None:
    with served(segmenter) as address:
        page.goto(address)
        page.get_by_role("button", name="Sample").click()
        answered(page, 64)
        compared(page, 32)
        share = (shown_labels(page) != shown_labels(page, 1)).mean()
        assert page.locator("#share").text_content() == f"{100 * share:.1f} %"
        page.get_by_role("button", name="Camera").click()
        sync.expect(page.locator("#caption")).to_contain_text("camera")
        page.get_by_role("button", name="Camera").click()
        sync.expect(page.locator("body")).not_to_have_class("busy")


def test_budget_is_kept_by_what_was_measured_in_the_browser(
    page: sync.Page, segmenter: Path
) -> None:
    with served(segmenter) as address:
        page.goto(address)
        choose(page, encoded())
        answered(page, 64)
        page.get_by_label("Budget in milliseconds").fill("0.0001")
        page.get_by_label("Choose it for a budget of").focus()
        answered(page, 32)
        sync.expect(page.locator("#note")).to_contain_text("was not kept")
        page.get_by_label("Budget in milliseconds").fill("1000000")
        page.get_by_label("Choose it for a budget of").focus()
        answered(page, 64)
        sync.expect(page.locator("#note")).to_be_hidden()


def test_classes_are_those_of_the_predictor(
    page: sync.Page, tmp_path: Path, runtime_folder: Path
) -> None:
    folder = web_folder(tmp_path, runtime_folder, "classification")
    with served(folder) as address:
        page.goto(address)
        choose(page, encoded())
        answered(page, 64)
        top = Predictor.open(folder / "network.onnx").predict(drawn(), 64).top(len(CLASSES))
        assert page.locator("#classes .name").all_text_contents() == [name for name, _ in top]
        shares = [float(text.split()[0]) for text in page.locator(".value").all_text_contents()]
        np.testing.assert_allclose(shares, [100 * share for _, share in top], atol=1)


def test_file_of_8_bits_runs_in_the_browser_and_the_runtime_says_nothing(
    page: sync.Page, tmp_path: Path, runtime_folder: Path
) -> None:
    exported, clouds = tmp_path / "net.onnx", tmp_path / "clouds"
    clouds.mkdir()
    integers(small_integers(), write_clouds(clouds), exported)
    folder = export_web(
        exported, tmp_path / "web", write=no_write, runtime_folder=runtime_folder
    ).folder
    predictor = Predictor.open(folder / "network.onnx")
    with served(folder) as address:
        page.goto(address)
        choose(page, encoded())
        for place, resolution in ((2, 64), (0, 32)):
            page.get_by_role("slider", name="Resolution").fill(str(place))
            answered(page, resolution)
            (name, share), *_ = predictor.predict(drawn(), resolution).top(1)
            assert page.locator("#classes .best .name").text_content() == name
            shown = page.locator("#classes .best .value").text_content() or ""
            assert float(shown.split()[0]) == pytest.approx(100 * share, abs=3)


def test_file_opened_without_a_server_says_how_to_serve_it(
    page: sync.Page, segmenter: Path, complaints: list[str]
) -> None:
    page.goto((segmenter / "index.html").as_uri())
    sync.expect(page.get_by_role("alert")).to_contain_text("python -m http.server")
    complaints.clear()  # The address of the page itself is none of a server.


def test_missing_network_is_told_and_can_be_tried_again(
    page: sync.Page, segmenter: Path, complaints: list[str]
) -> None:
    page.route("**/network.onnx", lambda route: route.abort())
    with served(segmenter) as address:
        page.goto(address)
        sync.expect(page.get_by_role("alert")).to_contain_text("The network cannot be loaded")
        page.unroute("**/network.onnx")
        page.get_by_role("button", name="Try again").click()
        sync.expect(page.locator("#about")).to_contain_text("segmenter")
    complaints.clear()  # Chromium's own line


def test_times_of_the_page_are_tabulated_for_each_resolution(
    page: sync.Page, segmenter: Path
) -> None:
    with served(segmenter) as address:
        page.goto(address)
        sync.expect(page.locator("#about")).to_contain_text("segmenter")
        times = web_latency.measure(page, 2)
        text = web_latency.environment(page, "150")
    assert list(times) == [64, 32]
    for whole, *stages in times.values():
        assert len(stages) == len(web_latency.STAGES)
        assert all(0 <= stage <= whole for stage in stages)
    assert "with SIMD, 1 thread, in a worker" in text
    rows = web_latency.table({"small": times}).splitlines()
    assert [row.split(" | ")[0] for row in rows[2:]] == ["| small, 64", "| small, 32"]


def test_medians_are_those_of_each_column() -> None:
    assert web_latency.medians([[1.0, 9.0], [3.0, 7.0], [2.0, 8.0]]) == [2.0, 8.0]
