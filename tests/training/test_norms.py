"""Runs of networks with LayerNorm: what the configuration says, what the checkpoint holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from classification.task import CLASSIFICATION
from datasets.classification import TestImages
from rsseg.common.checkpoint import write_checkpoint
from rsseg.common.config import ConfigError
from rsseg.load import load_checkpoint
from rsseg.switchable.convert import switchable_layers
from rsseg.switchable.net import SwitchableNet
from rsseg.training.config import FreezeConfig, OptimConfig
from rsseg.training.ema import WeightAverage
from rsseg.training.freezing import Freezing
from rsseg.training.layer_decay import layer_scales
from rsseg.training.optim import build_optimizer, set_learning_rates
from rsseg.training.task import build_net, describe
from rsseg.weights.matching import plain_name
from tests.helpers.small_images import image_config, write_images
from tests.helpers.small_runs import small_config

CPU = torch.device("cpu")
VIT: dict[str, Any] = {
    "name": "vit_tiny_patch16_224",
    "classes": 3,
    "options": {
        "img_size": 48,
        "dynamic_img_size": True,
        "patch_size": 8,
        "embed_dim": 16,
        "depth": 1,
        "num_heads": 2,
    },
}


def config(tmp_path: Path, **values: Any) -> Any:
    return image_config(
        write_images(tmp_path),
        **{"model": VIT, "resolutions": [48, 32], "norms": ["layer"], **values},
    )


def trained(net: SwitchableNet) -> SwitchableNet:
    """Give each set values of its own."""
    torch.manual_seed(0)
    for layer in switchable_layers(net):
        for one in layer.sets.values():
            for parameter in one.parameters():
                nn.init.uniform_(parameter, 0.5, 1.5)
    return net.eval()


@torch.no_grad()
def test_checkpoint_of_a_run_with_layer_norms_is_read_again(tmp_path: Path) -> None:
    settings = config(tmp_path)
    net = trained(build_net(CLASSIFICATION, settings, CPU))
    metadata = describe(CLASSIFICATION, settings, net, TestImages(settings))
    write_checkpoint(tmp_path / "last.pt", {"metadata": metadata.plain(), "net": net.state_dict()})
    loaded, _, read = load_checkpoint(tmp_path / "last.pt")
    assert read.norms == loaded.norms == ("layer",)
    for side in (48, 40, 32):
        images = torch.randn(2, 3, side, side)
        assert torch.equal(loaded.predict(images), net.predict(images))


def test_start_from_one_set_goes_into_every_set(tmp_path: Path) -> None:
    plain = config(tmp_path, resolutions=[48], distillation="none")
    net = trained(build_net(CLASSIFICATION, plain, CPU))
    metadata = describe(CLASSIFICATION, plain, net, TestImages(plain))
    write_checkpoint(tmp_path / "last.pt", {"metadata": metadata.plain(), "net": net.state_dict()})
    settings = config(tmp_path / "again", init=str(tmp_path / "last.pt"))
    state = build_net(CLASSIFICATION, settings, CPU).state_dict()
    norms = {name for name in state if ".sets." in name}
    assert norms
    for name in norms:
        source = name.replace(".sets.32.", ".sets.48.")
        assert torch.equal(state[name], net.state_dict()[source])


def test_shared_norms_are_left_as_they_are(tmp_path: Path) -> None:
    net = build_net(CLASSIFICATION, config(tmp_path, batchnorm="shared"), CPU)
    assert not list(switchable_layers(net))


def test_average_of_the_weights_holds_every_set(tmp_path: Path) -> None:
    net = build_net(CLASSIFICATION, config(tmp_path), CPU)
    average, before = WeightAverage(net, 0.75), trained(net)
    average.update(before)
    for ours, other in zip(switchable_layers(average.net), switchable_layers(net), strict=True):
        for name, one in ours.sets.items():
            gamma = other.sets[name].state_dict()["weight"]
            expected = 0.75 * torch.ones(16) + 0.25 * gamma
            torch.testing.assert_close(one.state_dict()["weight"], expected)


def test_private_gamma_and_beta_can_go_without_weight_decay(tmp_path: Path) -> None:
    net = build_net(CLASSIFICATION, config(tmp_path), CPU)
    groups = build_optimizer(net, OptimConfig(lr=0.1, decay_batchnorm=False)).param_groups
    free = {id(p) for group in groups if not group["weight_decay"] for p in group["params"]}
    sets = [p for layer in switchable_layers(net) for p in layer.parameters()]
    assert free - {id(net.scores)} == {id(p) for p in sets}


def test_networks_without_batchnorm_name_the_setting(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"this one has 3 LayerNorm: .*norms: \[layer\]"):
        build_net(CLASSIFICATION, config(tmp_path, norms=["batch"]), CPU)


def test_size_that_a_network_does_not_take_comes_with_the_options_that_help(tmp_path: Path) -> None:
    options = {**VIT["options"], "dynamic_img_size": False}
    settings = config(tmp_path, model={**VIT, "options": options})
    with pytest.raises(ValueError, match=r'set model\.options: .*"dynamic_img_size": true'):
        build_net(CLASSIFICATION, settings, CPU)


def given_tables(net: SwitchableNet) -> SwitchableNet:
    """Give each resolution a table of positions of its own."""
    torch.manual_seed(1)
    for name, tensor in trained(net).state_dict().items():
        if "pos_embed" in name:
            nn.init.normal_(tensor)
    return net


@torch.no_grad()
def test_checkpoint_of_a_run_with_private_positions_is_read_again(tmp_path: Path) -> None:
    settings = config(tmp_path, positions="private")
    net = given_tables(build_net(CLASSIFICATION, settings, CPU))
    metadata = describe(CLASSIFICATION, settings, net, TestImages(settings))
    write_checkpoint(tmp_path / "last.pt", {"metadata": metadata.plain(), "net": net.state_dict()})
    loaded, _, read = load_checkpoint(tmp_path / "last.pt")
    assert read.positions == loaded.positions == "private"
    for side in (48, 40, 32):
        images = torch.randn(2, 3, side, side)
        assert torch.equal(loaded.predict(images), net.predict(images))


@pytest.mark.parametrize("positions", ["shared", "private"])
def test_table_of_the_start_goes_to_every_resolution(tmp_path: Path, positions: str) -> None:
    plain = config(tmp_path, resolutions=[48], distillation="none")
    net = given_tables(build_net(CLASSIFICATION, plain, CPU))
    metadata = describe(CLASSIFICATION, plain, net, TestImages(plain))
    write_checkpoint(tmp_path / "last.pt", {"metadata": metadata.plain(), "net": net.state_dict()})
    init = str(tmp_path / "last.pt")
    settings = config(tmp_path / "again", init=init, positions=positions)
    state = build_net(CLASSIFICATION, settings, CPU).state_dict()
    tables = [tensor for name, tensor in state.items() if "pos_embed" in name]
    assert len(tables) == (2 if positions == "private" else 1)
    assert all(torch.equal(table, net.state_dict()["network.pos_embed"]) for table in tables)


def test_start_from_private_tables_takes_mixed_ones_or_the_largest(tmp_path: Path) -> None:
    settings = config(tmp_path, positions="private")
    net = given_tables(build_net(CLASSIFICATION, settings, CPU))
    metadata = describe(CLASSIFICATION, settings, net, TestImages(settings))
    write_checkpoint(tmp_path / "last.pt", {"metadata": metadata.plain(), "net": net.state_dict()})
    start = {"init": str(tmp_path / "last.pt"), "resolutions": [48, 40]}
    held, name = net.state_dict(), "network.switchable_positions.sets.{}.pos_embed"
    large, small = held[name.format(48)], held[name.format(32)]
    other = build_net(
        CLASSIFICATION, config(tmp_path / "private", positions="private", **start), CPU
    )
    torch.testing.assert_close(other.state_dict()[name.format(40)], 0.5 * large + 0.5 * small)
    shared = build_net(CLASSIFICATION, config(tmp_path / "shared", **start), CPU)
    assert torch.equal(shared.state_dict()["network.pos_embed"], large)


def test_average_of_the_weights_holds_every_table(tmp_path: Path) -> None:
    net = build_net(CLASSIFICATION, config(tmp_path, positions="private"), CPU)
    average, first = WeightAverage(net, 0.75), net.state_dict()
    first = {name: tensor.clone() for name, tensor in first.items() if "pos_embed" in name}
    average.update(given_tables(net))
    for name, before in first.items():
        expected = 0.75 * before + 0.25 * net.state_dict()[name]
        torch.testing.assert_close(average.net.state_dict()[name], expected)


def test_tables_learn_as_fast_as_a_shared_one(tmp_path: Path) -> None:
    nets = [
        build_net(CLASSIFICATION, config(tmp_path / positions, positions=positions), CPU)
        for positions in ("shared", "private")
    ]
    choices: tuple[dict[str, Any], ...] = (
        *({"layer_decay": 0.5}, {"no_decay": True}),
        {"body_lr": 0.01},
    )
    for values in choices:
        (shared,), private = (settings_of(net, OptimConfig(lr=0.1, **values)) for net in nets)
        assert private == [shared, shared]


class Body(nn.Sequential):
    """Layers, and a table that is added to what the first one gives."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 8, 8, 8), nn.Conv2d(8, 16, 3), nn.GroupNorm(2, 16))
        self.pos_embed = nn.Parameter(torch.zeros(1, 8, 4, 4))


