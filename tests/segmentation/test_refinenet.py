"""Facts about rsseg/segmentation/refinenet.py."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from segmentation_models_pytorch.encoders import get_encoder
from torch import Tensor, nn

from rsseg.segmentation.refinenet import RefineNet
from tests.helpers.small_refinenet import images, small


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


# The decoder, written out a second time as plain formulas over the state dict.


def by_hand(network: RefineNet, features: list[Tensor]) -> Tensor:
    weights = network.state_dict()

    def conv(x: Tensor, name: str) -> Tensor:
        bias = weights.get(f"{name}.bias")
        return F.conv2d(x, weights[f"{name}.weight"], bias, padding=1)

    def units(x: Tensor, name: str, count: int) -> Tensor:
        for i in range(count):
            first = conv(x.clamp(min=0), f"{name}.{i}.first")
            x = x + conv(first.clamp(min=0), f"{name}.{i}.second")
        return x

    result = None
    for level, feature in enumerate(reversed(features[2:])):
        name = f"decoder.levels.{level}"
        x = units(conv(feature, f"{name}.reduce"), f"{name}.adapt", 2)
        if result is not None:
            coarser = conv(result, f"{name}.fuse_coarser")
            x = conv(x, f"{name}.fuse") + F.interpolate(
                coarser, x.shape[2:], mode="bilinear", align_corners=True
            )
        tops = [x.clamp(min=0)]
        for i in range(4):
            tops.append(conv(F.max_pool2d(tops[-1], 5, 1, 2), f"{name}.pool.convs.{i}"))
        result = units(torch.stack(tops).sum(dim=0), f"{name}.refine", 3)
    assert result is not None
    return conv(result, "segmentation_head.1")


def test_decoder_equals_the_formulas_written_out() -> None:
    network = small().double()
    batch = images(75, 101).double()
    expected = by_hand(network, network.encoder(batch))
    assert torch.allclose(network(batch), expected, rtol=1e-10, atol=1e-12)


def test_published_parameter_count() -> None:
    with torch.device("meta"):
        network = RefineNet()
    assert parameters(network) == 118_096_232
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    # Two more BatchNorm sets give the published 118.31 M; all of them are in the encoder.
    assert parameters(network) + 2 * sum(map(parameters, norms)) == 118_306_920
    assert not any(isinstance(m, nn.BatchNorm2d) for m in network.decoder.modules())


def test_the_coarsest_level_is_twice_as_wide_and_only_some_convolutions_have_biases() -> None:
    decoder = small().decoder
    widths = [len(decoder.get_parameter(f"levels.{i}.reduce.weight")) for i in range(4)]
    assert widths == [16, 8, 8, 8]
    with_bias = [n for n, m in decoder.named_modules() if getattr(m, "bias", None) is not None]
    assert with_bias
    assert all(name.endswith(".first") for name in with_bias)


@pytest.mark.parametrize(
    "encoder",
    [
        "resnet18",
        "vgg11",
        "densenet121",
        "mobilenet_v2",
        "efficientnet-b0",
        "mobileone_s0",
        "mit_b0",
        "tu-resnet10t",
        "tu-convnext_atto",
        "tu-tf_mobilenetv3_small_minimal_100",
        "tu-vgg11",
    ],
)
def test_encoders_of_every_family_give_a_quarter_of_any_size(encoder: str) -> None:
    # Shapes are enough here; one family computes with numbers when it is created.
    device = "cpu" if encoder == "mit_b0" else "meta"
    with torch.device(device):
        network = small(encoder)
    for size in ((64, 64), (75, 101)):
        logits = network(torch.zeros(2, 3, *size, device=device))
        assert logits.shape[:2] == (2, 5)
        # Odd sizes are rounded up by some encoders and down by others.
        assert all(n // 4 <= m <= -(-n // 4) for m, n in zip(logits.shape[2:], size, strict=True))


def test_every_weight_of_the_network_gets_a_gradient() -> None:
    network = small().train()
    network(images()).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_dropout_covers_the_two_coarsest_features_and_the_classifier() -> None:
    network = small()
    features = [torch.ones(1, 64 * 2**level, 8, 8) for level in range(4)]
    seen: list[Tensor] = []
    for i in range(4):
        reduce = network.decoder.get_submodule(f"levels.{i}.reduce")
        reduce.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network.train()
    network.decoder(features)
    assert [bool((x == 0).any()) for x in seen] == [True, True, False, False]
    assert network.segmentation_head[0].p == 0.5
    assert small(dropout=0.0).segmentation_head[0].p == 0


@pytest.mark.parametrize("width", [8, 32])
def test_first_logits_are_of_order_one_at_every_width(width: int) -> None:
    torch.manual_seed(0)
    network = RefineNet("resnet18", classes=40, decoder_channels=width, dropout=0.0)
    assert 0.05 < network(images()).std() < 2


def test_saved_network_loads_again_without_the_encoder_weights_file(tmp_path: Path) -> None:
    path = tmp_path / "encoder.pth"
    torch.save(get_encoder("resnet18", weights=None).state_dict(), path)
    network = small(encoder_weights=str(path), in_channels=4)
    path.unlink()
    network.save_pretrained(tmp_path / "saved")
    loaded = RefineNet.from_pretrained(tmp_path / "saved").eval()
    batch = images(channels=4)
    assert torch.equal(loaded(batch), network(batch))
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert (config["classes"], config["encoder_weights"]) == (5, None)
    assert "RefineNet.from_pretrained" in (tmp_path / "saved" / "README.md").read_text()


def test_options_of_the_encoder_are_saved_too(tmp_path: Path) -> None:
    network = small("tu-resnet10t", drop_path_rate=0.0)
    network.save_pretrained(tmp_path)
    loaded = RefineNet.from_pretrained(tmp_path).eval()
    assert torch.equal(loaded(images()), network(images()))


def test_predict_equals_forward_in_eval_mode() -> None:
    network = small()
    expected = network(images())
    assert torch.equal(network.train().predict(images()), expected)


def test_frozen_encoder_keeps_weights_and_statistics() -> None:
    network = small()
    network.freeze_encoder()
    before = copy.deepcopy(network.encoder.state_dict())
    network.train()(images()).square().mean().backward()
    assert all(p.grad is None for p in network.encoder.parameters())
    assert all(p.grad is not None for p in network.decoder.parameters())
    assert all(torch.equal(before[k], v) for k, v in network.encoder.state_dict().items())
    network.unfreeze_encoder()
    assert all(p.requires_grad for p in network.encoder.parameters())


def test_encoder_without_the_four_features_is_named() -> None:
    with pytest.raises(ValueError, match=r"1/4, 1/8, 1/16 and 1/32.*'tu-vit_tiny_patch16_224'"):
        small("tu-vit_tiny_patch16_224")


def test_unknown_encoder_names_the_closest() -> None:
    with pytest.raises(ValueError, match=r"unknown encoder 'resnet19'; did you mean .*'resnet18'"):
        small("resnet19")
    with pytest.raises(ValueError, match=r"unknown encoder 'tu-resnt18'; did you mean .*resnet18"):
        small("tu-resnt18")


def test_bad_numbers_and_options_are_refused() -> None:
    with pytest.raises(ValueError, match="classes must be at least 1, got 0"):
        RefineNet("resnet18", classes=0)
    with pytest.raises(ValueError, match="dropout must be in"):
        small(dropout=1.0)
    with pytest.raises(ValueError, match=r"only 'tu-' encoders take options.*drop_rate"):
        small(drop_rate=0.1)
