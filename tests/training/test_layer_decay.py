"""Layer-wise decay, by hand, and by timm's own optimiser factory."""

from __future__ import annotations

import pytest
import timm
from timm.optim import param_groups_layer_decay
from torch import nn

from rsseg.classifiers.build import build_classifier
from rsseg.common.config import validate
from rsseg.segmentation.model import build_segmenter
from rsseg.switchable.net import SwitchableNet
from rsseg.training.config import OptimConfig
from rsseg.training.layer_decay import layer_scales
from rsseg.training.optim import build_optimizer, set_learning_rates


def rates(net: nn.Module, config: OptimConfig) -> dict[str, float]:
    optimizer = build_optimizer(net, config)
    set_learning_rates(optimizer, {"encoder": 0.1, "other": 1.0})
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    return {names[id(p)]: g["lr"] for g in optimizer.param_groups for p in g["params"]}


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0", "convnext_atto"])
def test_networks_of_timm_have_the_factors_of_timm(name: str) -> None:
    network = timm.create_model(name, num_classes=3)
    names = {id(parameter): key for key, parameter in network.named_parameters()}
    expected = {
        names[id(parameter)]: group["lr_scale"]
        for group in param_groups_layer_decay(network, layer_decay=0.7)
        for parameter in group["params"]
    }
    body = {key: scale for key, scale in expected.items() if not key.startswith(("fc", "class"))}
    scales = layer_scales(network, 0.7)
    assert {key: scales[key] for key in body} == pytest.approx(body)
    assert scales[next(key for key in reversed(expected))] == 1.0


def test_stages_of_an_encoder_and_both_rates_multiply() -> None:
    network = build_segmenter(encoder_name="resnet18", classes=3, decoder_channels=8)
    net = SwitchableNet(network, [64, 32])
    values = rates(net, OptimConfig(lr=1.0, body_lr=0.1, layer_decay=0.5))
    # The layers from the input: conv1 with bn1, then four stages.
    expected = {"conv1": 5, "bn1": 5, "layer1": 4, "layer2": 3, "layer3": 2, "layer4": 1}
    for name, rate in values.items():
        stage = name.removeprefix("network.encoder.").partition(".")[0]
        body = name.startswith("network.encoder.")
        assert rate == pytest.approx(0.1 * 0.5 ** expected[stage] if body else 1.0)


@pytest.mark.parametrize("name", ["mobilenetv2", "densenet121"])
def test_layers_of_torchvision_rise_from_the_input_to_the_head(name: str) -> None:
    net = SwitchableNet(build_classifier(name=name, classes=3), [64, 32])
    scales = list(layer_scales(net.network, 0.9).values())
    assert scales == sorted(scales)
    assert scales[-1] == 1.0
    assert len(set(scales)) > 8


def test_body_of_a_classifier_takes_its_own_rate_by_either_name() -> None:
    for key in ("body_lr", "encoder_lr"):
        net = SwitchableNet(build_classifier(name="resnet18", classes=3), [64, 32])
        values = rates(net, validate(OptimConfig, {"lr": 1.0, key: 0.1}, "the test"))
        for name, rate in values.items():
            assert rate == (1.0 if name.startswith(("network.fc", "scores")) else 0.1)
