"""Published files, written here in their layout, against torchvision networks made by hand.

The writer knows the published names from lists of layers, the reader from rules over torchvision's
names: two sources.
"""

from __future__ import annotations

import copy
import itertools
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

import rsseg
from rsseg.classifiers.published import load_published
from rsseg.common.checkpoint import CheckpointError, write_checkpoint
from tests.helpers.small_networks import randomise

RESOLUTIONS = (224, 192, 160, 128, 96)
State = dict[str, Tensor]
Build = Callable[[], nn.Module]
RESNET: Build = partial(torchvision.models.resnet18, num_classes=7)
MOBILENET: Build = partial(torchvision.models.mobilenet_v2, num_classes=7)
NARROW: Build = partial(torchvision.models.mobilenet_v2, num_classes=7, width_mult=0.65)


def layers_of_mobilenet() -> list[str]:
    """Published names of MobileNetV2's layers with parameters, from the input to the logits."""
    blocks = [f"features.1.conv.{i}" for i in (0, 1, 3, 4)]
    blocks += [f"features.{k}.conv.{i}" for k in range(2, 18) for i in (0, 1, 3, 4, 6, 7)]
    return ["features.0.0", "features.0.1", *blocks, "conv.0", "conv.1", "classifier"]


def published(plains: list[nn.Module], prefix: str = "module.") -> State:
    """Put ordinary networks that are equal but for BatchNorm into one published state dict."""
    layers = [[layer for layer in plain.modules() if layer._parameters] for plain in plains]
    names = [name for name, layer in plains[0].named_modules() if layer._parameters]
    if isinstance(plains[0], torchvision.models.MobileNetV2):
        names = layers_of_mobilenet()
    state: State = {}
    for name, *same in zip(names, *layers, strict=True):
        private = isinstance(same[0], nn.BatchNorm2d)
        for number, layer in enumerate(same if private else same[:1]):
            part = f"bn_{number}" if private else "module"
            for tensor, value in layer.state_dict().items():
                state[f"{prefix}{name}.{part}.{tensor}"] = value
    return state


def plain_networks(build: Build, count: int = 5) -> list[nn.Module]:
    """Ordinary networks with random BatchNorms of their own and all other tensors in common."""
    torch.manual_seed(0)
    first = build().eval()
    shared = {
        id(tensor): tensor
        for layer in first.modules()
        if not isinstance(layer, nn.BatchNorm2d)
        for tensor in layer.parameters(recurse=False)
    }
    plains = [copy.deepcopy(first, dict(shared)) for _ in range(count)]
    for plain in plains:
        randomise(plain)
    return plains


def write(path: Path, state: State, **options: Any) -> Path:
    content = {"epoch": 120, "arch": "parallel_vgg", "best_acc0": 73.1, "best_acc": 80.1}
    momentum = {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.0}]}
    torch.save({**content, "state_dict": state, "optimizer": momentum}, path, **options)
    return path


def hollow(build: Build, count: int = 5) -> State:
    """A published state dict of the right shapes that takes no room: one zero, expanded."""
    with torch.device("meta"):
        state = published([build() for _ in range(count)])
    hollows = {name: torch.zeros(()).expand(value.shape) for name, value in state.items()}
    return {**hollows, "module.alpha": torch.arange(float(count))}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model_best.pth.tar"


@pytest.mark.parametrize("build", [RESNET, MOBILENET, NARROW])
@torch.no_grad()
def test_each_resolution_predicts_what_its_ordinary_network_does(path: Path, build: Build) -> None:
    plains = plain_networks(build)
    alpha = torch.tensor([3.0, 2.5, 2.0, 1.0, -1.0])
    net, preprocessing = rsseg.load_published(
        str(write(path, {**published(plains), "module.alpha": alpha}))
    )
    assert not net.training
    assert net.resolutions == RESOLUTIONS
    images = torch.rand(2, 3, 32, 32)
    outputs = [plain(images) for plain in plains]
    for resolution, output in zip(RESOLUTIONS, outputs, strict=True):
        assert torch.equal(net.predict(images, resolution), output)
    assert min((a - b).abs().max() for a, b in itertools.pairwise(outputs)) > 1e-3
    assert net.scores is not None
    assert torch.equal(net.scores, alpha)
    assert (preprocessing.mean, preprocessing.std) == ((0, 0, 0), (1, 1, 1))
    assert preprocessing.fit == "crop"


@torch.no_grad()
def test_prefix_counters_alpha_and_the_values_beside_the_weights_may_be_absent(path: Path) -> None:
    plains = plain_networks(RESNET)
    state = published(plains, prefix="")
    torch.save({k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}, path)
    net, _ = load_published(path)
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(net.predict(images, 96), plains[4](images))
    assert net.scores is None


