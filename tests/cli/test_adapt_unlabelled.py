"""A trained network is adapted on images without labels: what is learnt, and what is not read."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from PIL import Image as Pictures
from torch import Tensor

import train_cls
import train_seg
from classification.task import CLASSIFICATION
from datasets.classification import test_images as open_test_images
from datasets.classification import training_batches as image_batches
from datasets.segmentation import TestSamples, training_batches
from rsseg.common.config import load_config
from rsseg.load import load_checkpoint
from rsseg.losses.mred import mred_loss
from rsseg.segmentation.task import SEGMENTATION, labels_of
from rsseg.training.step import Outputs
from rsseg.training.task import build_job, build_net
from tests.helpers import small_scripts
from tests.helpers.small_images import CLASSES, write_images
from tests.helpers.small_runs import assert_runs_are_equal, stop_after
from tests.helpers.small_scripts import results

segment = partial(small_scripts.run, train_seg.SCRIPT)
classify = partial(small_scripts.run, train_cls.SCRIPT)
segment_refusal = partial(small_scripts.refusal, train_seg.SCRIPT)
CPU = torch.device("cpu")
TRAIN = {"images": "train/images", "labels": "train/labels"}

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")


def weights(run: Path) -> dict[str, Tensor]:
    """Read the network of a run."""
    state: dict[str, Tensor] = torch.load(run / "last.pt", weights_only=True)["net"]
    return state


def assert_same_weights(first: Path, second: Path) -> None:
    ours, theirs = weights(first), weights(second)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def write_maps(root: Path) -> Path:
    """Write eight images with label maps for training and three for the test, three classes."""
    draw = np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 3)):
        for part in ("images", "labels"):
            (root / split / part).mkdir(parents=True)
        for index in range(count):
            labels = np.kron(draw.integers(0, 3, (3, 4)), np.ones((16, 16))).astype(np.uint8)
            pixels = draw.integers(0, 120, (48, 64, 3), dtype=np.uint8)
            pixels[np.arange(48)[:, None], np.arange(64), labels] += 100
            Pictures.fromarray(pixels).save(root / split / "images" / f"{index}.png")
            Pictures.fromarray(labels).save(root / split / "labels" / f"{index}.png")
    return root


def map_settings(root: Path, **values: Any) -> dict[str, Any]:
    test = {"images": "test/images", "labels": "test/labels"}
    data = {"root": str(root), "train": TRAIN, "test": test, "labels": {"offset": 0}}
    model = {"encoder_name": "tu-test_resnet", "decoder_channels": 4, "classes": 3}
    return small_scripts.segmenter_settings(data, model=model, **values)


def write_configs(root: Path, original: dict[str, Any], adapted: dict[str, Any]) -> None:
    adapted = {**adapted, "init": str(root / "plain/last.pt")}
    for name, values in (("plain", original), ("adapt", adapted)):
        (root / f"{name}.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images with label maps, a segmenter of 64 pixels, and it adapted without labels."""
    root = write_maps(tmp_path_factory.mktemp("maps"))
    plain = map_settings(root, resolutions=[64], distillation="none")
    write_configs(root, plain, map_settings(root, adapt={"labels": False}))
    assert segment(root / "plain.yaml", "--run", root / "plain") == 0
    assert segment(root / "adapt.yaml", "--run", root / "adapted") == 0
    return root


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders, a classifier of 48 pixels, and it adapted without labels."""
    root = tmp_path_factory.mktemp("photos")
    values = {
        "model": {"name": "test_resnet", "classes": len(CLASSES)},
        "data": {"root": str(write_images(root / "data"))},
        "epochs": 2,
        "batch_size": 4,
        "optim": {"lr": 0.02},
        "workers": 0,
        "device": "cpu",
    }
    plain = {**values, "resolutions": [48], "distillation": "none"}
    write_configs(root, plain, {**values, "resolutions": [48, 32], "adapt": {"labels": False}})
    assert classify(root / "plain.yaml", "--run", root / "plain") == 0
    assert classify(root / "adapt.yaml", "--run", root / "adapted") == 0
    return root


def emptied(root: Path, target: Path, *, wrong: bool = False) -> Path:
    """Copy data of `write_maps`, and take its training label maps away or spoil them."""
    shutil.copytree(root / "train", target / "train")
    shutil.copytree(root / "test", target / "test")
    if not wrong:
        shutil.rmtree(target / "train/labels")
    for index, path in enumerate(sorted((target / "train").glob("labels/*.png"))):
        path.write_bytes(b"not a PNG" * index)
    return target


@pytest.mark.parametrize(
    ("wrong", "train"),
    [(True, TRAIN), (False, TRAIN), (False, {"images": "train/images"})],
    ids=["spoilt", "absent", "not stated"],
)
def test_label_maps_of_the_training_are_neither_needed_nor_read(
    maps: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    wrong: bool,
    train: dict[str, str],
) -> None:
    root = emptied(maps, tmp_path / "data", wrong=wrong)
    settings = yaml.safe_load((maps / "adapt.yaml").read_text())
    settings["data"] |= {"root": str(root), "train": train}
    (tmp_path / "adapt.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    assert segment(tmp_path / "adapt.yaml", "--run", tmp_path / "run") == 0
    output = capsys.readouterr().out
    assert "train: 8 images, no label maps: the answers of the original" in output
    assert "original  adapted  change" in output
    assert_same_weights(maps / "adapted", tmp_path / "run")
    assert results(tmp_path / "run")["metrics"] == results(maps / "adapted")["metrics"]


def test_label_maps_make_a_difference_where_they_are_read(maps: Path, tmp_path: Path) -> None:
    options = ("--run", tmp_path / "run", "--set", "adapt.labels=true")
    assert segment(maps / "adapt.yaml", *options) == 0
    ours, theirs = weights(maps / "adapted"), weights(tmp_path / "run")
    assert any(not torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("names", ["0 1 2 3 4 5", "pairs"])
def test_a_list_may_name_images_or_pairs_whose_label_maps_are_absent(
    maps: Path, tmp_path: Path, names: str
) -> None:
    root = emptied(maps, tmp_path / "data")
    lines = [f"train/images/{i}.png train/labels/{i}.png" for i in range(6)]
    train = {"list": "l.txt", **({} if names == "pairs" else {"images": "train/images"})}
    text = "\n".join(lines if names == "pairs" else names.split())
    (root / "l.txt").write_text(text, encoding="utf-8")
    settings = yaml.safe_load((maps / "adapt.yaml").read_text())
    settings["data"] |= {"root": str(root), "train": train}
    (tmp_path / "adapt.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    batches = training_batches(load_config(SEGMENTATION.config, tmp_path / "adapt.yaml", []))
    assert batches.fingerprint["train_samples"] == 6


def test_prepared_folder_needs_images_and_lists_alone(maps: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(maps / "test", root)
    (root / "test.txt").write_text("0\n1\n2\n", encoding="utf-8")
    (root / "train.txt").write_text("5\n6\n7\n", encoding="utf-8")
    for name in "567":
        shutil.copy(maps / f"train/images/{name}.png", root / "images")
    (root / "labels/5.png").write_bytes(b"not a PNG")
    settings = yaml.safe_load((maps / "adapt.yaml").read_text())
    settings["data"] = {"root": str(root), "labels": {"offset": 0}}
    (tmp_path / "adapt.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    assert segment(tmp_path / "adapt.yaml", "--run", tmp_path / "run") == 0


def segmenter_job(maps: Path, *overrides: str) -> Any:
    config = load_config(SEGMENTATION.config, maps / "adapt.yaml", overrides)
    data, batches = TestSamples(config), training_batches(config)
    net = build_net(SEGMENTATION, config, CPU, classes=data.classes)
    return build_job(SEGMENTATION, config, net, batches, data)


@pytest.mark.parametrize("teacher", [0.0, 0.5])
def test_segmenter_learns_the_best_class_of_the_original_at_each_pixel(
    maps: Path, teacher: float
) -> None:
    job = segmenter_job(maps, f"adapt.teacher={teacher}")
    torch.manual_seed(1)
    views = [torch.randn(2, 3, r, r) for r in (64, 32)]
    logits = [torch.randn(2, 3, 16, 16), torch.randn(2, 3, 8, 8)]
    target, scores = torch.zeros(2, 64, 64, dtype=torch.uint8), torch.tensor([0.2, -0.3])
    target[:, :5] = 255  # Padding.
    losses = job.loss(Outputs(logits, target, scores, views))
    original, _, _ = load_checkpoint(maps / "plain/last.pt")
    large = [F.interpolate(z, (64, 64), mode="bilinear") for z in logits]
    with torch.no_grad():
        answer = F.interpolate(original.predict(views[0], 64), (64, 64), mode="bilinear")
    best = torch.where(target == 255, 255, answer.argmax(1))
    expected = mred_loss(torch.stack(large), best, scores, ignore_index=255)
    p, valid = answer.softmax(1), target != 255
    added = sum((p * (p.log() - z.log_softmax(1))).sum(1)[valid].mean() for z in large)
    for ours, theirs in zip(losses, expected, strict=True):
        part = teacher * added if ours is losses.total or ours is losses.distillation else 0.0
        torch.testing.assert_close(ours, theirs + part, rtol=1e-4, atol=1e-4)


def test_void_stays_void_and_the_rest_is_the_best_class() -> None:
    logits = torch.zeros(1, 3, 2, 2)
    logits[0, 2, 0], logits[0, 1, 1] = 5.0, 5.0
    target = torch.tensor([[[0, 255], [1, 2]]], dtype=torch.uint8)
    labels = labels_of(logits, target)
    assert labels.dtype == torch.uint8
    assert labels.tolist() == [[[2, 255], [1, 1]]]


@pytest.mark.parametrize("memory", ["checkpoint", "two_pass"])
def test_memory_modes_learn_the_same_from_the_original(
    maps: Path, tmp_path: Path, memory: str
) -> None:
    options = ["model.dropout=0", "epochs=1"]
    for name, more in (("normal", []), (memory, [f"memory={memory}"])):
        options_of = ("--run", tmp_path / name, "--set", *options, *more)
        assert segment(maps / "adapt.yaml", *options_of) == 0
    ours, theirs = weights(tmp_path / "normal"), weights(tmp_path / memory)
    for key, value in ours.items():
        torch.testing.assert_close(value, theirs[key], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("task", "run"), [("maps", segment), ("photos", classify)])
def test_stopped_run_without_labels_ends_as_if_it_was_not(
    task: str,
    run: Any,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = request.getfixturevalue(task)
    stop_after(monkeypatch, 4)
    assert run(root / "adapt.yaml", "--run", tmp_path / "again") == 130
    stop_after(monkeypatch, None)
    assert run("--resume", tmp_path / "again") == 0
    assert_runs_are_equal(root / "adapted", tmp_path / "again")


@pytest.mark.parametrize(("task", "run"), [("maps", segment), ("photos", classify)])
def test_neither_ensemble_nor_teacher_is_needed(
    task: str, run: Any, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    root = request.getfixturevalue(task)
    options = ("--set", "distillation=none", "adapt.teacher=0", "epochs=1")
    assert run(root / "adapt.yaml", "--run", tmp_path / "run", *options) == 0


def classifier_job(photos: Path, *overrides: str) -> Any:
    config = load_config(CLASSIFICATION.config, photos / "adapt.yaml", overrides)
    data, batches = open_test_images(config), image_batches(config)
    net = build_net(CLASSIFICATION, config, CPU, classes=data.classes)
    return build_job(CLASSIFICATION, config, net, batches, data)


@pytest.mark.parametrize("teacher", [0.0, 0.5])
def test_classifier_and_its_scores_learn_the_shares_of_the_original(
    photos: Path, teacher: float
) -> None:
    job = classifier_job(photos, f"adapt.teacher={teacher}")
    torch.manual_seed(1)
    views = [torch.randn(4, 3, r, r) for r in (48, 32)]
    logits = [torch.randn(4, 3, requires_grad=True) for _ in views]
    scores = torch.tensor([0.2, -0.3], requires_grad=True)
    losses = job.loss(Outputs(logits, torch.zeros(4).long(), scores, views))
    original, _, _ = load_checkpoint(photos / "plain/last.pt")
    with torch.no_grad():
        p = original.predict(views[0], 48).softmax(1)
    q = [z.log_softmax(1) for z in logits]
    mean = scores.softmax(0)[0] * logits[0].detach() + scores.softmax(0)[1] * logits[1].detach()
    q0 = mean.log_softmax(1)

    def divergence(log_t: Tensor, log_s: Tensor) -> Tensor:
        return (log_t.exp() * (log_t - log_s)).sum(1).mean()

    classification = sum(-(p * z).sum(1).mean() for z in q)
    ensemble = -(p * q0).sum(1).mean()
    torch.testing.assert_close(losses.classification, classification)
    torch.testing.assert_close(losses.ensemble, ensemble)
    # Full MRED of two resolutions (Eq. 10): the mean over the larger teachers, ensemble included.
    plain = mred_loss(logits, p.argmax(1), scores).distillation
    added = teacher * sum(divergence(p.log(), z) for z in q)
    torch.testing.assert_close(losses.distillation, plain + added)
    (gradient,) = torch.autograd.grad(losses.total, scores)
    (expected,) = torch.autograd.grad(ensemble, scores)
    torch.testing.assert_close(gradient, expected)


def test_images_of_a_classifier_lie_anywhere_below_the_folder(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Folders of other names and depths; the same order, so the weights are the same."""
    root = tmp_path / "data"
    shutil.copytree(photos / "data/val", root / "val")
    for place, name in zip(("a", "b/c", "d"), CLASSES, strict=True):
        shutil.copytree(photos / "data/train" / name, root / "train" / place)
    (root / "train/.hidden").mkdir()
    (root / "train/notes.txt").write_text("none", encoding="utf-8")
    options = ("--run", tmp_path / "run", "--set", f"data.root={root}")
    assert classify(photos / "adapt.yaml", *options) == 0
    assert "train: folder, 12 images, no labels: the answers of" in capsys.readouterr().out
    assert_same_weights(photos / "adapted", tmp_path / "run")
    assert results(tmp_path / "run")["classes"] == list(CLASSES)


