"""Facts about rsseg/runtime/predict/classify.py, and `rsseg predict` with a classifier."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pictures
from torch import Tensor, nn

from rsseg.classifiers.build import build_classifier
from rsseg.cli import main as cli
from rsseg.common.checkpoint import write_checkpoint
from rsseg.images import photo
from rsseg.images.preprocessing import Image, Preprocessing
from rsseg.load import load_checkpoint
from rsseg.runtime.description import Description
from rsseg.runtime.executors import TorchExecutor
from rsseg.runtime.predict.classify import Answer, as_rows, classify_files, table
from rsseg.runtime.predictor import Predictor
from rsseg.runtime.stages import Stages
from rsseg.switchable.net import SwitchableNet
from rsseg.switchable.resolutions import Resolutions
from tests.helpers.small_networks import randomise

CLASSES = ["church", "tench", "golf ball"]
SETTINGS = {"fit": "crop", "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.2, 0.3]}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet-18 of three classes for 64 and 32 pixels, as a run writes it."""
    torch.manual_seed(0)
    net = SwitchableNet(build_classifier(name="resnet18", classes=3), [64, 32])
    randomise(net)
    metadata = {
        "task": "classification",
        "model": {"name": "resnet18", "classes": 3},
        "resolutions": [64, 32],
        "batchnorm": "private",
        "preprocessing": SETTINGS,
        "classes": CLASSES,
    }
    path = tmp_path_factory.mktemp("run") / "last.pt"
    write_checkpoint(path, {"metadata": metadata, "net": net.state_dict()})
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with a wide image `a` and a high one `b`."""
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for name, size in (("a", (40, 60, 3)), ("b", (90, 50, 3))):
        pixels = rng.integers(0, 256, size, dtype=np.uint8)
        Pictures.fromarray(pixels).save(tmp_path / "images" / f"{name}.png")
    return tmp_path / "images"


def predict(checkpoint: Path, *arguments: object) -> int:
    return cli.main(["predict", str(checkpoint), *map(str, arguments)])


class Fixed(nn.Module):
    """A network that gives the same logits for every image."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.logits = nn.Parameter(torch.tensor([logits], dtype=torch.float32))

    def forward(self, images: Tensor) -> Tensor:
        self.norm(images)
        return self.logits.expand(len(images), -1)


def classifier_of(net: SwitchableNet) -> Predictor:
    description = Description(
        task="classification",
        name="the classifier",
        classes=tuple(CLASSES),
        resolutions=Resolutions((64, 32)),
        preprocessing=Preprocessing(),
    )
    return Predictor(TorchExecutor(net), description)


def fixed(*logits: float) -> Predictor:
    return classifier_of(SwitchableNet(Fixed(*logits), [64, 32]).eval())


def test_probabilities_are_those_of_the_network_on_the_view_by_hand(
    checkpoint: Path, images: Path
) -> None:
    net, preprocessing, _ = load_checkpoint(checkpoint)
    paths = sorted(images.iterdir())
    answers = classify_files(Predictor.open(checkpoint), paths, resolutions=[64, 48, 32], top=3)
    assert [(a.image.name, a.resolution) for a in answers] == [
        (name, side) for name in ("a.png", "b.png") for side in (64, 48, 32)
    ]
    for answer in answers:
        with Pictures.open(answer.image) as picture:
            view = preprocessing.view(np.asarray(picture), answer.resolution)
        mean, std = (torch.tensor(SETTINGS[key]).view(3, 1, 1) for key in ("mean", "std"))
        with torch.no_grad():
            logits = net.predict(((view / 255 - mean) / std)[None], answer.resolution)[0]
        expected = logits.exp() / logits.exp().sum()
        order = sorted(range(3), key=lambda k: -float(logits[k]))
        assert answer.classes == tuple(CLASSES[k] for k in order)
        assert answer.probabilities == pytest.approx(expected[order].tolist(), abs=1e-5)
        stages = answer.stages
        assert 0 < stages.network < stages.prediction < stages.decode + stages.prediction


def test_equal_classes_keep_their_order_and_top_is_cut_to_the_classes(images: Path) -> None:
    paths = sorted(images.iterdir())[:1]
    (answer,) = classify_files(fixed(1, 2, 2), paths, resolutions=[32], top=9)
    assert answer.classes == ("tench", "golf ball", "church")
    (answer,) = classify_files(fixed(1, 2, 2), paths, resolutions=[32], top=1)
    assert answer.classes == ("tench",)


