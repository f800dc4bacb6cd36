"""Weights of anyone in a network of ours, compared with the network that they are from."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from segmentation_models_pytorch.base import SegmentationModel
from torch import Tensor, nn

from rsseg.classifiers.build import build_classifier
from rsseg.common.state_files import State
from rsseg.segmentation.model import build_segmenter
from rsseg.switchable.convert import switchable_layers
from rsseg.switchable.net import SwitchableNet
from rsseg.weights.loading import load_start
from rsseg.weights.source import Weights, open_weights
from tests.helpers.small_checkpoint import write_checkpoint
from tests.helpers.small_networks import randomise

IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def weights(state: State, **values: Any) -> Weights:
    return Weights(name="w.pth", state=dict(state), **values)


def classifier(classes: int = 7, *, seed: int = 1) -> nn.Module:
    torch.manual_seed(seed)
    network = build_classifier(name="resnet18", classes=classes)
    randomise(network)
    return network.eval()


def segmenter(classes: int = 3, *, seed: int = 1, **values: Any) -> nn.Module:
    torch.manual_seed(seed)
    network = build_segmenter(
        **{"encoder_name": "resnet18", "architecture": "unet", "classes": classes, **values}
    )
    randomise(network)
    return network.eval()


@pytest.mark.parametrize(
    "prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "model.", "net.model.", "network."]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_network_of_every_resolution_repeats_the_source(prefix: str, dtype: torch.dtype) -> None:
    source = classifier().to(dtype).float()
    state = {f"{prefix}{k}": v.to(dtype) for k, v in source.state_dict().items()}
    net = SwitchableNet(classifier(seed=2), [64, 32]).eval()
    loaded = load_start(net, weights(state), key="init")
    assert (loaded.loaded, loaded.new, loaded.left_out) == (122, (), ())
    for resolution in (64, 32):
        assert torch.equal(net.predict(IMAGES, resolution), source(IMAGES))


def test_counters_of_profilers_and_missing_counters_do_not_matter() -> None:
    state = {k: v for k, v in classifier().state_dict().items() if "num_batches" not in k}
    state |= {"layer1.total_ops": torch.zeros(1), "total_params": torch.zeros(1)}
    network = classifier(seed=2)
    loaded = load_start(network, weights(state), key="init")
    assert torch.equal(network.eval()(IMAGES), classifier()(IMAGES))
    assert sorted(loaded.left_out) == ["layer1.total_ops", "total_params"]


def test_head_of_other_classes_starts_anew_and_the_rest_is_kept() -> None:
    source, network = classifier(7), classifier(5, seed=2)
    loaded = load_start(network, weights(source.state_dict()), key="init")
    line = "init w.pth: loaded 120, new 2 (head: 5 classes), left out 2 (fc.bias, fc.weight)"
    assert str(loaded) == line
    assert torch.equal(network.get_parameter("conv1.weight"), source.get_parameter("conv1.weight"))


def test_headless_file_leaves_the_head_new() -> None:
    state = {k: v for k, v in classifier().state_dict().items() if not k.startswith("fc")}
    loaded = load_start(classifier(seed=2), weights(state), key="init")
    assert str(loaded) == "init w.pth: loaded 120, new 2 (head: 7 classes), left out 0"


@pytest.mark.parametrize("name", ["head.fc", "linear"])
def test_head_under_another_name_is_an_error_that_names_it(name: str) -> None:
    state = {k.replace("fc.", f"{name}."): v for k, v in classifier().state_dict().items()}
    message = rf"of the shape of fc\.weight \(name it so, .*\): {name}\.weight"
    with pytest.raises(ValueError, match=message):
        load_start(classifier(seed=2), weights(state), key="init")
    loaded = load_start(classifier(5), weights(state), key="init")
    assert loaded.heads == {"fc": 5}


@pytest.mark.parametrize(
    ("prefix", "other"),
    [("ema.", "model."), ("ema.", ""), ("", "model."), ("module.", "net."), ("net.", "student.")],
)
@pytest.mark.parametrize("turned", [False, True])
def test_of_two_sets_of_weights_one_is_taken_and_both_are_named(
    prefix: str, other: str, turned: bool
) -> None:
    parts = [{f"{prefix}{k}": v for k, v in classifier().state_dict().items()}]
    parts.append({f"{other}{k}": v for k, v in classifier(seed=3).state_dict().items()})
    first, second = reversed(parts) if turned else parts
    network = classifier(seed=2)
    loaded = load_start(network, weights({**first, **second}), key="init")
    assert torch.equal(network.eval()(IMAGES), classifier()(IMAGES))
    line = f"weights that fit under {prefix!r} and {other!r}, the first are taken"
    assert line in str(loaded)


def test_encoder_of_a_classifier_leaves_decoder_and_head_of_a_segmenter_new() -> None:
    network = segmenter()
    loaded = load_start(network, weights(classifier().state_dict()), key="init")
    assert "loaded 120, new 52 (decoder, head: 3 classes), left out 2" in str(loaded)
    own = network.get_submodule("encoder").state_dict()
    assert all(torch.equal(own[k], v) for k, v in classifier().state_dict().items() if k in own)


def test_segmenter_goes_over_whole_and_its_encoder_alone_says_what_is_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, network = segmenter(), segmenter(seed=2)
    load_start(network, weights(source.state_dict()), key="init")
    assert torch.equal(network(IMAGES), source(IMAGES))
    torch.save(source.state_dict(), tmp_path / "unet.pth")
    segmenter(encoder_weights=str(tmp_path / "unet.pth"))
    assert "its decoder is left out; init: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet34", r"w\.pth does not fit this ResNet; missing: layer1\.2"),
        ("densenet121", r"does not fit this DenseNet; missing: .*features"),
    ],
)
def test_weights_of_another_network_are_an_error_with_the_differences(
    name: str, message: str
) -> None:
    network = build_classifier(name=name, classes=7)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        load_start(network, weights(classifier().state_dict()), key="init")
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_encoder_of_timm_leaves_out_what_follows_it(tmp_path: Path) -> None:
    source = timm.create_model("tf_efficientnet_lite0").eval()
    torch.save(source.state_dict(), tmp_path / "w.pth")
    network = segmenter(
        encoder_name="tu-tf_efficientnet_lite0", encoder_weights=str(tmp_path / "w.pth")
    )
    features = network.get_submodule("encoder").eval()
    load_start(features, weights(source.state_dict()), key="init", whole=True)
    expected = source.forward_intermediates(IMAGES, intermediates_only=True)
    assert torch.equal(features(IMAGES)[-1], expected[-1])


def test_deeper_network_is_not_cut_for_a_flat_encoder_of_timm() -> None:
    state = timm.create_model("convnext_femto", depths=(2, 2, 9, 2)).state_dict()
    network = segmenter(encoder_name="tu-convnext_femto", architecture="unet")
    with pytest.raises(ValueError, match=r"extra: stages\.2\.blocks\.6"):
        load_start(network, weights(state), key="init")


@pytest.mark.parametrize("architecture", ["unet", "refinenet"])
def test_folder_of_a_saved_segmenter_repeats_it(tmp_path: Path, architecture: str) -> None:
    source = segmenter(architecture=architecture)
    assert isinstance(source, SegmentationModel)
    source.save_pretrained(str(tmp_path))
    network = segmenter(architecture=architecture, seed=2)
    load_start(network, open_weights(str(tmp_path)), key="init")
    assert torch.equal(network.eval()(IMAGES), source.eval()(IMAGES))


def test_smaller_network_does_not_take_the_first_layers_of_a_larger_one() -> None:
    state = build_classifier(name="resnet34", classes=7).state_dict()
    with pytest.raises(ValueError, match=r"does not fit this ResNet; extra: layer1\.2"):
        load_start(classifier(), weights(state), key="init")


def spoilt(change: Callable[[Tensor], Tensor]) -> State:
    state = dict(classifier().state_dict())
    state["conv1.weight"] = change(state["conv1.weight"])
    return state


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w * math.nan, r"not finite: conv1\.weight"),
        (lambda w: w.to(torch.int8), r"not numbers with a fraction: conv1\.weight"),
        (lambda w: w[:1], r"other shape: conv1\.weight \(1, 3, 7, 7\) instead of \(64"),
    ],
)
def test_tensor_that_cannot_be_used_is_named(
    change: Callable[[Tensor], Tensor], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        load_start(classifier(), weights(spoilt(change)), key="init")


def test_sets_go_to_their_resolution_and_others_are_interpolated() -> None:
    source = SwitchableNet(classifier(), [96, 64])
    randomise(source)
    with torch.no_grad():
        assert source.scores is not None
        source.scores.copy_(torch.tensor([2.0, 1.0]))
    net = SwitchableNet(classifier(seed=2), [96, 80, 32])
    values = weights(source.state_dict(), checkpoint={"resolutions": [96, 64]})
    loaded = load_start(net, values, key="init")
    assert loaded.notes == ("BatchNorm sets: 80 between 96 and 64, 32 from 64",)
    pairs = zip(switchable_layers(source), switchable_layers(net), strict=True)
    for ours, theirs in pairs:
        for tensor in ("weight", "bias", "running_mean", "running_var"):
            large, small = (getattr(ours.sets[name], tensor) for name in ("96", "64"))
            own = {name: getattr(theirs.sets[name], tensor) for name in ("96", "80", "32")}
            assert torch.equal(own["96"], large)
            assert torch.equal(own["32"], small)
            torch.testing.assert_close(own["80"], (large + small) / 2)
    assert net.scores is not None
    torch.testing.assert_close(net.scores.detach(), torch.tensor([2.0, 1.5, 1.0]))


def test_private_sets_serve_a_shared_batchnorm_with_the_largest() -> None:
    source = SwitchableNet(classifier(), [96, 64])
    randomise(source)
    net = SwitchableNet(classifier(seed=2), [64, 32], batchnorm="shared", scores=False)
    loaded = load_start(net, weights(source.state_dict()), key="init")
    assert loaded.notes == ("the shared BatchNorm takes the set 96",)
    assert torch.equal(net.eval().predict(IMAGES, 64), source.eval().predict(IMAGES, 96))


@pytest.mark.parametrize("quantizer", ["lq", "lsq"])
def test_quantised_network_starts_from_full_precision(quantizer: str) -> None:
    config = {"weights": 2, "activations": 2, "quantizer": quantizer}
    network = build_classifier(name="resnet18", classes=7, quantization=config)
    loaded = load_start(network, weights(classifier().state_dict()), key="init")
    assert all("quantizer" in name for name in loaded.new)
    assert torch.equal(
        network.get_parameter("layer1.0.conv1.weight"),
        classifier().get_parameter("layer1.0.conv1.weight"),
    )
    if quantizer == "lsq":
        weight = network.get_parameter("layer1.0.conv1.weight")
        step = network.get_parameter("layer1.0.conv1.weight_quantizer.step")
        assert step.item() == pytest.approx(2 * float(weight.detach().abs().mean()))


def test_file_of_rsseg_is_refused_where_its_sets_would_be_lost(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "last.pt")
    with pytest.raises(
        ValueError, match=r"model\.weights: .*last\.pt is a checkpoint of rsseg.*init"
    ):
        build_classifier(name="mobilenetv2_035", weights=str(path))
    with pytest.raises(ValueError, match=r"model\.encoder_weights: .* is a checkpoint of rsseg"):
        segmenter(encoder_weights=str(path))


def first_loss(network: nn.Module, classes: int) -> float:
    torch.manual_seed(3)
    images = torch.randn(8, 3, 96, 96)
    with torch.no_grad():
        logits = network.train()(images)
    target = torch.randint(0, classes, (8, *logits.shape[2:]))
    return float(F.cross_entropy(logits, target))


@pytest.mark.parametrize(
    "name",
    [
        *("resnet18", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0", "densenet121"),
        *("timm/resnet18d", "timm/mobilenetv3_small_050", "timm/efficientnet_lite0"),
        *("timm/densenet121", "timm/regnety_002"),
    ],
)
def test_first_loss_with_a_new_head_is_that_of_guessing(name: str) -> None:
    torch.manual_seed(0)
    state = build_classifier(name=name, classes=1000).state_dict()
    network = build_classifier(name=name, classes=30)
    load_start(network, weights(state), key="init")
    assert first_loss(network, 30) == pytest.approx(math.log(30), rel=0.03)


@pytest.mark.parametrize("architecture", ["unet", "fpn", "deeplabv3plus", "refinenet", "manet"])
def test_first_loss_of_a_segmenter_with_a_new_head_is_that_of_guessing(architecture: str) -> None:
    torch.manual_seed(0)
    values: dict[str, Any] = {"architecture": architecture, "encoder_name": "resnet18"}
    if architecture == "refinenet":
        values["decoder_channels"] = 32
    state = build_segmenter(**values, classes=9).state_dict()
    network = build_segmenter(**values, classes=30)
    load_start(network, weights(state), key="init")
    assert first_loss(network, 30) == pytest.approx(math.log(30), rel=0.03)


def test_network_without_weights_starts_as_before() -> None:
    torch.manual_seed(0)
    network = build_classifier(name="resnet18", classes=30)
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18(num_classes=30).state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("name", ["resnet18", "timm/resnet18d", "timm/convnext_atto"])
def test_saved_folder_and_bare_state_give_the_same(tmp_path: Path, name: str) -> None:
    if not name.startswith("timm/"):
        source: nn.Module = torchvision.models.resnet18(num_classes=4)
        torch.save(source.state_dict(), tmp_path / "w.pth")
        place = tmp_path / "w.pth"
    else:
        source = timm.create_model(name.removeprefix("timm/"), num_classes=4)
        timm.models.save_for_hf(source, tmp_path)
        place = tmp_path
    network = build_classifier(name=name, classes=4)
    load_start(network, open_weights(str(place)), key="init")
    assert torch.equal(network.eval()(IMAGES), source.eval()(IMAGES))
