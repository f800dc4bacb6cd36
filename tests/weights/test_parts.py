"""The layers that make the logits, and those of the body, compared with what timm says of them."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision

from rsseg.classifiers.build import build_classifier
from rsseg.segmentation.model import ARCHITECTURES, build_segmenter
from rsseg.switchable.net import SwitchableNet
from rsseg.training.config import OptimConfig
from rsseg.training.optim import build_optimizer
from rsseg.weights.parts import body_parts, head_layers, head_part

TIMM = (
    *("resnet18", "densenet121", "mobilenetv3_small_050", "efficientnet_lite0", "regnety_002"),
    *("convnext_atto", "hrnet_w18_small", "dla34", "levit_128s", "repvit_m0_9", "vovnet39a"),
    *("ghostnet_050", "xcit_nano_12_p8_224", "mobileone_s0", "efficientformer_l1", "volo_d1_224"),
)


@pytest.mark.parametrize("name", TIMM)
def test_head_is_what_timm_calls_the_classifier(name: str) -> None:
    with torch.device("meta"):
        network = timm.create_model(name, num_classes=7)
    classifier = network.get_classifier()
    theirs = classifier if isinstance(classifier, tuple) else (classifier,)
    expected = {id(layer) for module in theirs for layer in module.modules()}
    assert head_layers(network)
    assert {id(layer) for layer in head_layers(network).values()} <= expected
    assert all(layer.weight.shape[0] == 7 for layer in head_layers(network).values())


@pytest.mark.parametrize(
    ("name", "head"),
    [("resnet18", "fc"), ("mobilenetv2", "classifier"), ("densenet121", "classifier")],
)
def test_head_of_torchvision_is_what_it_is_called(name: str, head: str) -> None:
    network = build_classifier(name=name, classes=7)
    assert head_part(network) == head
    assert head not in body_parts(network)


def test_parts_of_a_network_with_a_mapping_are_those_inside_and_auxiliary_heads_none() -> None:
    network = torchvision.models.segmentation.fcn_resnet50(
        weights=None, weights_backbone=None, num_classes=7, aux_loss=True
    )
    net = SwitchableNet(network, [64, 32], output="out")
    assert head_part(net.network) == "network.classifier"
    assert list(head_layers(net.network)) == ["network.classifier.4"]
    assert body_parts(net.network) == ["network.backbone"]
    optimizer = build_optimizer(net, OptimConfig(lr=0.1, body_lr=0.01))
    sizes = dict.fromkeys(("encoder", "other"), 0)
    for group in optimizer.param_groups:
        sizes[group["rate"]] += sum(parameter.numel() for parameter in group["params"])
    assert sizes["encoder"] == sum(p.numel() for p in network.backbone.parameters())
    assert sizes["other"] == sum(p.numel() for p in net.parameters()) - sizes["encoder"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_body_of_a_segmenter_is_its_encoder(architecture: str) -> None:
    encoder = "tu-vit_tiny_patch16_224" if architecture == "dpt" else "resnet18"
    options = {"dynamic_img_size": True} if architecture == "dpt" else {}
    network = build_segmenter(
        architecture=architecture, encoder_name=encoder, classes=7, options=options
    )
    assert body_parts(network) == ["encoder"]
    assert head_part(network) == "segmentation_head"
