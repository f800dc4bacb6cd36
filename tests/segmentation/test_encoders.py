"""Facts about rsseg/segmentation/encoders.py."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from segmentation_models_pytorch.encoders import get_encoder
from torch import nn

from rsseg.segmentation import encoders as encoder_weights
from rsseg.segmentation.encoders import load_encoder_weights
from tests.helpers.small_refinenet import images, small


def test_torchvision_file_gives_the_features_of_torchvision(tmp_path: Path) -> None:
    torch.manual_seed(3)
    source = torchvision.models.resnet18().eval()
    torch.save(source.state_dict(), tmp_path / "resnet18.pth")
    network = small(encoder_weights=str(tmp_path / "resnet18.pth"))
    x = source.maxpool(source.relu(source.bn1(source.conv1(images()))))
    x = source.layer4(source.layer3(source.layer2(source.layer1(x))))
    assert torch.equal(network.encoder(images())[-1], x)


@pytest.mark.parametrize("prefix", ["", "module.", "encoder.", "module.encoder."])
def test_prefixes_and_old_files_without_counters_are_read(tmp_path: Path, prefix: str) -> None:
    torch.manual_seed(3)
    state = get_encoder("resnet18", weights=None).state_dict()
    kept = {k: v for k, v in state.items() if "num_batches_tracked" not in k}
    torch.save({"state_dict": {prefix + k: v for k, v in kept.items()}}, tmp_path / "old.pth")
    loaded = small(encoder_weights=str(tmp_path / "old.pth")).encoder.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in kept.items())


@pytest.mark.parametrize("name", ["tu-resnet10t", "tu-convnext_atto"])
def test_timm_files_fit_timm_encoders(tmp_path: Path, name: str) -> None:
    import timm

    torch.manual_seed(3)
    model = timm.create_model(name.removeprefix("tu-"), num_classes=10)
    save_file(model.state_dict(), tmp_path / "timm.safetensors")
    encoder = get_encoder(name, weights=None)
    load_encoder_weights(encoder, name, str(tmp_path / "timm.safetensors"))
    assert torch.equal(
        encoder.eval()(images())[-1], model.eval().forward_intermediates(images())[1][-1]
    )


def test_old_names_of_densenet_are_read(tmp_path: Path) -> None:
    encoder = get_encoder("densenet121", weights=None)
    state = encoder.state_dict()
    old = {
        k.replace(".norm1.", ".norm.1.").replace(".conv2.", ".conv.2."): v for k, v in state.items()
    }
    assert old.keys() != state.keys()
    torch.save(old, tmp_path / "densenet.pth")
    load_encoder_weights(encoder, "densenet121", str(tmp_path / "densenet.pth"))


def test_weights_of_colour_images_serve_other_channels(tmp_path: Path) -> None:
    state = get_encoder("resnet18", weights=None).state_dict()
    torch.save(state, tmp_path / "rgb.pth")
    network = small(encoder_weights=str(tmp_path / "rgb.pth"), in_channels=1)
    expected = state["conv1.weight"].sum(dim=1, keepdim=True)
    assert torch.allclose(network.encoder.conv1.weight, expected)


def test_file_that_does_not_fit_lists_missing_extra_and_shapes_in_order(tmp_path: Path) -> None:
    state = get_encoder("resnet18", weights=None).state_dict()
    for old, new in (("layer1.0.conv1.weight", "zebra.weight"), ("bn1.bias", "apple.bias")):
        state[new] = state.pop(old)
    state["bn1.weight"] = torch.ones(3)
    torch.save(state, tmp_path / "other.pth")
    expected = (
        r"other\.pth does not fit encoder 'resnet18'; "
        r"missing: bn1\.bias, layer1\.0\.conv1\.weight; "
        r"extra: apple\.bias, zebra\.weight; "
        r"other shape: bn1\.weight \(3,\) instead of \(64,\)"
    )
    with pytest.raises(ValueError, match=expected):
        small(encoder_weights=str(tmp_path / "other.pth"))


@pytest.mark.parametrize("name", ["damaged.pth", "damaged.safetensors"])
def test_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"not a state dict")
    with pytest.raises(ValueError, match=f"{name} cannot be read as a state dict"):
        small(encoder_weights=str(tmp_path / name))


def test_file_with_something_else_is_refused(tmp_path: Path) -> None:
    torch.save([1, 2, 3], tmp_path / "list.pth")
    with pytest.raises(ValueError, match=r"list\.pth must hold a state dict"):
        small(encoder_weights=str(tmp_path / "list.pth"))


def test_neither_a_name_nor_a_file_names_both() -> None:
    with pytest.raises(ValueError, match=r"no weights named 'imagnet' and .*: imagenet, ssl, swsl"):
        small(encoder_weights="imagnet")


def test_failed_download_says_what_failed_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr(encoder_weights, "hf_hub_download", offline)
    monkeypatch.setattr("timm.create_model", offline)
    for name in ("resnet18", "tu-resnet18"):
        encoder = nn.Identity()
        with pytest.raises(
            ConnectionError, match=rf"imagenet weights of encoder '{name}'.*path of"
        ):
            load_encoder_weights(encoder, name, "imagenet")


def test_downloaded_weights_are_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    state = get_encoder("resnet18", weights=None).state_dict()
    save_file(state, tmp_path / "model.safetensors")
    asked: list[tuple[object, ...]] = []

    def download(*arguments: object, **_: object) -> str:
        asked.append(arguments)
        return str(tmp_path / "model.safetensors")

    monkeypatch.setattr(encoder_weights, "hf_hub_download", download)
    network = small(encoder_weights="imagenet")
    assert asked == [("smp-hub/resnet18.imagenet", "model.safetensors")]
    assert torch.equal(network.encoder.conv1.weight, state["conv1.weight"])
