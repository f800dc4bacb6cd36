"""Facts about the HTTP service: what it answers, what it refuses, and that it lives on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pictures
from starlette.testclient import TestClient

from rsseg.images.photo import Photo
from rsseg.runtime.predictor import Predictor
from rsseg.runtime.serve.app import make_app
from rsseg.runtime.serve.body import Limits
from rsseg.runtime.serve.request import allowed_resolutions
from rsseg.runtime.serve.service import Service
from rsseg.segmentation.label_files import read_label_values
from rsseg.segmentation.palette import overlay
from tests.helpers.hostile import Edit, attempts, damaged, edits
from tests.helpers.small_checkpoint import CLASSES, write_checkpoint
from tests.helpers.small_exported import description
from tests.helpers.small_service import FakeExecutor, drawn, encoded, fake_service
from tests.runtime.serve.test_body import animation
from tests.segmentation.test_hostile_labels import png

PNG = {"Content-Type": "image/png"}
BAD = (400, 408, 413, 415, 422)


def client_of(path: Path, **options: Any) -> Iterator[TestClient]:
    with TestClient(make_app(Service(Predictor.open(path), budget_ms=1e5, **options))) as client:
        yield client


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("cls") / "last.pt")


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("rooms") / "last.pt", "segmentation")


@pytest.fixture(scope="module")
def classes(classifier: Path) -> Iterator[TestClient]:
    yield from client_of(classifier)


@pytest.fixture(scope="module")
def labels(segmenter: Path) -> Iterator[TestClient]:
    yield from client_of(segmenter, limits=Limits(body_mb=0.1, megapixels=0.1))


def test_classes_are_those_of_the_predictor(classes: TestClient, classifier: Path) -> None:
    predictor = Predictor.open(classifier)
    for resolution in (64, 48, 32):
        told = classes.post(f"/predict?resolution={resolution}", content=encoded(), headers=PNG)
        assert told.status_code == 200
        expected = predictor.predict(drawn(), resolution).top(5)
        answer = told.json()
        assert [entry["class"] for entry in answer["classes"]] == [name for name, _ in expected]
        shares = [entry["probability"] for entry in answer["classes"]]
        np.testing.assert_allclose(shares, [share for _, share in expected], atol=1e-6)
        assert (answer["resolution"], answer["chosen_by"]) == (resolution, "request")
        assert told.headers["X-Resolution"] == str(resolution)
        assert 0 < answer["milliseconds"] <= answer["total_ms"]
        stages = answer["stages"]
        assert list(stages) == ["decode", "view", "network", "answer", "encode"]
        assert 0 < sum(stages.values()) <= answer["total_ms"] + 0.1
        assert told.headers["Server-Timing"] == ", ".join(
            f"{name};dur={value:g}" for name, value in stages.items()
        )
    assert len(classes.post("/predict?top=1", content=encoded()).json()["classes"]) == 1


def test_answers_and_refusals_tell_the_network_that_model_describes(
    classes: TestClient, labels: TestClient, classifier: Path
) -> None:
    told = classes.get("/model").json()["id"]
    assert classes.post("/predict", content=encoded()).headers["X-Model"] == told
    assert classes.post("/predict?top=0", content=encoded()).headers["X-Model"] == told
    assert labels.get("/model").json()["id"] != told
    for options, same in (({}, True), ({"accuracies": ("top1", {64: 0.5})}, False)):
        for again in client_of(classifier, **options):  # started again
            assert (again.get("/model").json()["id"] == told) == same


def test_label_map_is_that_of_the_predictor_in_its_colours(
    labels: TestClient, segmenter: Path, tmp_path: Path
) -> None:
    expected = Predictor.open(segmenter).predict(drawn(), 32).label_map
    assert expected is not None
    told = labels.post("/predict?resolution=32", content=encoded(), headers=PNG)
    assert told.headers["Content-Type"] == "image/png"
    assert told.headers["X-Resolution"] == "32"
    assert float(told.headers["X-Milliseconds"]) > 0
    path = tmp_path / "labels.png"
    path.write_bytes(told.content)
    np.testing.assert_array_equal(read_label_values(path), expected)
    laid = labels.post("/predict?resolution=32&format=overlay", content=encoded(), headers=PNG)
    np.testing.assert_array_equal(
        np.asarray(Pictures.open(BytesIO(laid.content))), overlay(drawn(), expected, len(CLASSES))
    )
    shares = labels.post("/predict?resolution=32&format=json", content=encoded()).json()
    assert (shares["height"], shares["width"]) == expected.shape
    for entry in shares["classes"]:
        assert entry["share"] == pytest.approx((expected == entry["label"]).mean(), abs=1e-6)
        assert entry["class"] == CLASSES[entry["label"]]


def test_photo_is_decoded_as_large_as_its_view_needs_and_answered_at_its_own_size(
    segmenter: Path,
) -> None:
    content = encoded("JPEG", drawn(200, 301))
    for full in (False, True):
        opened = Predictor.open(segmenter, full_decode=full)
        decoded = opened.decode(Photo(content), 32)
        assert decoded.pixels.shape == ((200, 301, 3) if full else (100, 151, 3))
        expected = opened.predict(Photo(content), 32).label_map
        assert expected is not None
        with TestClient(make_app(Service(opened, budget_ms=1e5))) as client:
            told = client.post("/predict?resolution=32", content=content)
            laid = client.post("/predict?resolution=32&format=overlay", content=content)
        np.testing.assert_array_equal(np.asarray(Pictures.open(BytesIO(told.content))), expected)
        whole = np.asarray(Pictures.open(BytesIO(content)))
        mixed = overlay(whole, expected, len(CLASSES))
        np.testing.assert_array_equal(np.asarray(Pictures.open(BytesIO(laid.content))), mixed)


def test_without_a_wish_the_largest_resolution_answers(classes: TestClient) -> None:
    told = classes.post("/predict", content=encoded("JPEG"), headers={"Content-Type": "image/jpeg"})
    assert (told.json()["resolution"], told.json()["chosen_by"]) == (64, "largest")


def test_budget_of_a_request_lowers_its_resolution(classes: TestClient) -> None:
    told = classes.post("/predict?budget_ms=0.001", content=encoded()).json()
    assert (told["resolution"], told["chosen_by"], told["budget_ms"]) == (32, "budget", 0.001)


def test_model_is_described(classes: TestClient, labels: TestClient) -> None:
    told = classes.get("/model").json()
    assert (told["task"], told["classes"]) == ("classification", CLASSES)
    assert (told["resolutions"], told["allowed"]) == ([64, 32], [32, 48, 64])
    assert told["preprocessing"]["fit"] == "crop"
    assert "colours" not in told
    told = labels.get("/model").json()
    assert told["formats"] == ["png", "overlay", "json"]
    assert len(told["colours"]) == len(CLASSES) + 1
    assert told["limits"] == {"body_mb": 0.1, "megapixels": 0.1}


def test_sizes_that_the_network_cannot_take_are_not_offered() -> None:
    def refuse(resolution: int) -> None:
        if resolution % 32:
            raise ValueError("not this one")

    for sides, allowed in (((96, 40, 32), (32, 40, 64, 96)), ((32,), (32,))):
        predictor = Predictor(FakeExecutor(refuse, sides), description(resolutions=sides))
        assert allowed_resolutions(predictor) == allowed


def test_health_and_metrics_tell_what_happens(classifier: Path) -> None:
    for client in client_of(classifier):
        assert client.get("/health").json()["ready"] is True
        client.post("/predict?resolution=32", content=encoded(), headers=PNG)
        client.post("/predict", content=b"", headers=PNG)
        told = client.get("/metrics").text
        assert 'rsseg_requests_total{resolution="32",status="200"} 1.0' in told
        assert 'rsseg_requests_total{resolution="none",status="400"} 1.0' in told
        assert 'rsseg_request_seconds_count{resolution="32"} 1.0' in told
        assert "rsseg_queue_length 0.0" in told
        assert "rsseg_resolution_ceiling 64.0" in told
        assert "rsseg_refused_total 0.0" in told


@pytest.mark.parametrize(
    ("content", "kind", "status", "told"),
    [
        (b"", "image/png", 400, "the body has 0 bytes"),
        (b"hello", "image/png", 400, "5 bytes that are not a JPEG"),
        (encoded(), "text/plain", 415, "Content-Type 'text/plain'; expected one of image/jpeg"),
        (png(10_000, 10_000, 8, 2), "image/png", 413, "million pixels"),
        (bytes(200_000), "image/png", 413, "200000 bytes; expected at most 100000"),
        (encoded("JPEG CMYK"), "image/jpeg", 400, "a CMYK image"),
        (animation("WEBP"), "image/webp", 400, "an animation of 3 frames"),
        (encoded("JPEG")[:-200], "image/jpeg", 400, "unreadable image"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_input_is_a_clear_error_and_the_next_image_is_answered(
    labels: TestClient, content: bytes, kind: str, status: int, told: str
) -> None:
    refused = labels.post("/predict", content=content, headers={"Content-Type": kind})
    assert refused.status_code == status
    assert told in refused.json()["error"]
    assert labels.post("/predict", content=encoded(), headers=PNG).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "told"),
    [
        ("GET", "/predict", 405, "GET /predict; expected POST with the image's bytes as the body"),
        ("POST", "/health", 405, "POST /health; expected GET"),
        ("GET", "/nothing", 404, "there is nothing at '/nothing'; expected /, /predict"),
        ("POST", "/predict?resolution=33", 400, "resolution '33'; expected one of 32, 48, 64"),
    ],
)
def test_wrong_address_is_a_clear_error(
    labels: TestClient, method: str, path: str, status: int, told: str
) -> None:
    refused = labels.request(method, path)
    assert refused.status_code == status
    assert told in refused.json()["error"]


def test_page_asks_for_nothing_from_elsewhere(classes: TestClient) -> None:
    page = classes.get("/")
    assert page.headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    for outside in ("http://", "https://", "//cdn", "@import", "url("):
        assert outside not in page.text.replace("http://www.w3.org/2000/svg", "")


def client_of_fake(
    before: Callable[[int], object] | None = None, **options: Any
) -> Iterator[TestClient]:
    app = make_app(fake_service(before, **options))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def test_fault_of_the_service_hides_its_traceback_and_the_service_lives_on() -> None:
    broken = [True]

    def fault(_: int) -> None:
        if broken:
            broken.clear()
            raise RuntimeError("secret")

    for client in client_of_fake(fault):
        refused = client.post("/predict", content=encoded(), headers=PNG)
        assert refused.status_code == 500
        assert "secret" not in refused.text
        assert "a fault of the service" in refused.json()["error"]
        assert client.post("/predict", content=encoded(), headers=PNG).status_code == 200


def test_network_that_cannot_take_the_image_is_the_clients_error() -> None:
    def refuse(resolution: int) -> None:
        raise ValueError(f"the network cannot predict at resolution {resolution}")

    for client in client_of_fake(refuse):
        refused = client.post("/predict", content=encoded(), headers=PNG)
        assert refused.status_code == 422
        reason = "the network cannot predict at resolution 64"
        assert refused.json() == {"error": f"'small': {reason}"}


def test_overload_lowers_the_resolution_and_then_refuses_with_a_time_to_come_again() -> None:
    go, begun = threading.Event(), threading.Event()

    def wait(_: int) -> None:
        begun.set()
        assert go.wait(20)

    answers: list[Any] = []
    for client in client_of_fake(wait, queue=8, budget_ms=100.0):

        def send(query: str = "") -> None:
            answers.append(client.post(f"/predict{query}", content=encoded(), headers=PNG))  # noqa: B023

        first = threading.Thread(target=send)
        first.start()
        assert begun.wait(20)
        # One is computed. At 32 an image takes 10 ms: of those that come now 8 are in time.
        others = [threading.Thread(target=send, args=["?resolution=64"]) for _ in range(8)]
        for thread in others:
            thread.start()
            while client.get("/health").json()["waiting"] <= others.index(thread):
                assert thread.is_alive()
        refused = client.post("/predict", content=encoded(), headers=PNG)
        assert refused.status_code == 429
        assert int(refused.headers["Retry-After"]) >= 1
        assert "too late even at resolution 32" in refused.json()["error"]
        go.set()
        for thread in [first, *others]:
            thread.join()
        told = client.get("/metrics").text
        assert "rsseg_refused_total 1.0" in told
    told_by = [answer.json() for answer in answers if answer.status_code == 200]
    assert len(told_by) == 9
    assert {(a["resolution"], a["chosen_by"]) for a in told_by} >= {(64, "largest"), (32, "load")}


FORMS = ("JPEG", "PNG", "WEBP", "BMP")


@pytest.fixture(scope="module")
def fake() -> Iterator[TestClient]:
    yield from client_of_fake()


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("form", FORMS)
@attempts(40)
@given(changes=edits())
def test_damaged_image_is_never_a_fault_of_the_service(
    fake: TestClient, form: str, changes: list[Edit]
) -> None:
    told = fake.post("/predict", content=damaged(encoded(form), changes))
    assert told.status_code in (200, *BAD)
    assert told.status_code == 200 or told.json()["error"]


@attempts(60)
@given(
    content=st.binary(max_size=200),
    kind=st.sampled_from(["image/png", "image/jpeg", "text/html", "x", ""]),
    query=st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), max_size=20),
)
def test_random_requests_are_never_a_fault_of_the_service(
    fake: TestClient, content: bytes, kind: str, query: str
) -> None:
    told = fake.post(
        "/predict", params={query: query}, content=content, headers={"Content-Type": kind}
    )
    assert told.status_code in BAD
    assert told.json()["error"]
