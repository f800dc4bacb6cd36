"""Facts about rsseg/classifiers/build.py: names, sizes, initialisation, weights from files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import nn

from rsseg import SwitchableNet, count_macs
from rsseg.classifiers.build import build_classifier
from rsseg.common.config import ConfigError
from rsseg.switchable.complexity import count_parameters

RESOLUTIONS = (224, 192, 160, 128, 96)


@pytest.mark.parametrize(
    ("name", "one", "five"),
    [
        ("resnet18", 11_689_512, 11_727_912),
        ("resnet50", 25_557_032, 25_769_512),
        ("mobilenetv2", 3_504_872, 3_641_320),
    ],
)
def test_parameters_are_those_of_the_paper(name: str, one: int, five: int) -> None:
    network = build_classifier(name=name)
    assert count_parameters(network) == one
    net = SwitchableNet(network, RESOLUTIONS)
    assert count_parameters(net) == five + len(RESOLUTIONS)


@pytest.mark.parametrize(
    ("name", "macs"),
    [
        ("resnet18", [1814.1, 1332.9, 925.8, 592.7, 333.6]),
        ("mobilenetv2", [300.8, 221.3, 154.1, 99.1, 56.3]),
    ],
)
def test_multiply_adds_are_those_of_the_paper(name: str, macs: list[float]) -> None:
    network = build_classifier(name=name)
    assert [round(count_macs(network, r) / 1e6, 1) for r in RESOLUTIONS] == macs


def test_resnet_starts_as_the_paper_says() -> None:
    torch.manual_seed(0)
    network = build_classifier(name="resnet18")
    conv = network.get_submodule("layer3.0.conv2")
    assert isinstance(conv, nn.Conv2d)
    expected = math.sqrt(2 / (9 * conv.out_channels))
    assert float(conv.weight.detach().std()) == pytest.approx(expected, rel=0.02)
    bound = 1 / math.sqrt(512)  # the default of a linear layer: uniform
    weight = network.get_parameter("fc.weight").detach()
    assert float(weight.abs().max()) == pytest.approx(bound, rel=0.01)
    assert float(weight.std()) == pytest.approx(bound / math.sqrt(3), rel=0.02)


def test_mobilenet_starts_as_the_paper_says() -> None:
    torch.manual_seed(0)
    network = build_classifier(name="mobilenetv2")
    seen = 0
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 5000:
            kernel = layer.kernel_size[0] * layer.kernel_size[1]
            expected = math.sqrt(2 / (kernel * layer.out_channels))
            assert float(layer.weight.detach().std()) == pytest.approx(expected, rel=0.1)
            seen += layer.groups > 1
    assert seen > 3
    weight = network.get_parameter("classifier.1.weight").detach()
    assert float(weight.std()) == pytest.approx(0.01, rel=0.02)


@pytest.mark.parametrize("width", [0.35, 0.5, 0.65, 0.8])
def test_width_is_that_of_torchvision(width: float) -> None:
    theirs = torchvision.models.mobilenet_v2(width_mult=width)
    ours = build_classifier(name="mobilenetv2", width=width)
    assert count_parameters(ours) == count_parameters(theirs)


@pytest.mark.parametrize(
    "name",
    ["densenet121", "googlenet", "regnet_y_400mf", "timm/resnet18d", "mobilenetv3_small_050"],
)
def test_any_network_of_torchvision_or_timm_is_built_and_converts(name: str) -> None:
    net = SwitchableNet(build_classifier(name=name, classes=7), [64, 48])
    logits = net([torch.rand(2, 3, 64, 64), torch.rand(2, 3, 48, 48)])
    assert [tuple(z.shape) for z in logits] == [(2, 7)] * 2


def test_same_name_in_both_libraries_is_torchvisions_unless_timm_is_named() -> None:
    assert isinstance(build_classifier(name="resnet18"), torchvision.models.ResNet)
    assert isinstance(build_classifier(name="timm/resnet18"), timm.models.ResNet)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_come_from_a_local_file_and_a_head_of_other_classes_stays(
    tmp_path: Path, prefix: str
) -> None:
    torch.manual_seed(1)
    source = torchvision.models.resnet18(num_classes=1000)
    path = tmp_path / "resnet18.pth"
    torch.save({"state_dict": {prefix + k: v for k, v in source.state_dict().items()}}, path)
    same = build_classifier(name="resnet18", weights=str(path))
    x = torch.rand(1, 3, 32, 32)
    assert torch.equal(same.eval()(x), source.eval()(x))
    other = build_classifier(name="resnet18", classes=5, weights=str(path))
    assert other.fc.out_features == 5  # type: ignore[union-attr]
    assert torch.equal(other.get_parameter("conv1.weight"), source.conv1.weight)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "resnet81"}, "unknown network 'resnet81'; did you mean"),
        ({"name": "timm/resnte18"}, "unknown network of timm"),
        ({"width": 0.5}, "width 0.5 is for mobilenetv2; resnet18 has no width"),
        ({"classes": 1}, "classes"),
        ({"options": {"depth": 3}}, "resnet18 refuses the options"),
        ({"weights": "nowhere.pth"}, "there is no file 'nowhere.pth'"),
    ],
)
def test_what_cannot_be_built_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, ConfigError), match=message):
        build_classifier(**values)


def test_weights_of_another_network_are_refused_with_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save(torchvision.models.resnet18().state_dict(), path)
    with pytest.raises(ValueError, match=r"(?s)other.pth does not fit this ResNet.*missing: layer"):
        build_classifier(name="resnet50", weights=str(path))


@pytest.mark.parametrize("name", ["resnet18", "timm/resnet18d"])
def test_download_that_fails_names_a_way_without(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("torchvision.models.get_model_weights", fail)
    monkeypatch.setattr(
        "timm.create_model", lambda *a, **k: fail() if k.get("pretrained") else nn.Module()
    )
    with pytest.raises(ConnectionError, match=r"set model.weights to the path of a \.pth"):
        build_classifier(name=name, weights="imagenet")