@pytest.mark.parametrize("columns", ["wrong", "right", "none"])
def test_classes_of_a_list_are_not_read(photos: Path, tmp_path: Path, columns: str) -> None:
    root = tmp_path / "data"
    shutil.copytree(photos / "data", root)
    images = sorted(root.glob("train/*/*.png"))
    names = [str(path.relative_to(root)) for path in images]
    lines = {
        "wrong": ["path,label", *(f"{name},zebra {place}" for place, name in enumerate(names))],
        "right": ["path,label", *(f"{name},{name.split('/')[1]}" for name in names)],
        "none": names,
    }
    (root / "train.csv").write_text("\n".join(lines[columns]), encoding="utf-8")
    options = ("--run", tmp_path / "run", "--set", f"data.root={root}", "data.train=train.csv")
    assert classify(photos / "adapt.yaml", *options) == 0
    assert_same_weights(photos / "adapted", tmp_path / "run")


def test_mixed_images_are_answered_as_they_are(photos: Path, tmp_path: Path) -> None:
    options = ("--set", "mixing.mixup=0.4", "mixing.cutmix=1.0", "epochs=1")
    assert classify(photos / "adapt.yaml", "--run", tmp_path / "run", *options) == 0


def test_share_for_the_test_is_kept_from_the_training(photos: Path) -> None:
    overrides = ["data.test_share=0.4", "batch_size=2"]
    config = load_config(CLASSIFICATION.config, photos / "adapt.yaml", overrides)
    batches, data = image_batches(config), open_test_images(config)
    views: Any = data.training_views(32)
    training = {views.images.name(index) for index in range(len(views))}
    assert training.isdisjoint(data.names)
    assert len(training) + len(data.names) == 12
    assert batches.fingerprint["train_samples"] == len(training)