@torch.no_grad()
def test_other_resolutions_are_named_by_the_caller_and_old_files_are_read(path: Path) -> None:
    plains = plain_networks(RESNET, count=2)
    # As torch wrote its files when the weights were published.
    write(path, published(plains), _use_new_zipfile_serialization=False)
    net, _ = load_published(path, resolutions=[224, 128])
    images = torch.rand(2, 3, 32, 32)
    for resolution, plain in zip((224, 128), plains, strict=True):
        assert torch.equal(net.predict(images, resolution), plain(images))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("resnet18", 11_727_912), ("resnet50", 25_769_512), ("mobilenet_v2", 3_641_320)],
)
def test_full_size_networks_have_the_parameters_of_the_paper(
    path: Path, name: str, parameters: int
) -> None:
    build = getattr(torchvision.models, name)
    net, _ = load_published(write(path, hollow(build)))
    held = sum(parameter.numel() for parameter in net.parameters())
    assert held == parameters + 5  # alpha
    with torch.device("meta"):
        own = build().state_dict()
    read = net.specialize(224).state_dict()
    assert {n: t.shape for n, t in read.items()} == {n: t.shape for n, t in own.items()}


# Faults


def refusal(path: Path, **options: Any) -> list[str]:
    with pytest.raises(CheckpointError, match=f"^{path} ") as caught:
        load_published(path, **options)
    text = str(caught.value).removeprefix(f"{path} ")
    return [line.strip() for line in text.splitlines()]


def test_misfits_are_listed_in_order_and_by_the_names_in_the_file(path: Path) -> None:
    state = hollow(RESNET)
    for name in ("module.layer1.0.conv1.module.weight", "module.bn1.bn_2.running_var"):
        del state[name]
    state["module.zoo.weight"] = state["attic.weight"] = torch.zeros(1)
    state["module.bn1.bn_0.bias"] = torch.zeros(65)
    state["module.alpha"] = torch.zeros(4)
    assert refusal(write(path, state)) == [
        "does not hold a published resnet18, the network that comes closest:",
        "missing: module.bn1.bn_2.running_var, module.layer1.0.conv1.module.weight",
        "not expected: attic.weight, module.zoo.weight",
        "of another shape: module.alpha (4,) instead of (5,), "
        "module.bn1.bn_0.bias (65,) instead of (64,)",
    ]


def test_missing_layers_of_mobilenet_have_published_names(path: Path) -> None:
    state = hollow(NARROW)
    gone = ["classifier.module.bias", "conv.1.bn_3.weight", "features.2.conv.6.module.weight"]
    for name in gone:
        del state[f"module.{name}"]
    kind, missing = refusal(write(path, state))
    assert "mobilenetv2" in kind
    assert missing == "missing: " + ", ".join(f"module.{name}" for name in gone)


def test_set_that_is_missing_everywhere_is_missed_because_of_alpha(path: Path) -> None:
    state = {name: value for name, value in hollow(RESNET).items() if "bn_4" not in name}
    _, missing = refusal(write(path, state))
    assert missing.startswith("missing: module.bn1.bn_4.bias, module.bn1.bn_4.running_mean, ")
    assert missing.endswith(" and 72 more")  # 20 layers of 4 tensors, 8 of them named


def test_network_without_its_last_layer_misses_that_only(path: Path) -> None:
    state = hollow(RESNET)
    del state["module.fc.module.weight"], state["module.fc.module.bias"]
    _, missing = refusal(write(path, state))
    assert missing == "missing: module.fc.module.bias, module.fc.module.weight"


@pytest.mark.parametrize(("count", "given"), [(2, None), (5, [224, 192])])
def test_number_of_resolutions_must_be_that_of_the_sets(
    path: Path, count: int, given: list[int] | None
) -> None:
    (line,) = refusal(write(path, hollow(RESNET, count)), resolutions=given)
    assert line.startswith(f"holds {count} BatchNorm sets for each layer, but there are ")
    assert "give `resolutions`" in line


def test_ordinary_network_is_sent_to_build_classifier(path: Path) -> None:
    torch.save(RESNET().state_dict(), path)
    (line,) = refusal(path)
    assert "holds no private BatchNorm sets (names such as bn1.bn_0.weight)" in line
    assert "build_classifier(name=..., weights=path)" in line


def test_checkpoint_of_rsseg_is_sent_to_load_checkpoint(path: Path) -> None:
    write_checkpoint(path, {"metadata": {}, "net": {}})
    (line,) = refusal(path)
    assert line.endswith("not a published one; read it with load_checkpoint(path)")


class Trap:
    """What a malicious file holds: unpickled the ordinary way, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


def test_nothing_in_a_file_is_run(tmp_path: Path, path: Path) -> None:
    sprung = tmp_path / "sprung"
    torch.save({"state_dict": {"module.alpha": torch.ones(5)}, "arch": Trap(sprung)}, path)
    (line,) = refusal(path)
    assert "nothing in it was run" in line
    assert not sprung.exists()
    torch.load(path, weights_only=False)
    assert sprung.exists()


@pytest.mark.parametrize(
    "content", [b"", b"<html>quota exceeded</html>", "half", {"state_dict": 1}, [torch.ones(1)]]
)
def test_damaged_and_foreign_files_are_refused(path: Path, content: object) -> None:
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(hollow(RESNET) if content == "half" else content, path)
    if content == "half":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (line,) = refusal(path)
    assert line.startswith("is not a published checkpoint, or is damaged: expected tensors")
