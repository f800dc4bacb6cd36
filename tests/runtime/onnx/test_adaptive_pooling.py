"""Pooling to several cells in a file for images of any size."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rsseg.runtime.onnx.adaptive_pooling import as_products, shares
from rsseg.runtime.onnx.model import model_of_all, model_of_one
from rsseg.switchable.net import SwitchableNet

SIZES = [(64, 64), (48, 48), (32, 32), (40, 40), (40, 72), (96, 96), (20, 20)]


@pytest.mark.parametrize("cells", [1, 2, 3, 6])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 12])
def test_products_are_the_pooling(cells: int, size: int) -> None:
    maps = torch.randn(2, 3, size, 4, dtype=torch.float64)
    expected = F.adaptive_avg_pool2d(maps, (cells, 4))
    torch.testing.assert_close(shares(cells, size, maps) @ maps, expected)


def network(cells: int | tuple[int | None, int | None]) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 4, 8, 8), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(cells), nn.ReLU())
    )


@torch.no_grad()
@pytest.mark.parametrize("cells", [(2, 3), (None, 2), (1, None)])
def test_layers_compute_as_before_inside_and_behind_the_block(
    cells: tuple[int | None, int | None],
) -> None:
    pooled, images = network(cells).eval(), torch.randn(1, 3, 40, 56)
    before = pooled(images)
    with as_products(pooled):
        torch.testing.assert_close(pooled(images), before)
    assert torch.equal(pooled(images), before)


def assert_file_computes(model: onnxruntime.InferenceSession, net: SwitchableNet) -> None:
    for height, width in SIZES:
        images = torch.randn(2, 3, height, width)
        with torch.no_grad():
            expected = net.predict(images, None if len(net.resolutions) > 1 else 64)
        (logits,) = model.run(["logits"], {"images": images.numpy()})
        np.testing.assert_allclose(logits, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("cells", [2, 3, 6])
def test_file_of_any_size_pools_every_size_rightly(cells: int) -> None:
    net = SwitchableNet(network(cells), [64]).eval()
    model = model_of_one(net, 64, sides="any").SerializeToString()
    assert_file_computes(onnxruntime.InferenceSession(model), net)


@pytest.mark.parametrize("compact", [False, True])
def test_file_of_all_resolutions_pools_every_size_rightly(compact: bool) -> None:
    net = SwitchableNet(network(3), [64, 32]).eval()
    nn.init.uniform_(net.state_dict()["network.1.sets.32.weight"], 0.5, 1.5)
    model = model_of_all(net, compact=compact).SerializeToString()
    assert_file_computes(onnxruntime.InferenceSession(model), net)


def test_one_cell_stays_the_usual_pooling() -> None:
    model = model_of_one(SwitchableNet(network(1), [64]).eval(), 64, sides="any")
    assert not {"MatMul", "Range"} & {node.op_type for node in model.graph.node}
    pooled: Tensor = network(1)(torch.randn(1, 3, 16, 16))
    assert pooled.shape == (1, 4, 1, 1)
