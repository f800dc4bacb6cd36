"""Means of BatchNorm sets over channels, by layer and resolution: `rsseg batchnorms` (Fig. 6)."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pictures
from torch import nn

from rsseg.analysis.batchnorms import channel_means, plot_batchnorms
from rsseg.cli import main as cli
from rsseg.switchable.convert import convert_to_switchable
from rsseg.switchable.net import SwitchableNet
from tests.helpers.small_checkpoint import write_checkpoint
from tests.helpers.small_networks import randomise


def small() -> nn.Module:
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4, affine=False))
    return convert_to_switchable(plain, [64, 32])


def test_means_are_those_of_the_state_dict() -> None:
    network = small()
    randomise(network)
    state = network.state_dict()
    means = {(one.layer, one.resolution): one for one in channel_means(network)}
    assert list(means) == [("1", "64"), ("1", "32"), ("2", "64"), ("2", "32")]
    keys = {"gamma": "weight", "beta": "bias", "mean": "running_mean", "variance": "running_var"}
    for (layer, resolution), one in means.items():
        for quantity, key in keys.items():
            tensor = state.get(f"{layer}.sets.{resolution}.{key}")
            expected = np.nan if tensor is None else np.mean(tensor.numpy())
            np.testing.assert_allclose(one.values[quantity], expected, rtol=1e-6)


def test_layer_that_is_not_converted_is_shared() -> None:
    plain = nn.Sequential(nn.BatchNorm2d(2), nn.BatchNorm2d(3))
    network = convert_to_switchable(plain, [64, 32], where=lambda name, _: name == "0")
    found = [(one.index, one.resolution, one.channels) for one in channel_means(network)]
    assert found == [(1, "64", 2), (1, "32", 2), (2, "shared", 3)]
    net = SwitchableNet(nn.Sequential(nn.BatchNorm2d(2)), [64, 32], batchnorm="shared")
    assert [one.resolution for one in channel_means(net.network)] == ["shared"]


def test_each_resolution_is_a_curve_in_each_of_four_axes() -> None:
    network = small()
    with torch.no_grad():
        for layer in network[1].sets.values():  # type: ignore[index]
            layer.bias.fill_(3)
    axes = plot_batchnorms(channel_means(network)).axes
    assert [one.get_ylabel().split(",")[0] for one in axes] == ["gamma", "beta", "mean", "variance"]
    assert [[line.get_label() for line in one.lines] for one in axes] == [["64", "32"]] * 4
    np.testing.assert_array_equal(np.asarray(axes[1].lines[0].get_ydata()), [3, np.nan])


def test_verb_writes_a_picture_and_its_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint, out = write_checkpoint(tmp_path / "last.pt", "segmentation"), tmp_path / "fig6.png"
    command = ["batchnorms", str(checkpoint), "--out", str(out)]
    assert cli.main(command) == 0
    assert capsys.readouterr().out == f"batchnorms: {out}\nnumbers: {tmp_path / 'fig6.csv'}\n"
    with Pictures.open(out) as picture:
        assert picture.format == "PNG"
    with (tmp_path / "fig6.csv").open() as file:
        rows = list(csv.DictReader(file))
    state = torch.load(checkpoint, weights_only=True)["net"]
    (first,) = [row for row in rows if row["index"] == "1" and row["resolution"] == "32"]
    gamma = state[f"network.{first['layer']}.sets.32.weight"]
    assert float(first["gamma"]) == pytest.approx(float(gamma.mean()), rel=1e-5)
    assert len(rows) == sum(key.endswith("running_var") for key in state)


def test_no_file_is_written_over_and_no_batchnorm_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fig6.csv").write_text("mine")
    assert cli.main(["batchnorms", "any.pt", "--out", str(tmp_path / "fig6.png")]) == 2
    assert "fig6.csv exists; choose another name, or give --overwrite" in capsys.readouterr().err
    with pytest.raises(ValueError, match="Conv2d has no BatchNorm"):
        channel_means(nn.Conv2d(3, 3, 1))
