"""A published file becomes a checkpoint that predicts and is evaluated like any other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import train_cls
from rsseg.classifiers.import_published import import_published
from rsseg.classifiers.published import load_published
from rsseg.cli import main as cli
from rsseg.common.checkpoint import CheckpointError
from rsseg.load import load_checkpoint
from tests.classifiers.test_published import (
    MOBILENET,
    RESNET,
    Build,
    plain_networks,
    published,
    write,
)
from tests.helpers.small_images import CLASSES, write_images


def published_file(folder: Path, build: Build) -> Path:
    state = published(plain_networks(build))
    state["module.alpha"] = torch.arange(5.0)
    return write(folder / "model_best.pth.tar", state)


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published_file(tmp_path_factory.mktemp("resnet"), RESNET)


@pytest.fixture(scope="module")
def mobilenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published_file(tmp_path_factory.mktemp("mobilenet"), MOBILENET)


@pytest.mark.parametrize("network", ["resnet", "mobilenet"])
@torch.no_grad()
def test_checkpoint_predicts_what_the_published_file_does(
    tmp_path: Path, network: str, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(network)
    metadata = import_published(path, tmp_path / "ours.pt")
    net, preprocessing, found = load_checkpoint(tmp_path / "ours.pt")
    theirs, expected = load_published(path)
    images = torch.rand(2, 3, 32, 32)
    for resolution in net.resolutions:
        assert torch.equal(net.predict(images, resolution), theirs.predict(images, resolution))
    assert preprocessing == expected
    assert found == metadata
    assert found.classes[:2] == ("class 0", "class 1")


def test_imported_network_is_evaluated_on_folders_with_its_own_preprocessing(
    mobilenet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import_published(mobilenet, tmp_path / "ours.pt")
    root = write_images(tmp_path / "data")
    for index in range(4):  # The file knows 7 classes.
        for split in ("train", "val"):
            (root / split / f"more{index}").mkdir()
            source = root / split / CLASSES[0] / "0.png"
            (root / split / f"more{index}" / "0.png").write_bytes(source.read_bytes())
    arguments = ["--evaluate", tmp_path / "ours.pt", "--resolutions", 64, 224, "--out"]
    arguments += [tmp_path / "out", "--set", f"data.root={root}", "batch_size=4", "workers=0"]
    assert train_cls.main([str(argument) for argument in arguments]) == 0, capsys.readouterr().err
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert list(results["metrics"]) == ["224", "64"]
    assert results["preprocessing"]["mean"] == [0, 0, 0]


def test_what_cannot_be_imported_is_refused(mobilenet: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="knows 7 classes; expected as many names, got 2"):
        import_published(mobilenet, tmp_path / "ours.pt", classes=["a", "b"])
    (tmp_path / "ours.pt").touch()
    with pytest.raises(ValueError, match="exists; choose another name"):
        import_published(mobilenet, tmp_path / "ours.pt")
    assert (tmp_path / "ours.pt").read_bytes() == b""


def test_command_imports_and_names_what_it_found(
    resnet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "names.txt").write_text("\n".join("abcdefg"))
    command = ["import", resnet, "--out", tmp_path / "ours.pt", "--names", tmp_path / "names.txt"]
    assert cli.main([str(part) for part in command]) == 0
    assert "resnet18, 7 classes, 224, 192, 160, 128, 96" in capsys.readouterr().out
    assert load_checkpoint(tmp_path / "ours.pt")[2].classes == tuple("abcdefg")
    assert cli.main([str(part) for part in command]) == 2
    assert "exists; choose another name" in capsys.readouterr().err
