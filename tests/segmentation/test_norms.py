"""Segmenters on encoders without BatchNorm: all norms private, outputs as before."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from rsseg.segmentation.model import build_segmenter
from rsseg.switchable.convert import switchable_layers
from rsseg.switchable.net import SwitchableNet
from rsseg.switchable.norms import NORMS

SIZES = {"img_size": 96, "dynamic_img_size": True}
SEGMENTERS: dict[str, dict[str, Any]] = {
    "segformer": {"encoder_name": "mit_b0"},
    "upernet": {"encoder_name": "tu-convnext_atto"},
    "dpt": {"encoder_name": "tu-vit_tiny_patch16_224", "options": SIZES},
}


@pytest.mark.parametrize("architecture", SEGMENTERS)
@torch.no_grad()
def test_segmenter_keeps_its_outputs_with_private_norms(architecture: str) -> None:
    keywords = SEGMENTERS[architecture]
    torch.manual_seed(0)
    network = build_segmenter(architecture=architecture, classes=3, **keywords).eval()
    plain = copy.deepcopy(network)
    net = SwitchableNet(network, [96, 64], norms=NORMS).eval()
    layer_norms = [layer for layer in plain.modules() if isinstance(layer, nn.LayerNorm)]
    private = [layer.active_set for layer in switchable_layers(net)]
    assert len(layer_norms) > 10
    assert sum(isinstance(layer, nn.LayerNorm) for layer in private) == len(layer_norms)
    views = [torch.randn(1, 3, side, side) for side in (96, 64)]
    for logits, view in zip(net(views), views, strict=True):
        assert torch.equal(logits, plain(view))
    for layer in switchable_layers(net):
        for one in layer.sets.values():
            for parameter in one.parameters(recurse=False):
                nn.init.uniform_(parameter, 0.5, 1.5)
    for view, side in zip(views, (96, 64), strict=True):
        plain.load_state_dict(net.specialize(side).state_dict(), strict=True)
        assert torch.equal(plain(view), net.predict(view))