def test_each_image_is_read_once(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def reading(opened: Any, name: str, **_: Any) -> Image:
        read.append(Path(name).name)
        return np.zeros((40, 40, 3), np.uint8)

    monkeypatch.setattr(photo, "read_opened", reading)
    classify_files(fixed(1, 2, 3), sorted(images.iterdir()), resolutions=[64, 32])
    assert read == ["a.png", "b.png"]


def test_network_is_timed_once_for_each_size(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    forward = Fixed.forward

    def counting(self: Fixed, images: Tensor) -> Tensor:
        calls.append(images.shape[-1])
        return forward(self, images)

    monkeypatch.setattr(Fixed, "forward", counting)
    classify_files(fixed(1, 2, 3), sorted(images.iterdir()), resolutions=[64, 32])
    # A small image that warms up; then one answer, five passes that are timed, and one answer for
    # the second image.
    assert (calls.count(64), calls.count(32)) == (1 + 1 + 5 + 1, 1 + 5 + 1)


def test_table_and_rows_name_every_class() -> None:
    first = Stages(decode=3, view=2, network=10, answer=0.34)
    answers = [
        Answer(Path("x/a.png"), 64, ("tench", "church"), (0.75, 0.25), first),
        Answer(Path("x/a.png"), 32, ("golf ball", "tench"), (0.9, 0.1), Stages(network=2.5)),
    ]
    assert table(answers).splitlines() == [
        "image  resolution  total ms  decode  view  network  classes  top 1             top 2",
        "a.png          64      15.3     3.0   2.0     10.0      0.3  tench 75.0 %      "
        "church 25.0 %",
        "a.png          32       2.5     0.0   0.0      2.5      0.0  golf ball 90.0 %  "
        "tench 10.0 %",
    ]
    assert as_rows(answers)[1] == {
        **{"image": "x/a.png", "resolution": 64, "rank": 2, "class": "church"},
        **{"probability": 0.25, "milliseconds": 12.34, "network_ms": 10.0},
        **{"decode_ms": 3, "view_ms": 2, "classes_ms": 0.34, "total_ms": 15.34},
    }


def test_verb_prints_the_classes_and_writes_nothing_unasked(
    checkpoint: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(checkpoint, images) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [
        [f"{name}.png", side] for name in "ab" for side in ("64", "32")
    ]
    assert all(line.count(" %") == 3 for line in lines[1:])
    assert all(any(name in line for name in CLASSES) for line in lines[1:])
    assert sorted(path.name for path in images.parent.iterdir()) == ["images"]


def test_verb_writes_predictions_and_refuses_to_overwrite(
    checkpoint: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "out"
    options = (images / "a.png", "--out", out, "--resolutions", 48, "--unseen", "nearest")
    assert predict(checkpoint, *options, "--top", 2) == 0
    assert f"predictions: {out / 'predictions.csv'}" in capsys.readouterr().out
    with (out / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    header = ["image", "resolution", "rank", "class", "probability"]
    times = ["milliseconds", "network_ms", "decode_ms", "view_ms", "classes_ms", "total_ms"]
    assert list(rows[0]) == [*header, *times]
    assert 0 < float(rows[0]["network_ms"]) < float(rows[0]["milliseconds"])
    assert [(row["image"], row["resolution"], row["rank"]) for row in rows] == [
        (str(images / "a.png"), "48", rank) for rank in ("1", "2")
    ]
    assert float(rows[0]["probability"]) >= float(rows[1]["probability"])
    assert predict(checkpoint, *options) == 2
    assert "predictions.csv exists; choose another name, or give --over" in capsys.readouterr().err
    assert predict(checkpoint, *options, "--overwrite") == 0


@pytest.mark.parametrize(
    "option",
    [
        *(["--labels", "x"], ["--label-offset", "0"], ["--void-value", "0"]),
        *(["--compare", "x.pt"], ["--compare-name", "x"], ["--name", "x"]),
    ],
)
def test_options_of_segmenters_are_refused(
    checkpoint: Path, images: Path, option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(checkpoint, images, *option) == 2
    complaint = capsys.readouterr().err
    assert f"is a classifier, which takes no {option[0]}; leave it out" in complaint


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--top", "0"], "--top must be at least 1, got 0"),
        (["--resolutions", "32", "64"], "from large to small"),
        (["--resolutions", "32", "32"], "resolution 32 is given twice"),
        (["--device", "toaster"], "device 'toaster' cannot be used here"),
        (["--out", __file__], "is a file, expected a folder"),
    ],
)
def test_what_is_wrong_is_one_line_and_status_2(
    checkpoint: Path,
    images: Path,
    options: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert predict(checkpoint, images, *options) == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith("rsseg predict: ")
    assert message in complaint


def test_foreign_file_is_found_before_the_first_image_is_classified(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (images / "z.png").write_text("no image")
    calls: list[Image] = []
    classifier = fixed(1, 2, 3)
    monkeypatch.setattr(classifier, "predict", lambda image, _: calls.append(image))
    with pytest.raises(ValueError, match=r"z\.png: unreadable image"):
        classify_files(classifier, sorted(images.iterdir()), resolutions=[64])
    assert not calls


def test_image_that_is_cut_off_is_named(images: Path) -> None:
    whole = (images / "a.png").read_bytes()
    (images / "a.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"a\.png: unreadable image"):
        classify_files(fixed(1, 2, 3), [images / "a.png"], resolutions=[64])


def test_logits_that_do_not_fit_are_refused() -> None:
    image = np.zeros((40, 40, 3), np.uint8)
    with pytest.raises(ValueError, match=r"shape \(1, 2\), expected \(1, 3\) for 3 named"):
        fixed(1, 2).predict(image, 64)
    with pytest.raises(ValueError, match="logits that are not finite"):
        fixed(1, 2, float("nan")).predict(image, 64)


def test_view_that_the_network_cannot_take_is_named() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3 * 64 * 64, 3))
    classifier = classifier_of(SwitchableNet(network, [64, 32]).eval())
    with pytest.raises(ValueError, match="cannot predict at resolution 32, with views of 32x32"):
        classifier.predict(np.zeros((40, 40, 3), np.uint8), 32)
