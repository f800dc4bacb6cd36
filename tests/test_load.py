"""From a checkpoint to the network in it: the same predictions, preprocessing and metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from rsseg.common.checkpoint import CheckpointError, read_checkpoint, write_checkpoint
from rsseg.common.config import validate
from rsseg.load import load_checkpoint
from rsseg.segmentation.config import SegmentationConfig
from rsseg.segmentation.task import SEGMENTATION
from rsseg.switchable.net import SwitchableNet
from rsseg.training.metadata import RunMetadata
from rsseg.training.task import build_net, describe
from tests.helpers.small_networks import randomise

CLASSES = ["wall", "floor", "bed"]


class NoSamples:
    """Test samples of which only the description is needed."""

    classes = tuple(CLASSES)
    fingerprint: ClassVar[dict[str, Any]] = {"test_samples": 0}

    names: ClassVar[list[str]] = []
    faults: ClassVar[dict[str, str]] = {}
    summary: ClassVar[str] = ""

    def batches(self, resolutions: object) -> tuple[()]:
        return ()

    def calibration(self, resolution: int, images: int) -> tuple[()]:
        return ()


def saved(path: Path, **values: Any) -> tuple[SwitchableNet, RunMetadata]:
    """A network and its metadata, written as a run writes them."""
    settings = {
        "model": {"encoder_name": "resnet18", "decoder_channels": 4, "classes": 3},
        "resolutions": [64, 32],
        "data": {"root": "nowhere"},
        "preprocessing": {"mean": [0.1, 0.2, 0.3], "std": [1, 2, 3], "fit": "aspect"},
        "epochs": 1,
        "batch_size": 2,
        "optim": {"lr": 0.1},
    }
    config = validate(SegmentationConfig, {**settings, **values}, "the test")
    net = build_net(SEGMENTATION, config, torch.device("cpu"))
    randomise(net)
    metadata = describe(SEGMENTATION, config, net, NoSamples())
    write_checkpoint(path, {"metadata": metadata.plain(), "net": net.state_dict()})
    return net.eval(), metadata


@pytest.mark.parametrize("distillation", ["full", "none"])
@pytest.mark.parametrize("batchnorm", ["private", "shared"])
@torch.no_grad()
def test_network_that_is_read_predicts_what_the_saved_one_did(
    tmp_path: Path, batchnorm: str, distillation: str
) -> None:
    path = tmp_path / "last.pt"
    # Another memory layout would round otherwise.
    settings = {"batchnorm": batchnorm, "distillation": distillation, "channels_last": False}
    net, metadata = saved(path, **settings)
    loaded, preprocessing, read = load_checkpoint(str(path))
    assert not loaded.training
    assert (loaded.scores is None) == (distillation == "none")
    assert loaded.resolutions == (64, 32)
    images = torch.randn(1, 3, 64, 48)
    for resolution in (64, 32, 48):
        logits = net.predict(images, resolution)
        assert torch.equal(loaded.predict(images, resolution), logits)
        assert logits.std() > 0
    assert (preprocessing.std, preprocessing.fit) == ((1, 2, 3), "aspect")
    assert read == metadata
    assert list(read.classes) == list(CLASSES)


def test_weights_that_the_encoder_began_with_need_not_be_there_any_more(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    saved(path)
    content = read_checkpoint(path)
    content["metadata"]["model"]["encoder_weights"] = "/gone/resnet18.pth"
    write_checkpoint(path, content)
    _, _, metadata = load_checkpoint(path)
    assert metadata.model["encoder_weights"] == "/gone/resnet18.pth"


def test_weights_of_another_network_are_refused_with_sorted_lists(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    saved(path)
    content = read_checkpoint(path)
    content["metadata"]["model"]["decoder_channels"] = 6
    content["metadata"]["resolutions"] = [64]
    write_checkpoint(path, content)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    first, extra, reshaped = str(caught.value).splitlines()
    assert first == f"{path} does not fit this RefineNet:"
    assert "not in the network: network.encoder.bn1.sets.32.bias, " in extra
    assert "of another shape: network.decoder." in reshaped
    assert "(8,) instead of (12,), " in reshaped


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"task": "juggling"}, "juggling"),
        ({"model": {"encoder_name": "resnet19"}}, "resnet19"),
        ({"resolutions": [32, 64]}, "must run from large to small"),
        ({"preprocessing": {"std": [0, 1, 1]}}, "std must be above 0"),
        ({"batchnorm": "none"}, "Input should be 'private' or 'shared'"),
    ],
)
def test_description_that_cannot_be_built_names_file_and_fault(
    tmp_path: Path, fault: dict[str, Any], message: str
) -> None:
    path = tmp_path / "last.pt"
    metadata = {
        "task": "segmentation",
        "model": {"encoder_name": "resnet18", "decoder_channels": 4},
        "resolutions": [64, 32],
        "batchnorm": "private",
        "preprocessing": {},
    }
    write_checkpoint(path, {"metadata": {**metadata, **fault}, "net": {}})
    with pytest.raises(CheckpointError, match="describes no network that can be") as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_checkpoint_without_description_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    write_checkpoint(path, {"net": {}})
    with pytest.raises(CheckpointError, match="describes no network that can be built: 'metadata'"):
        load_checkpoint(path)