@pytest.mark.parametrize("inside", [False, True])
def test_tables_of_a_network_not_of_timm_learn_and_freeze_as_a_shared_one(inside: bool) -> None:
    scales, frozen = [], []
    for positions in ("shared", "private"):
        body = Body()
        network = nn.Sequential(body, nn.Linear(16, 2)) if inside else body
        if not inside:
            body.append(nn.Linear(16, 2))
        net = SwitchableNet(network, [64, 32], norms=["group"], positions=positions)
        values = layer_scales(net.network, 0.5).items()
        scales.append({plain_name(name)[0]: scale for name, scale in values})
        Freezing(net, [FreezeConfig(part="body")]).apply(0)
        parameters = net.network.named_parameters()
        frozen.append({plain_name(name)[0]: p.requires_grad for name, p in parameters})
    assert scales[0] == scales[1]
    assert frozen[0] == frozen[1]
    table = "0.pos_embed" if inside else "pos_embed"
    assert frozen[0][table] is not inside  # A table of the network itself lies in no part of it.


def test_tables_are_no_part_that_could_be_frozen_by_name(tmp_path: Path) -> None:
    net = build_net(CLASSIFICATION, config(tmp_path, positions="private"), CPU)
    with pytest.raises(ValueError, match="no part of the network is named 'switchable_positions'"):
        Freezing(net, [FreezeConfig(part="switchable_positions")])


def settings_of(net: SwitchableNet, settings: OptimConfig) -> list[tuple[float, float]]:
    """Return learning rate and weight decay of each table of positions."""
    tables = {id(p) for name, p in net.named_parameters() if "pos_embed" in name}
    optimizer = build_optimizer(net, settings)
    set_learning_rates(optimizer, {"encoder": 0.1, "other": 1.0})
    return [
        (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
        if id(parameter) in tables
    ]


def test_private_positions_are_refused_with_shared_norms() -> None:
    with pytest.raises(ConfigError, match="positions 'private' needs to know the resolution"):
        small_config(batchnorm="shared", positions="private")


def test_settings_about_statistics_are_refused_without_batchnorm() -> None:
    adapt = {"recalibrate": 8}
    with pytest.raises(ConfigError, match=r"norms is layer, whose statistics are each image's"):
        small_config(init="last.pt", adapt=adapt, norms=["layer"])
    with pytest.raises(ConfigError, match="norms"):
        small_config(norms=["instance"])
