"""What the doctor says of the weights that a run starts from."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch

import rsseg
from rsseg.classifiers.build import build_classifier
from rsseg.doctor.checks import Finding
from rsseg.doctor.configuration import examine_run
from rsseg.segmentation.model import build_segmenter
from rsseg.switchable.net import SwitchableNet
from tests.helpers.small_checkpoint import write_checkpoint
from tests.helpers.small_configs import write_config, write_splits

MODEL = {"name": "test_resnet", "classes": 2}
SEGMENTER = {"encoder_name": "resnet18", "decoder_channels": 8, "classes": 3}


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_splits(tmp_path / "images")


def examined(root: Path, *overrides: str, **values: object) -> dict[str, Finding]:
    values = {"model": MODEL, "data": {"root": str(root)}, **values}
    path = write_config(Path("x.yaml"), **values)
    return {finding.check: finding for finding in examine_run(path, overrides)}


@pytest.mark.parametrize("key", ["init", "model.weights"])
def test_weights_of_a_file_are_loaded_as_the_run_would(images: Path, key: str) -> None:
    state = build_classifier(name="test_resnet", classes=9).state_dict()
    torch.save({"state_dict": state}, "w.pth")
    found = examined(images, f"{key}=w.pth")
    assert found["weights"].state == "ok"
    assert "new 2 (head: 2 classes)" in found["weights"].found


def test_head_of_other_classes_starts_anew_as_in_the_run(images: Path) -> None:
    net = SwitchableNet(build_classifier(name="test_resnet", classes=2), [64, 32])
    own = sorted(path.name for path in (images / "train").iterdir())
    for classes, anew in ((own, False), (["x", "y"], True), (None, False)):
        rsseg.save_checkpoint(net, "w.pt", model=MODEL, classes=classes, overwrite=True)
        found = examined(images, "init=w.pt")["weights"].found
        assert ("the head starts anew: the checkpoint has a class 'x'" in found) is anew


def test_encoder_of_a_file_is_loaded_as_the_run_would(images: Path) -> None:
    torch.save(build_segmenter(**SEGMENTER).state_dict(), "w.pth")  # type: ignore[arg-type]
    found = examined(images, model={**SEGMENTER, "encoder_weights": "w.pth"})
    assert "loaded 120, new 0" in found["weights"].found
    assert "its decoder is left out" in found["weights"].found


def test_weights_that_do_not_fit_are_a_fault(images: Path) -> None:
    torch.save(build_classifier(name="mobilenetv2_035", classes=2).state_dict(), "w.pth")
    found = examined(images, "init=w.pth")
    assert found["weights"].state == "fault"
    assert "does not fit this ResNet; missing: " in found["weights"].found
    assert examined(images, "init=nowhere.pth")["weights"].state == "fault"


def test_number_of_classes_is_that_of_the_folders(images: Path) -> None:
    found = examined(images, model={**MODEL, "classes": 7})["classes"]
    assert (found.state, found.remedy) == ("fault", "--set model.classes=2")


def test_mean_and_std_of_the_weights_are_taken_or_told(images: Path) -> None:
    path = write_checkpoint(images / "last.pt")
    values = {"model": {"name": "mobilenetv2_035", "classes": 2}, "init": str(path)}
    assert (
        "the run takes those of the weights: mean [0.4"
        in examined(images, **values)["mean and std"].found
    )
    found = examined(images, "preprocessing.mean=[0.5,0.5,0.5]", **values)["mean and std"]
    assert found.state == "hint"
    assert "the run has mean [0.5, 0.5, 0.5]" in found.found


def test_bare_weights_of_timm_hint_at_its_record(images: Path) -> None:
    model = {"name": "timm/tf_efficientnet_lite0", "classes": 2}
    torch.save(timm.create_model("tf_efficientnet_lite0", num_classes=2).state_dict(), "w.pth")
    found = examined(images, "init=w.pth", model=model)["mean and std"]
    assert found.state == "hint"
    assert "mean [0.5, 0.5, 0.5]" in found.found


@pytest.mark.parametrize(
    ("overrides", "hint"),
    [
        (["optim.lr=0.1"], True),
        (["optim.lr=0.1", "optim.body_lr=0.01"], False),
        (["optim.lr=0.1", "freeze=body"], False),
        (["optim.lr=0.01", "optim.kind=adamw"], True),
        (["optim.lr=0.001", "optim.kind=adamw"], False),
    ],
)
def test_rate_of_training_from_scratch_is_hinted_at(
    images: Path, overrides: list[str], hint: bool
) -> None:
    torch.save(build_classifier(name="test_resnet", classes=2).state_dict(), "w.pth")
    assert ("learning rate" in examined(images, "init=w.pth", *overrides)) is hint
    assert "learning rate" not in examined(images, *overrides)


def test_unknown_part_to_freeze_is_a_fault(images: Path) -> None:
    assert examined(images, "freeze=layr1")["freeze"].state == "fault"
    assert examined(images, "freeze=layer1")["freeze"].state == "ok"
