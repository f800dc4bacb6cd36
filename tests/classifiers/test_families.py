"""What is trained can be read again: one small network of every family of torchvision and timm."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
import torchvision

from rsseg.classifiers.build import build_classifier
from rsseg.classifiers.sizes import without_memory
from rsseg.common.checkpoint import write_checkpoint
from rsseg.load import load_checkpoint
from rsseg.switchable.net import SwitchableNet
from rsseg.switchable.norms import fitting_norms
from tests.helpers.small_networks import randomise

SMALL = (
    "atto",
    "femto",
    "pico",
    "nano",
    "_xxs",
    "_xs",
    "_t0",
    "_s0",
    "tiny",
    "_050",
    "small",
    "18",
)
LARGEST = 60e6  # parameters


def torchvision_families() -> dict[str, list[str]]:
    families: dict[str, list[str]] = {}
    for name in torchvision.models.list_models(module=torchvision.models):
        module = torchvision.models.get_model_builder(name).__module__
        families.setdefault(module.rpartition(".")[2], []).append(name)
    return families


def timm_families() -> dict[str, list[str]]:
    families = {module: timm.list_models(module=module) for module in timm.list_modules()}
    return {module: names for module, names in families.items() if names}


def small_first(names: list[str]) -> list[str]:
    """Sort names so that small networks come first, as far as their names say so."""
    sizes = {n: min((i for i, s in enumerate(SMALL) if s in n), default=len(SMALL)) for n in names}
    return sorted(names, key=lambda name: (sizes[name], len(name), name))


def round_trip(path: Path, name: str, side: int) -> None:
    """Build, save and load a network, and compare what the two predict."""
    torch.manual_seed(0)
    network = build_classifier(name=name, classes=7)
    norms = fitting_norms(network)
    if "batch" not in norms:
        with pytest.raises(ValueError, match="no BatchNorm to convert"):
            SwitchableNet(network, [side])
    if not norms:
        pytest.skip(f"{name} has no norms")
    net = SwitchableNet(network, [side], norms=norms)
    randomise(net)
    metadata = {
        "task": "classification",
        "model": {"name": name, "classes": 7},
        "resolutions": [side],
        "norms": norms,
        "preprocessing": {},
    }
    write_checkpoint(path, {"metadata": metadata, "net": net.state_dict()})
    loaded, _, _ = load_checkpoint(path)
    images = torch.rand(1, 3, side, side)
    with torch.no_grad():
        torch.manual_seed(1)
        expected = net.eval().predict(images)
        torch.manual_seed(1)
        assert torch.equal(loaded.predict(images), expected)
    # A network of its own class again: state dicts of one resolution serve there.
    special = loaded.specialize(side)
    fresh = build_classifier(name=name, classes=7)
    fresh.load_state_dict(special.state_dict())
    with torch.no_grad():
        torch.manual_seed(1)
        assert torch.equal(fresh.eval()(images), expected)


def parameters(name: str) -> int:
    network = without_memory(lambda: build_classifier(name=name, classes=7))
    return sum(parameter.numel() for parameter in network.parameters())


def test_network_that_refuses_states_without_versions_is_read_again(tmp_path: Path) -> None:
    round_trip(tmp_path / "last.pt", "mnasnet0_5", 32)


@pytest.mark.slow
@pytest.mark.parametrize("family", torchvision_families())
def test_torchvision_family_is_read_again(tmp_path: Path, family: str) -> None:
    name = small_first(torchvision_families()[family])[0]
    side = {"inception": 299, "maxvit": 224, "vision_transformer": 224}.get(family, 64)
    round_trip(tmp_path / "last.pt", name, side)


@pytest.mark.slow
@pytest.mark.parametrize("family", timm_families())
def test_timm_family_is_read_again(tmp_path: Path, family: str) -> None:
    names = small_first(timm_families()[family])
    name = next((n for n in names[:5] if parameters(f"timm/{n}") < LARGEST), None)
    if name is None:
        pytest.skip(f"none of {names[:5]} has fewer than {LARGEST:g} parameters")
    cfg = timm.get_pretrained_cfg(name, allow_unregistered=True)
    side = 224 if cfg is None else max(cfg.input_size[1:])
    round_trip(tmp_path / "last.pt", f"timm/{name}", side)