def test_what_cannot_work_is_refused_at_the_door(
    maps: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ("--run", tmp_path / "run", "--set")
    text = segment_refusal(capsys, maps / "adapt.yaml", *run, "init=null")
    assert "init names none; set init (--init PATH)" in text
    alone = "data.train={images: train/images}"
    text = segment_refusal(capsys, maps / "adapt.yaml", *run, "adapt.labels=true", alone)
    assert "data.train: images is given and labels is not" in text
    assert "set adapt: {labels: false}" in text
    text = segment_refusal(capsys, maps / "adapt.yaml", *run, "data.test={images: test/images}")
    assert "test: images is given and labels is not" in text
    names = "data.names=[x, y, z]"
    assert segment(maps / "plain.yaml", "--run", tmp_path / "named", "--set", names) == 0
    other = (f"init={tmp_path / 'named/last.pt'}", "data.names=[u, v, w]")
    text = segment_refusal(capsys, maps / "adapt.yaml", *run, *other)
    assert "adapt {labels: false, teacher: 1} goes by the answers of init" in text
    assert "which has no head for these classes" in text
    measured = ("adapt.labels=true", "adapt.teacher=0", "adapt.recalibrate=4")
    text = segment_refusal(capsys, maps / "adapt.yaml", *run, *other, *measured)
    assert "adapt {recalibrate: 4} goes by the answers of init" in text
    taught = ("adapt.labels=true", "adapt.teacher=0.5")
    text = segment_refusal(capsys, maps / "adapt.yaml", *run, *other, *taught)
    assert "adapt {teacher: 0.5} goes by the answers of init" in text
