"""Facts about rsseg/segmentation/model.py."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from pydantic import ValidationError
from segmentation_models_pytorch.encoders import get_encoder

from rsseg.common.messages import check_name
from rsseg.segmentation.model import ARCHITECTURES, ModelConfig, build_segmenter

SMALL: dict[str, Any] = {"encoder_name": "resnet18", "classes": 3}


def test_every_architecture_of_the_library_has_its_name_and_refinenet_is_first() -> None:
    assert next(iter(ARCHITECTURES)) == "refinenet"
    library = {name.lower() for name in smp.MODEL_ARCHITECTURES_MAPPING}
    assert library <= set(ARCHITECTURES)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_builds_and_gives_the_logits_of_its_classes(name: str) -> None:
    encoder = "tu-vit_tiny_patch16_224" if name == "dpt" else "resnet18"
    side = 224 if name == "dpt" else 128
    network = build_segmenter(architecture=name.upper(), encoder_name=encoder, classes=3).eval()
    with torch.no_grad():
        logits = network(torch.zeros(1, 3, side, side))
    expected = side // 4 if name == "refinenet" else side
    assert logits.shape == (1, 3, expected, expected)


def test_config_a_run_with_a_config_and_keywords_build_the_same_network() -> None:
    config = ModelConfig(**SMALL, decoder_channels=8)
    logits = []
    for arguments in ({"config": config}, {"config": SimpleNamespace(model=config)}, None):
        torch.manual_seed(0)
        keywords = {**SMALL, "decoder_channels": 8} if arguments is None else arguments
        logits.append(build_segmenter(**keywords).eval()(torch.ones(1, 3, 64, 64)))
    assert torch.equal(logits[0], logits[1])
    assert torch.equal(logits[0], logits[2])


def test_default_is_the_published_network() -> None:
    with torch.device("meta"):
        network = build_segmenter()
    assert sum(p.numel() for p in network.parameters()) == 118_096_232


def test_library_network_equals_the_one_built_directly() -> None:
    torch.manual_seed(0)
    ours = build_segmenter(
        architecture="FPN", **SMALL, dropout=0.3, options={"decoder_pyramid_channels": 16}
    )
    torch.manual_seed(0)
    theirs = smp.FPN(
        "resnet18",
        encoder_weights=None,
        classes=3,
        decoder_dropout=0.3,
        decoder_pyramid_channels=16,
    )
    assert ours.get_submodule("decoder.dropout").p == theirs.decoder.dropout.p == 0.3
    images = torch.ones(1, 3, 64, 64)
    assert torch.equal(ours.eval()(images), theirs.eval()(images))


def test_one_width_becomes_a_width_per_level_where_the_architecture_has_several() -> None:
    ours = build_segmenter(architecture="unet", **SMALL, decoder_channels=64)
    theirs = smp.Unet(
        "resnet18", encoder_weights=None, decoder_channels=(64, 32, 16, 8, 4), classes=3
    )
    assert [p.shape for p in ours.parameters()] == [p.shape for p in theirs.parameters()]
    shallow = build_segmenter(
        architecture="unet", **SMALL, decoder_channels=64, options={"encoder_depth": 3}
    )
    assert shallow(torch.zeros(2, 3, 32, 32)).shape == (2, 3, 32, 32)


def test_widths_can_be_given_one_by_one_as_an_option() -> None:
    network = build_segmenter(
        architecture="unet", **SMALL, options={"decoder_channels": [32, 16, 16, 8, 8]}
    )
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 3, 32, 32)


@pytest.mark.parametrize("name", ["unet", "pspnet"])
def test_encoder_weights_from_a_file_reach_every_architecture(tmp_path: Path, name: str) -> None:
    torch.manual_seed(3)
    state = get_encoder("resnet18", weights=None).state_dict()
    torch.save(state, tmp_path / "resnet18.pth")
    network = build_segmenter(
        architecture=name, **SMALL, encoder_weights=str(tmp_path / "resnet18.pth")
    )
    loaded = network.get_parameter("encoder.layer1.0.conv1.weight")
    assert torch.equal(loaded, state["layer1.0.conv1.weight"])


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"architecture": "unte"}, "unknown architecture 'unte'; did you mean 'unet'"),
        ({"architecture": "zzz"}, "unknown architecture 'zzz'; there are: refinenet, unet"),
        ({"encoder_name": "resnet19"}, "unknown encoder 'resnet19'; did you mean"),
        (
            {"encoder_nam": "resnet18"},
            "unknown key 'encoder_nam' in build_segmenter; did you mean 'encoder_name'",
        ),
        (
            {"architecture": "fpn", "options": {"decoder_piramid_channels": 8}},
            "unknown option of fpn 'decoder_piramid_channels'; did you mean 'decoder_pyramid",
        ),
        ({"options": {"classes": 3}}, "'classes' cannot be an option: set it beside"),
        (
            {"architecture": "unet", "options": {"activation": "sigmoid"}},
            "'activation' cannot be an option: a segmenter returns logits",
        ),
        ({"architecture": "fpn", "decoder_channels": 8}, "fpn has no decoder_channels; it takes:"),
        ({"architecture": "unet", "dropout": 0.1}, "unet has no dropout; it takes:"),
        (
            {"decoder_channels": 8, "options": {"decoder_channels": 8}},
            "decoder_channels is set twice",
        ),
        (
            {"encoder_name": "tu-resnet18", "options": {"drop_pth_rate": 0.1}},
            "drop_pth_rate",
        ),
        ({"architecture": "fpn", "encoder_name": "tu-resnet18", "options": {"x_y": 1}}, "x_y"),
    ],
)
def test_errors_name_what_is_wrong_and_what_is_known(
    keywords: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build_segmenter(**{"encoder_name": "resnet18", **keywords})


def test_config_and_keywords_together_are_refused() -> None:
    with pytest.raises(TypeError, match=r"not both; got keywords \['classes'\]"):
        build_segmenter(ModelConfig(), classes=3)


def test_config_is_frozen_strict_and_checked() -> None:
    config = ModelConfig()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.classes = 3  # type: ignore[misc]
    with pytest.raises(ValidationError, match="classes"):
        ModelConfig(classes=0)
    with pytest.raises(ValidationError, match="Unexpected keyword"):
        ModelConfig(clases=3)  # type: ignore[call-arg]


def test_known_names_pass() -> None:
    check_name("thing", "one", ["one", "two"])
