"""Pooled features under training and test preprocessing: `rsseg features` (Fig. 3)."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pictures
from scipy.stats import ks_2samp
from torch import Tensor, nn

from rsseg.analysis import features
from rsseg.batch_views import views
from rsseg.cli import main as cli
from rsseg.common.files import RunError
from rsseg.images.reading import read_image
from tests.helpers.small_checkpoint import write_checkpoint

CPU = torch.device("cpu")
AREA = {"augmentation": {"area": [0.08, 0.3], "flip": 0.0}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for index in range(6):
        (tmp_path / "images" / f"class{index % 2}").mkdir(parents=True, exist_ok=True)
        image = rng.integers(0, 256, (90, 120, 3), dtype=np.uint8)
        Pictures.fromarray(image).save(tmp_path / f"images/class{index % 2}/{index}.png")
    return tmp_path


def opened(folder: Path, **values: Any) -> features.Classifier:
    (folder / "run").mkdir()
    write_checkpoint(folder / "run" / "last.pt", config=AREA, **values)
    return features.open_classifier(folder / "run")


@pytest.mark.parametrize("name", ["mobilenetv2_035", "resnet18", "timm/test_efficientnet"])
def test_pooled_features_are_what_the_linear_layer_reads(folder: Path, name: str) -> None:
    model = {"name": name, "classes": 3}
    (folder / "run").mkdir()
    from rsseg.common import checkpoint
    from rsseg.heads import HEADS
    from rsseg.switchable.net import SwitchableNet

    net = SwitchableNet(HEADS["classification"].network(model), [64, 32])
    metadata = {"task": "classification", "model": model, "resolutions": [64, 32]}
    metadata |= {"batchnorm": "private", "preprocessing": {"fit": "crop"}, "classes": list("abc")}
    content = {"metadata": metadata, "net": net.state_dict()}
    checkpoint.write_checkpoint(folder / "run" / "last.pt", content)
    classifier = features.open_classifier(folder / "run")
    linear = [layer for layer in classifier.net.modules() if isinstance(layer, nn.Linear)][-1]
    read: list[Tensor] = []
    linear.register_forward_pre_hook(lambda _, given: read.append(given[0]))
    layer = features._last_map(classifier.net, 64, CPU)
    read.clear()
    images = features.find_samples(folder / "images", 3)
    for resolution in (64, 32):
        pooled = features.pooled_features(classifier, layer, images, resolution, "test")
        np.testing.assert_allclose(pooled, read.pop().numpy(), rtol=1e-5, atol=1e-6)


def test_training_sees_the_crops_of_the_training_loop(folder: Path) -> None:
    classifier = opened(folder)
    images = features.find_samples(folder / "images", 2)
    (batch,) = features._batches(classifier, images, 32, "train")
    for index, (path, view) in enumerate(zip(images, batch, strict=True)):
        # The same seed for one image of `rsseg.views` needs its own drawing; so by its parts.
        from rsseg.classifiers.config import CropConfig
        from rsseg.classifiers.random_crops import RandomCrops

        crops = RandomCrops([32], CropConfig(area=(0.08, 0.3), flip=0.0))
        tensor = torch.from_numpy(read_image(path)).permute(2, 0, 1)
        assert torch.equal(view, crops.views(tensor, index)[0])
    assert views([read_image(images[0])], None, [32]).images[0].shape == batch[:1].shape
    (tested,) = features._batches(classifier, images, 32, "test")
    expected = classifier.preprocessing.view(read_image(images[1]), 32)
    assert torch.equal(tested[1], expected)


def test_distribution_is_that_of_all_values(folder: Path) -> None:
    classifier = opened(folder)
    images = features.find_samples(folder / "images", 6)
    rows = features.distributions(classifier, images, [64, 48], device=CPU)
    found = [(row.resolution, row.preprocessing) for row in rows]
    assert found == [(64, "train"), (64, "test"), (48, "test")]  # 48 was not trained.
    layer = features._last_map(classifier.net, 64, CPU)
    train, test = (
        features.pooled_features(classifier, layer, images, 64, way) for way in ("train", "test")
    )
    assert rows[1].mean == pytest.approx(test.mean(), rel=1e-5)
    assert rows[1].quantiles[100] == pytest.approx(np.median(test.astype(np.float64)))
    assert rows[1].distance == pytest.approx(ks_2samp(train.ravel(), test.ravel()).statistic)
    assert np.isnan(rows[2].distance)


def test_samples_are_of_all_classes(folder: Path) -> None:
    samples = features.find_samples(folder / "images", 2)
    assert [path.parent.name for path in samples] == ["class0", "class1"]
    assert len(features.find_samples(folder / "images", 100)) == 6
    with pytest.raises(RunError, match="there is no image in"):
        features.find_samples(folder / "nowhere", 1)


def test_verb_writes_a_picture_and_its_numbers(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened(folder)
    out = folder / "fig3.png"
    command = ["features", *[str(folder / "run")] * 2, "--images", str(folder / "images")]
    command += ["--names", "I-Net", "RS-Net", "--device", "cpu", "--out", str(out)]
    assert cli.main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "6 images"
    assert [line.split()[:2] for line in lines[2:6]] == [
        [name, side] for name in ("I-Net", "RS-Net") for side in ("64", "32")
    ]
    with (folder / "fig3.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 2 * len(features.SHARES)
    assert out.read_bytes().startswith(b"\x89PNG")
    assert cli.main([*command, "--overwrite", "--limit", "0"]) == 2
    assert "--limit must be at least 1, got 0" in capsys.readouterr().err
    assert cli.main([*command, "--overwrite", "--names", "one"]) == 2
    assert "2 networks, but 1 name" in capsys.readouterr().err


def test_each_network_has_a_field_and_each_resolution_a_colour(folder: Path) -> None:
    classifier = opened(folder)
    rows = features.distributions(classifier, features.find_samples(folder, 2), device=CPU)
    (axes,) = features.plot_features(rows).axes
    assert axes.get_title() == "run"
    labels = {str(line.get_label()): line for line in axes.lines}
    assert list(labels) == ["64, train", "64, test", "32, train", "32, test"]
    assert labels["64, train"].get_color() == labels["64, test"].get_color()
    assert labels["64, train"].get_linestyle() != labels["64, test"].get_linestyle()


def test_segmenter_is_refused(folder: Path) -> None:
    with pytest.raises(RunError, match="is a segmenter; globally pooled features are those of"):
        features.open_classifier(write_checkpoint(folder / "s.pt", "segmentation"))
