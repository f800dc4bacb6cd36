"""Facts about rsseg/runtime/predictor.py: its answers are those of the network by hand."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image as Pictures
from torch import nn

import rsseg.runtime
from rsseg.images.photo import Photo
from rsseg.images.preprocessing import Image
from rsseg.images.reading import as_rgb, read_image
from rsseg.load import load_checkpoint
from rsseg.runtime import predictor
from rsseg.runtime.budget import measure as latency
from rsseg.runtime.budget.budget import Budget
from rsseg.runtime.executors import TorchExecutor
from rsseg.runtime.predictor import Predictor
from rsseg.runtime.protocol import Logits, Views
from rsseg.switchable.net import SwitchableNet
from tests.helpers.small_checkpoint import CLASSES, write_checkpoint
from tests.helpers.small_exported import description, small_net, write_onnx
from tests.helpers.small_networks import randomise
from tests.helpers.small_service import encoded


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("cls") / "last.pt")


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("rooms") / "last.pt", "segmentation")


def drawn(height: int = 50, width: int = 70) -> Image:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


class FakeExecutor:
    """Gives the same logits for every view, after a time that a fake clock shows."""

    name = "fake"
    resolutions = (64, 32)
    device = "cpu"

    def __init__(self, *logits: float, took: dict[int, float] | None = None) -> None:
        self.row = np.array([logits], np.float32)
        self.took = took or {64: 40.0, 32: 10.0}
        self.load = 1.0
        self.now = 0.0

    def logits(self, images: Views, resolution: int) -> Logits:
        self.now += self.load * self.took.get(resolution, 1.0) / 1000
        return self.row


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeExecutor:
    executor = FakeExecutor(1.0, 3.0, 2.0)
    clock = SimpleNamespace(perf_counter=lambda: executor.now)
    monkeypatch.setattr(predictor, "time", clock)
    monkeypatch.setattr(latency, "time", clock)
    return executor


def by_hand(path: Path, image: Image, resolution: int) -> torch.Tensor:
    """Compute the logits of an image step by step, shape (1, K, ...)."""
    net, preprocessing, _ = load_checkpoint(path)
    batch = preprocessing.normalise(preprocessing.view(image, resolution)[None])
    with torch.inference_mode():
        logits: torch.Tensor = net.specialize(resolution)(batch)
    return logits


def test_classes_are_those_of_the_network_to_the_bit(classifier: Path) -> None:
    opened, image = Predictor.open(classifier), drawn()
    for resolution in (64, 32, 48, 80):
        probabilities = by_hand(classifier, image, resolution)[0].softmax(0)
        prediction = opened.predict(image, resolution)
        assert torch.equal(torch.from_numpy(prediction.probabilities), probabilities)
        assert prediction.label == int(probabilities.argmax())
        assert (prediction.resolution, prediction.ran) == (resolution, (resolution,))
        assert prediction.label_map is None
    assert (opened.task, opened.name, opened.classes) == (
        "classification",
        classifier.parent.name,
        tuple(CLASSES),
    )


def test_label_maps_are_those_of_the_network_to_the_bit(segmenter: Path) -> None:
    opened, image = Predictor.open(segmenter), drawn(50, 70)
    for resolution in (64, 32, 96):
        prediction = opened.predict(image, resolution)
        logits = by_hand(segmenter, image, resolution)
        resized = F.interpolate(logits, size=(50, 70), mode="bilinear", align_corners=False)
        assert prediction.label_map is not None
        assert prediction.label_map.dtype == np.uint8
        assert np.array_equal(prediction.label_map, resized[0].argmax(0).numpy())
        assert prediction.logits.shape[0] == len(CLASSES)
    with pytest.raises(ValueError, match="a segmenter has no probabilities"):
        prediction.top(1)


def test_rule_for_untrained_resolutions_is_the_one_given(classifier: Path) -> None:
    net, image = load_checkpoint(classifier)[0], drawn()
    for rule in ("interpolate", "nearest", "extrapolate"):
        net.unseen = rule
        expected = Predictor(TorchExecutor(net), Predictor.open(classifier).description)
        given = Predictor.open(classifier, unseen=rule)
        assert given.description.unseen == rule
        assert np.array_equal(given.predict(image, 80).logits, expected.predict(image, 80).logits)
    with pytest.raises(ValueError, match="unknown rule 'guess' for unseen resolutions"):
        Predictor.open(classifier, unseen="guess")


@pytest.mark.parametrize("executor", ["onnxruntime", "openvino"])
def test_exported_file_has_no_other_rule_than_its_own(executor: str, tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "all.onnx", small_net(), description())
    assert Predictor.open(path, executor, unseen="interpolate").resolutions == (64, 32)
    with pytest.raises(ValueError, match=r"by the rule 'interpolate' .*not by 'nearest'"):
        Predictor.open(path, executor, unseen="nearest")


def test_set_of_a_resolution_that_was_trained_twice_is_the_first(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    net = SwitchableNet(network, [64, 64, 32])
    randomise(net)
    one = Predictor(TorchExecutor(net), description(resolutions=(64, 64, 32)))
    assert one.resolutions == (64, 32)
    view = one.preprocessing.normalise(one.preprocessing.view(drawn(), 64)[None])
    with torch.inference_mode():
        first, second = (net.eval().predict(view, name)[0].numpy() for name in ("64", "64_2"))
    assert np.array_equal(one.predict(drawn(), 64).logits, first)
    assert not np.array_equal(first, second)


def test_predictor_is_named_by_the_room() -> None:
    assert rsseg.runtime.Predictor is Predictor
    with pytest.raises(AttributeError, match="has no attribute 'Oracle'"):
        rsseg.runtime.__getattr__("Oracle")


@pytest.mark.parametrize("executor", ["onnxruntime", "openvino"])
def test_exported_file_says_how_it_is_used(executor: str, tmp_path: Path) -> None:
    told = description(preprocessing={"fit": "crop", "mean": [0.1, 0.2, 0.3]})
    path = write_onnx(tmp_path / "all.onnx", small_net(), told)
    opened = Predictor.open(path, executor, threads=1)
    view = told.preprocessing.normalise(told.preprocessing.view(drawn(), 32)[None])
    with torch.no_grad():
        expected = small_net().predict(view)[0].numpy()
    assert (opened.name, opened.resolutions) == ("small", (64, 32))
    np.testing.assert_allclose(opened.predict(drawn(), 32).logits, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGBA", "CMYK", "YCbCr", "HSV", "I;16"]
)
def test_pictures_of_any_mode_are_read_as_files_are(
    mode: str, tmp_path: Path, fake: FakeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = Pictures.fromarray(drawn()[..., 0]) if mode == "I;16" else Pictures.fromarray(drawn())
    picture = picture.convert("L").convert("I;16") if mode == "I;16" else picture.convert(mode)
    path = tmp_path / "picture.tiff"
    if mode in ("HSV", "PA"):  # No file holds these.
        expected = np.asarray(picture.convert("RGBA" if mode == "PA" else "RGB"))[..., :3]
    else:
        picture.save(path)
        expected = read_image(path)
    assert np.array_equal(as_rgb(picture), expected)
    assert Predictor(fake, description()).predict(picture, 32).label == 1


def test_picture_is_turned_as_its_camera_noted() -> None:
    picture = Pictures.fromarray(drawn())
    picture.getexif()[0x0112] = 6
    assert np.array_equal(as_rgb(picture), np.rot90(drawn(), -1))


def jpeg(image: Image) -> bytes:
    stream = BytesIO()
    Pictures.fromarray(image).save(stream, "JPEG", quality=95)
    return stream.getvalue()


def test_photo_is_answered_at_its_own_size_from_the_pixels_that_its_view_needs(
    segmenter: Path,
) -> None:
    content = jpeg(drawn(301, 403))
    for full in (False, True):
        opened, photo = Predictor.open(segmenter, full_decode=full), Photo(content)
        decoded = opened.decode(photo, 32)
        assert decoded.pixels.shape == ((301, 403, 3) if full else (76, 101, 3))
        prediction = opened.predict(photo, 32)
        view = opened.preprocessing.view(decoded.pixels, 32, decoded.extent)
        net, _, _ = load_checkpoint(segmenter)
        with torch.inference_mode():
            logits = net.specialize(32)(opened.preprocessing.normalise(view[None]))
        resized = F.interpolate(logits, size=(301, 403), mode="bilinear", align_corners=False)
        assert prediction.label_map is not None
        assert np.array_equal(prediction.label_map, resized[0].argmax(0).numpy())
        assert prediction.stages.decode == decoded.milliseconds > 0
    whole = opened.predict(read_rgb(content), 32)
    assert np.array_equal(whole.logits, prediction.logits)


def read_rgb(content: bytes) -> Image:
    return as_rgb(Pictures.open(BytesIO(content)))


def test_decoding_of_a_photo_counts_for_its_budget(fake: FakeExecutor) -> None:
    idle, decode = {64: 40.0, 32: 10.0}, {64: 15.0, 32: 5.0}
    opened = Predictor(fake, description(), make_budget=lambda _: Budget(idle, decode=decode))
    assert opened.predict(drawn(), budget_ms=50).resolution == 64
    assert opened.predict(Photo(jpeg(drawn())), budget_ms=50).resolution == 32
    assert opened.predict(Photo(jpeg(drawn())), budget_ms=60).resolution == 64


def test_what_is_no_image_is_refused_by_name(fake: FakeExecutor, tmp_path: Path) -> None:
    opened = Predictor(fake, description())
    wrong: list[tuple[Any, type[Exception], str]] = [
        ("cat.jpg", TypeError, "got str; open files with PIL.Image.open"),
        (b"\xff\xd8", TypeError, "got bytes"),
        (drawn().astype(np.float32), ValueError, "got float32, shape"),
        (drawn()[..., 0], ValueError, r"uint8, shape \(H, W, 3\), got uint8, shape \(50, 70\)"),
        (drawn()[:0], ValueError, r"shape \(0, 70, 3\)"),
        (Pictures.new("F", (4, 4)), ValueError, "unreadable image .*whose black and white"),
        (Pictures.new("1", (20_000, 20_000)), ValueError, "an image of 20000x20000 pixels"),
    ]
    for image, kind, message in wrong:
        with pytest.raises(kind, match=message):
            opened.predict(image)
    Pictures.fromarray(drawn()).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:3000])
    with Pictures.open(tmp_path / "cut.png") as cut, pytest.raises(ValueError, match="unreadable"):
        opened.predict(cut)
    with pytest.raises(ValueError, match="resolution 0 is not a whole number of pixels"):
        opened.predict(drawn(), 0)
    with pytest.raises(ValueError, match="give resolution 32 or budget_ms 5, not both"):
        opened.predict(drawn(), 32, budget_ms=5)


def test_logits_that_are_no_answer_are_refused() -> None:
    for logits, message in (
        ((1.0, 2.0), r"logits of shape \(1, 2\), expected \(1, 3\) for 3 named classes"),
        ((1.0, float("nan"), 2.0), "logits that are not finite"),
    ):
        with pytest.raises(ValueError, match=message):
            Predictor(FakeExecutor(*logits), description()).predict(drawn())
    told = description(task="segmentation")
    with pytest.raises(ValueError, match=r"expected \(1, 3, h, w\)"):
        Predictor(FakeExecutor(1.0, 2.0, 3.0), told).predict(drawn())
    maps = FakeExecutor()
    maps.row = np.zeros((1, 3, 4, 4), np.float32)
    maps.row[0, 1, 2, 2] = np.inf
    labels = Predictor(maps, told).predict(drawn()).label_map
    assert labels is not None
    assert (labels == 1).any()
    maps.row[0, 1, 2, 2] = np.nan
    with pytest.raises(ValueError, match="logits that are not finite"):
        Predictor(maps, told).predict(drawn())


def test_top_names_the_most_probable_classes(fake: FakeExecutor) -> None:
    prediction = Predictor(fake, description()).predict(drawn())
    weights = np.exp([1.0, 3.0, 2.0])
    expected = weights / weights.sum()
    names, probabilities = zip(*prediction.top(2), strict=True)
    assert names == ("tench", "golf ball")
    assert probabilities == pytest.approx(expected[[1, 2]])
    assert prediction.margin == pytest.approx(expected[1] - expected[2])
    assert len(prediction.top(9)) == 3
    with pytest.raises(ValueError, match="at least 1 class"):
        prediction.top(0)


def test_largest_resolution_is_used_where_nothing_is_asked(fake: FakeExecutor) -> None:
    prediction = Predictor(fake, description()).predict(drawn())
    assert (prediction.resolution, prediction.fits, prediction.network_ms) == (64, None, 40.0)


def test_budget_is_kept_under_load_and_the_resolution_returns(fake: FakeExecutor) -> None:
    opened = Predictor(fake, description(), budget_ms=60.0)
    assert opened.measure().idle == {64: pytest.approx(40.0), 32: pytest.approx(10.0)}
    assert opened.predict(drawn()).resolution == 64
    fake.load = 2.0
    seen = [opened.predict(drawn()).resolution for _ in range(40)]
    assert seen[:3] == [64] * 3
    assert set(seen[3:]) == {32}
    fake.load = 9.0
    last = [opened.predict(drawn()) for _ in range(10)][-1]
    assert (last.resolution, last.fits) == (32, False)
    fake.load = 1.0
    assert [opened.predict(drawn()) for _ in range(40)][-1].resolution == 64


def test_budget_of_one_call_is_its_own(fake: FakeExecutor) -> None:
    opened = Predictor(fake, description())
    small = opened.predict(drawn(), budget_ms=15)
    assert (small.resolution, small.fits) == (32, True)
    assert opened.predict(drawn()).resolution == 64
    choice = opened.choose(15)
    assert choice is not None
    assert choice.resolution == 32
    assert opened.choose() is None


def test_measuring_makes_the_budget_before_the_first_image(fake: FakeExecutor) -> None:
    opened = Predictor(fake, description())
    budget = opened.measure()
    measured = fake.now
    assert measured > 0
    assert opened.measure() is budget is opened.measure()
    assert fake.now == measured


def test_budget_is_made_once(fake: FakeExecutor) -> None:
    made: list[Predictor] = []

    def make(one: Predictor) -> Budget:
        made.append(one)
        return Budget({64: 40.0, 32: 10.0})

    opened = Predictor(fake, description(), budget_ms=20.0, make_budget=make)
    assert [opened.predict(drawn()).resolution for _ in range(3)] == [32] * 3
    assert made == [opened]


def test_measuring_for_the_first_budget_is_no_part_of_the_prediction(fake: FakeExecutor) -> None:
    def slowly(_: Predictor) -> Budget:
        fake.now += 9.0
        return Budget({64: 40.0, 32: 10.0})

    made = Predictor(fake, description(), make_budget=slowly)
    first = made.predict(drawn(), budget_ms=100)
    assert first.milliseconds == pytest.approx(40)
    assert made.choose(100) == made.measure().choose(100)
    assert made.measure().choose(100).milliseconds == pytest.approx(40)


def test_wrong_budget_is_refused_before_anything_is_measured(fake: FakeExecutor) -> None:
    with pytest.raises(ValueError, match="budget_ms must be a positive number"):
        Predictor(fake, description(), budget_ms=0)
    with pytest.raises(ValueError, match="budget_ms must be a positive number"):
        Predictor(fake, description()).predict(drawn(), budget_ms=-3)
    assert fake.now == 0


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_images_that_are_predicted_together_get_the_answers_of_each(
    classifier: Path, segmenter: Path, task: str
) -> None:
    opened = Predictor.open(classifier if task == "classification" else segmenter)
    sizes = ((50, 70), (40, 40), (90, 61))
    photos = [encoded("PNG", drawn(*size)) for size in sizes]
    together = opened.predict_together([Photo(content) for content in photos], 32)
    for size, content, prediction in zip(sizes, photos, together, strict=True):
        alone = opened.predict(Photo(content), 32)
        np.testing.assert_allclose(prediction.logits, alone.logits, atol=1e-3)
        assert (prediction.resolution, prediction.ran) == (32, (32,))
        assert prediction.stages.network == together[0].stages.network
        if alone.label_map is not None:
            assert prediction.label_map is not None
            assert prediction.label_map.shape == size
            assert (prediction.label_map != alone.label_map).mean() < 0.01


def test_executor_that_gives_another_number_of_rows_is_a_clear_error(fake: FakeExecutor) -> None:
    predictor = Predictor(fake, description())
    content = encoded()
    with pytest.raises(ValueError, match="expected a row for each of 2 views"):
        predictor.predict_together([Photo(content), Photo(content)], 32)
