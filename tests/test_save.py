"""Facts about rsseg/save.py: every command takes what it saved, and faults come when saving."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pictures
from torch import nn

import rsseg
from rsseg.classifiers.build import ClassifierConfig, build_classifier
from rsseg.cli.main import main
from rsseg.common.checkpoint import CheckpointError, read_checkpoint, write_checkpoint
from rsseg.images.preprocessing import Preprocessing
from rsseg.quantization.convert import quantize
from rsseg.runtime import Predictor
from rsseg.segmentation.model import ModelConfig, build_segmenter
from rsseg.switchable.net import SwitchableNet
from rsseg.switchable.unseen import interpolate_set
from tests.helpers import own_networks
from tests.helpers.own_networks import OwnNet, build
from tests.helpers.processes import ROOT
from tests.helpers.small_networks import randomise

BUILDER = "tests.helpers.own_networks:build"
SEGMENTER: dict[str, Any] = {"architecture": "unet", "encoder_name": "resnet18", "classes": 3}


def own_net(*, dense: bool = False, **options: Any) -> SwitchableNet:
    network = OwnNet(dense=dense, **options)
    net = SwitchableNet(network, [64, 32], output="out" if dense else None)
    randomise(net)
    return net


def save(net: SwitchableNet, path: Path, **options: Any) -> Path:
    rsseg.save_checkpoint(net, path, **options)
    return path


@torch.no_grad()
def assert_same(net: SwitchableNet, other: SwitchableNet) -> None:
    net.eval()
    for side in (64, 48, 32):
        images = torch.rand(1, 3, side, side)
        assert torch.equal(net.predict(images), other.predict(images))


@pytest.mark.parametrize("model", [{"name": "mobilenetv2_035", "classes": 3}, None])
def test_named_classifier_comes_back_as_it_was(tmp_path: Path, model: Any) -> None:
    config = model or ClassifierConfig(name="mobilenetv2_035", classes=3)
    network = build_classifier(ClassifierConfig(name="mobilenetv2_035", classes=3))
    net = SwitchableNet(network, [64, 32], scores=model is None)
    randomise(net)
    own = Preprocessing(mean=(0.1, 0.2, 0.3), fit="crop")
    told = rsseg.save_checkpoint(
        net, tmp_path / "a.pt", model=config, classes=["x", "y", "z"], preprocessing=own, name="N"
    )
    loaded, preprocessing, metadata = rsseg.load_checkpoint(tmp_path / "a.pt")
    assert_same(net, loaded)
    assert (preprocessing, metadata) == (own, told)
    assert (metadata.task, metadata.classes, metadata.name) == (
        "classification",
        ("x", "y", "z"),
        "N",
    )
    assert metadata.macs == {str(side): rsseg.count_macs(net, side) for side in (64, 32)}


def test_named_segmenter_comes_back_as_it_was(tmp_path: Path) -> None:
    net = SwitchableNet(build_segmenter(ModelConfig(**SEGMENTER)), [64, 32])
    randomise(net)
    save(net, tmp_path / "a.pt", model=SEGMENTER)
    loaded, _, metadata = rsseg.load_checkpoint(tmp_path / "a.pt")
    assert_same(net, loaded)
    assert metadata.task == "segmentation"
    assert metadata.classes == ("class 0", "class 1", "class 2")


def test_quantised_network_is_saved_and_packed_by_its_configuration(tmp_path: Path) -> None:
    model: dict[str, Any] = {
        "name": "resnet18",
        "classes": 3,
        "quantization": {"weights": 2, "activations": 32},
    }
    net = SwitchableNet(build_classifier(**model), [64, 32])
    net([torch.rand(2, 3, 64, 64), torch.rand(2, 3, 32, 32)])
    path = save(net, tmp_path / "a.pt", model=model)
    assert main(["pack", str(path), "--out", str(tmp_path / "a.safetensors")]) == 0
    assert_same(net, rsseg.load_checkpoint(tmp_path / "a.safetensors")[0])
    wrong = {"name": "resnet18", "classes": 3}
    with pytest.raises(CheckpointError, match="builds another network"):
        save(net, tmp_path / "b.pt", model=wrong)


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("place", [BUILDER, build, OwnNet])
def test_own_network_comes_back_only_where_its_builder_is_allowed(
    tmp_path: Path, place: Any, *, dense: bool
) -> None:
    net = own_net(dense=dense)
    path = save(net, tmp_path / "a.pt", builder=place, arguments={"dense": dense})
    for read in (rsseg.load_checkpoint, Predictor.open):
        with pytest.raises(ValueError, match=r"a\.pt: its network is built by tests\.helpers") as e:
            read(path)
        assert "allow_builder=True" in str(e.value)
        assert "--allow-builder" in str(e.value)
    loaded, _, metadata = rsseg.load_checkpoint(path, allow_builder=True)
    assert_same(net, loaded)
    assert metadata.output == ("out" if dense else None)
    assert metadata.task == ("segmentation" if dense else "classification")


def test_builder_is_not_imported_unless_allowed(tmp_path: Path) -> None:
    path = save(own_net(), tmp_path / "a.pt", builder=BUILDER)
    content = read_checkpoint(path)
    content["metadata"]["builder"] = {"function": "own_module_that_marks:build", "arguments": {}}
    write_checkpoint(path, content)
    (tmp_path / "own_module_that_marks.py").write_text("open('mark', 'w')\ndef build(): return 1")
    for options, status in ((["--allow-builder"], True), ([], False)):
        (tmp_path / "mark").unlink(missing_ok=True)
        command = [sys.executable, "-m", "rsseg", "profile", str(path), *options]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert (tmp_path / "mark").exists() is status
        assert ("not a network" in done.stderr) is status


def test_every_verb_takes_an_own_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(own_net(dense=True), tmp_path / "a.pt", builder=BUILDER, arguments={"dense": True})
    photo = tmp_path / "photo.png"
    Pictures.fromarray(np.zeros((40, 50, 3), np.uint8)).save(photo)
    verbs = {
        "predict": [str(path), str(photo), "--out", str(tmp_path / "out"), "--device", "cpu"],
        "export": [str(path), "--out", str(tmp_path / "a.onnx")],
        "profile": [str(path), "--measure", "--executors", "torch", "--runs", "1", "--no-memory"],
    }
    for verb, options in verbs.items():
        assert main([verb, *options]) == 2
        assert "--allow-builder" in capsys.readouterr().err
        assert main([verb, *options, "--allow-builder"]) == 0, capsys.readouterr().err
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    exported = Predictor.open(tmp_path / "a.onnx")  # It holds its network: nothing to allow.
    opened = Predictor.open(path, allow_builder=True)
    for side in (64, 48, 32):
        torch.testing.assert_close(
            torch.from_numpy(exported.predict(image, side).logits),
            torch.from_numpy(opened.predict(image, side).logits),
            rtol=1e-4,
            atol=1e-4,
        )


def test_file_that_exists_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    path.write_text("precious")
    with pytest.raises(ValueError, match=r"exists; choose another name, or give overwrite=True"):
        save(own_net(), path, builder=BUILDER)
    assert path.read_text() == "precious"
    with pytest.raises(CheckpointError, match="builds another network"):
        save(own_net(), path, builder=BUILDER, arguments={"width": 8}, overwrite=True)
    assert path.read_text() == "precious"
    save(own_net(), path, builder=BUILDER, overwrite=True)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.pt"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give model= .* or builder="),
        ({"model": {}, "builder": BUILDER}, "one of the two"),
        ({"model": {"name": "resnet18"}, "arguments": {}}, "stand in it"),
        ({"model": "resnet18"}, "or a mapping of its keywords, got str"),
        ({"model": {"name": "resnet19", "classes": 3}}, "did you mean"),
        ({"model": {"name": "resnet18", "classes": 3}}, "missing: .*network.bn1"),
        ({"builder": BUILDER, "arguments": {"width": 8}}, r"shape: .*\(4,\) instead of \(8,\)"),
        ({"builder": BUILDER, "arguments": {"stride": 1}}, "same tensors but other logits"),
        ({"builder": BUILDER, "arguments": {"size": 1}}, "cannot be built .*size"),
        ({"builder": BUILDER, "arguments": {"width": torch.zeros(1)}}, "argument 'width' .* hold"),
        ({"builder": BUILDER, "arguments": {"width": (4, 4)}}, "argument 'width' .* hold"),
        ({"builder": "own_networks"}, "not the place of a builder"),
        ({"builder": "nowhere_at_all:build"}, "cannot import nowhere_at_all.*PYTHONPATH"),
        ({"builder": "tests.helpers.own_networks:gone"}, "has no gone"),
        ({"builder": "tests.helpers.own_networks:not_a_network"}, "returned a list, not a network"),
        ({"builder": lambda: OwnNet(4)}, "put it at the top of a module"),
        ({"builder": BUILDER, "task": "segmentation"}, "those of classification; leave task out"),
        ({"builder": BUILDER, "task": "juggling"}, "unknown task 'juggling'"),
        ({"builder": BUILDER, "classes": ["a", "b"]}, "got 2 names of classes, .* logits of 3"),
        ({"builder": BUILDER, "classes": "abc"}, "names of classes"),
    ],
)
def test_what_could_not_be_read_again_is_refused_when_saving(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        save(own_net(), tmp_path / "a.pt", **options)
    assert list(tmp_path.iterdir()) == []


def test_builder_in_the_script_itself_is_refused(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import rsseg\nfrom tests.helpers.own_networks import OwnNet\n"
        "def build(): return OwnNet()\n"
        "rsseg.save_checkpoint(rsseg.SwitchableNet(build(), [32]), 'a.pt', builder=build)\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "cannot be imported from __main__ by another program" in done.stderr


def test_class_inside_a_class_is_found_again(tmp_path: Path) -> None:
    net = SwitchableNet(own_networks.Outer.Inner(), [32])
    path = save(net, tmp_path / "a.pt", builder=own_networks.Outer.Inner)
    assert_same(net, rsseg.load_checkpoint(path, allow_builder=True)[0])


def test_networks_that_cannot_be_saved_say_why(tmp_path: Path) -> None:
    plain = OwnNet()
    with pytest.raises(TypeError, match="expected a SwitchableNet, got OwnNet"):
        save(plain, tmp_path / "a.pt", builder=BUILDER)  # type: ignore[arg-type]
    net = own_net()
    interpolate_set(net.network, 48)
    with pytest.raises(ValueError, match="remove them with remove_set"):
        save(net, tmp_path / "a.pt", builder=BUILDER)
    net = own_net()
    with torch.no_grad():
        net.get_parameter("network.head.bias").fill_(torch.nan)
    with pytest.raises(ValueError, match="not finite"):
        save(net, tmp_path / "a.pt", builder=BUILDER)
    odd = SwitchableNet(nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(2)), [32])
    with pytest.raises(ValueError, match=r"expected \(B, K\) of a classifier"):
        save(odd, tmp_path / "a.pt", builder=BUILDER)


def test_saving_leaves_the_loop_as_it_was(tmp_path: Path) -> None:
    net = own_net().train()
    rsseg.switch(net.network, 32)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.get_rng_state()
    save(net, tmp_path / "a.pt", builder=BUILDER)
    assert net.training
    assert all(module.training for module in net.modules())
    assert {m.active for m in net.modules() if isinstance(m, rsseg.SwitchableBatchNorm2d)} == {"32"}
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_what_a_checkpoint_says_is_plain_json(tmp_path: Path) -> None:
    net = SwitchableNet(OwnNet(), [np.int64(64), np.int64(32)])
    told = rsseg.save_checkpoint(net, tmp_path / "a.pt", builder=BUILDER, arguments={"width": 4})
    values = json.loads(json.dumps(told.plain()))
    assert values["builder"] == {"function": BUILDER, "arguments": {"width": 4}}
    assert read_checkpoint(tmp_path / "a.pt")["metadata"] == told.plain()


def test_quantised_own_network_is_saved_by_its_builder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="builds another network"):
        save(SwitchableNet(quantize(OwnNet(), 2, 32), [32]), tmp_path / "a.pt", builder=BUILDER)
