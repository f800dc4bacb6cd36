"""Networks without BatchNorm in one ONNX file: the graph chooses what `predict` chooses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import timm
import torch
from timm.layers import LayerNorm2d, RmsNorm
from torch import Tensor, nn

from rsseg.runtime.onnx.model import model_of_all, model_of_one
from rsseg.runtime.onnx.openvino import core
from rsseg.segmentation.model import build_segmenter
from rsseg.switchable.convert import private_layers
from rsseg.switchable.net import SwitchableNet
from rsseg.switchable.norms import NORMS
from rsseg.switchable.positions import Positions

SIZES = [(64, 64), (32, 32), (48, 48), (40, 80), (90, 63), (96, 96)]


class Norms(nn.Module):
    """Every kind of norm, of maps and of vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3)
        )
        self.maps = nn.Sequential(nn.GroupNorm(2, 8), nn.GELU(), LayerNorm2d(8))
        self.vectors = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 6), RmsNorm(6), nn.Linear(6, 5))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.vectors(self.maps(self.body(x)).mean((2, 3)))
        return logits


def trained(
    network: nn.Module, sides: Sequence[int] = (64, 32), positions: Positions = "shared"
) -> SwitchableNet:
    """Return a network with other values in each set."""
    torch.manual_seed(0)
    net = SwitchableNet(network, sides, norms=NORMS, positions=positions)
    for layer in private_layers(net):
        for tensor in layer.state_dict().values():
            if tensor.is_floating_point():
                nn.init.uniform_(tensor, 0.5, 1.5)
    return net.eval()


def images(height: int, width: int, batch: int) -> Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


def assert_predicts(
    net: SwitchableNet, model: Any, sizes: list[tuple[int, int]], atol: float = 2e-5
) -> None:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    for index, (height, width) in enumerate(sizes):
        views = images(height, width, batch=1 + index % 2)
        with torch.no_grad():
            expected = net.predict(views).numpy()
        (logits,) = session.run(["logits"], {"images": views.numpy()})
        np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=atol)


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize("rule", ["interpolate", "nearest"])
def test_one_model_mixes_the_sets_of_every_norm(
    compact: bool, rule: str, capfd: pytest.CaptureFixture[str]
) -> None:
    net = trained(Norms())
    net.unseen = rule
    model = model_of_all(net, compact=compact)
    capfd.readouterr()
    assert_predicts(net, model, SIZES)
    assert "".join(capfd.readouterr()) == ""  # ONNX Runtime warns of nothing.


NETWORKS: dict[str, dict[str, Any]] = {
    "convnext_atto": {"depths": (1, 1, 2, 1), "dims": (8, 8, 16, 16)},
    "vit_tiny_patch16_224": {
        "img_size": 64,
        "dynamic_img_size": True,
        "patch_size": 8,
        "embed_dim": 24,
        "depth": 2,
        "num_heads": 2,
    },
}


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize(
    ("name", "positions"),
    [
        ("convnext_atto", "shared"),
        ("vit_tiny_patch16_224", "shared"),
        ("vit_tiny_patch16_224", "private"),
    ],
)
def test_network_of_timm_is_one_model(name: str, positions: Positions, compact: bool) -> None:
    network = timm.create_model(name, num_classes=5, **NETWORKS[name])
    net = trained(network, (64, 48, 32), positions)
    sizes = [size for size in SIZES if size != (90, 63)]  # No whole patches of a ViT.
    assert_predicts(net, model_of_all(net, compact=compact), sizes)
    with torch.no_grad():
        expected = net.predict(images(48, 48, 2))
    session = onnxruntime.InferenceSession(model_of_one(net, 48).SerializeToString())
    (logits,) = session.run(["logits"], {"images": images(48, 48, 2).numpy()})
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=2e-5)


@pytest.mark.slow
def test_swin_is_refused_for_any_size_and_written_for_one() -> None:
    """Its windows pad by an amount that depends on the size: torch.export would not end."""
    options = {"embed_dim": 24, "depths": (1, 1), "num_heads": (1, 2), "num_classes": 5}
    swin = timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=96, strict_img_size=False, **options
    )
    net = trained(swin, (96, 64))
    with pytest.raises(ValueError, match=r"grow into expressions without end; .*--resolution R"):
        model_of_all(net)
    session = onnxruntime.InferenceSession(model_of_one(net, 64).SerializeToString())
    (logits,) = session.run(["logits"], {"images": images(64, 64, 2).numpy()})
    with torch.no_grad():
        expected = net.predict(images(64, 64, 2))
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=2e-5)


SEGMENTERS: dict[str, dict[str, Any]] = {
    "segformer": {"encoder_name": "mit_b0"},
    "upernet": {"encoder_name": "tu-convnext_atto", "decoder_channels": 16},
    "pspnet": {"encoder_name": "resnet18"},  # It pools to 1, 2, 3 and 6 cells a side.
    "dpt": {
        "encoder_name": "tu-vit_tiny_patch16_224",
        "options": {"img_size": 96, "dynamic_img_size": True},
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("architecture", SEGMENTERS)
def test_segmenter_is_one_model(architecture: str) -> None:
    torch.manual_seed(0)
    network = build_segmenter(architecture=architecture, classes=3, **SEGMENTERS[architecture])
    net = trained(network, (96, 64), "private" if architecture == "dpt" else "shared")
    sizes = [(96, 96), (64, 64), (64, 96), (128, 160)]
    assert_predicts(net, model_of_all(net), sizes, atol=1e-3)  # Of logits up to 50.


def test_openvino_computes_the_same(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    net = trained(Norms())
    path = tmp_path / "net.onnx"
    path.write_bytes(model_of_all(net).SerializeToString())
    # Else it computes in bf16 where the processor can.
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = core().compile_model(str(path), "CPU", exact)
    for side in (64, 48, 32):
        views = images(side, side, 2)
        with torch.no_grad():
            expected = net.predict(views).numpy()
        logits = next(iter(compiled(views.numpy()).values()))
        np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-4)
