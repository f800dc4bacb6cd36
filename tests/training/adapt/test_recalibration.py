"""Statistics measured anew at the start: spoilt ones are mended, better ones are left."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rsseg.common.config import ConfigError
from rsseg.switchable.net import SwitchableNet
from rsseg.training.adapt.recalibration import Recalibration, every_second, recalibrate_start
from rsseg.training.config import RunConfig
from rsseg.training.task import EvalData
from tests.helpers.small_runs import small_config

SIDES = [32, 16]
BATCH = 4


class Images:
    """Training images, drawn once: patterns of 2 x 2 patches of one colour each.

    Args:
        count: Number of images.
        deviation: Of their values from 127; narrow images have a small one.
    """

    def __init__(self, count: int, deviation: float = 60.0) -> None:
        source = torch.Generator().manual_seed(0)
        values = 127 + deviation * torch.randn(count, 3, 2, 2, generator=source)
        self.patches = values.clamp(0, 255).round()
        self.requests: list[tuple[int, int]] = []

    def calibration(self, resolution: int, images: int) -> Iterator[Tensor]:
        self.requests.append((resolution, images))
        views = F.interpolate(self.patches[:images], size=resolution, mode="nearest").byte()
        return iter(torch.split(views, BATCH))


def config(**values: Any) -> RunConfig:
    return small_config(**{"resolutions": SIDES, "init": "w.pth", "adapt": values})


def views_of(images: Images, part: slice | Tensor, side: int) -> Tensor:
    every = torch.cat(list(images.calibration(side, len(images.patches))))
    return config().preprocessing.normalise(every[part])


def trained(images: Images, network: nn.Module) -> SwitchableNet:
    """Give a network whose statistics are those of the images at the largest resolution."""
    torch.manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.normal_(layer.weight)
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
    network.train()
    with torch.no_grad():
        network(views_of(images, slice(None), SIDES[0]))
    return SwitchableNet(network, SIDES).eval()


def classifier() -> nn.Sequential:
    pool = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5))
    return nn.Sequential(nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6), nn.ReLU(), *pool)


def segmenter() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 5, 1))


def statistics(net: SwitchableNet, name: str) -> dict[str, Tensor]:
    state = net.state_dict()
    return {key: v.clone() for key, v in state.items() if f"sets.{name}.running" in key}


def run(settings: RunConfig, net: SwitchableNet, images: Images) -> list[Recalibration]:
    return recalibrate_start(settings, net, cast(EvalData, images))


@pytest.mark.parametrize("build", [classifier, segmenter])
def test_spoilt_statistics_are_mended(build: Any, capsys: pytest.CaptureFixture[str]) -> None:
    images = Images(32)
    net = trained(images, build())
    good = statistics(net, "16")
    for key, value in net.state_dict().items():
        if "sets.16.running" in key:
            value.mul_(3.0).add_(2.0)
    before = copy.deepcopy(net.state_dict())
    (report,) = run(config(recalibrate=16), net, images)
    assert report.is_better
    assert report.after < 0.1 * report.before
    assert report.images == 16
    for key, value in statistics(net, "16").items():
        torch.testing.assert_close(value, good[key], rtol=0.4, atol=0.3)
    changed = {key for key, v in net.state_dict().items() if not torch.equal(v, before[key])}
    changed.discard("network.1.sets.16.num_batches_tracked")
    assert changed == {f"network.1.sets.16.{name}" for name in ("running_mean", "running_var")}
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        f"recalibrate 16: divergence from the original at 32 {report.before:.4f}"
    )
    assert line.endswith("measured on 16 images: the measured statistics are kept")


@pytest.mark.parametrize("build", [classifier, segmenter])
def test_worse_statistics_leave_the_copy(build: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """The copy answers as the original does; narrow images have other statistics."""
    net = trained(Images(32), build())
    before = copy.deepcopy(net.state_dict())
    (report,) = run(config(recalibrate=8), net, Images(16, deviation=5.0))
    assert not report.is_better
    assert report.before < 1e-3 < report.after
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert capsys.readouterr().err.endswith("the copied ones are kept\n")


def test_divergence_is_of_other_images_than_those_measured_on() -> None:
    """Written out by hand: the first and third batch are measured on, the others compared."""
    images = Images(16)
    net = trained(images, segmenter())
    for key, value in net.state_dict().items():
        if "sets.16.running" in key:
            value.add_(1.0)
    copied = copy.deepcopy(net)
    (report,) = run(config(recalibrate=8), net, images)
    assert set(images.requests[1:]) == {(16, 16), (32, 16)}
    odd = torch.cat([torch.arange(4, 8), torch.arange(12, 16)])
    for network, value in ((copied, report.before), (net, report.after)):
        with torch.no_grad():
            p = network.predict(views_of(images, odd, 32), 32).softmax(1)
            z = F.interpolate(network.predict(views_of(images, odd, 16), 16), 32, mode="bilinear")
        expected = (p * (p.log() - z.log_softmax(1))).sum(1).mean()
        assert value == pytest.approx(float(expected), rel=1e-4)
    even = [views_of(images, slice(i, i + 4), 16) for i in (0, 8)]
    first = net.network.get_submodule("0")
    features = [first(batch).transpose(0, 1).flatten(1) for batch in even]
    mean = sum((f.mean(1) for f in features), torch.zeros(6)) / 2
    torch.testing.assert_close(statistics(net, "16")["network.1.sets.16.running_mean"], mean)


@pytest.mark.parametrize(
    ("sizes", "parts"),
    [
        ([4, 4, 4, 4], ([0, 2], [1, 3])),
        ([4, 4, 4], ([0, 2], [1])),
        ([4, 4], ([0], [1])),
    ],
)
def test_batches_are_divided_in_turn(sizes: list[int], parts: tuple[list[int], ...]) -> None:
    batches = [torch.full((size,), place) for place, size in enumerate(sizes)]
    for number, part in enumerate(parts):
        assert [int(batch[0]) for batch in every_second(batches, number)] == part


def test_single_batch_is_halved_and_a_single_image_is_both_parts() -> None:
    batch = torch.arange(5)
    halves = [next(every_second([batch], number)).tolist() for number in (0, 1)]
    assert halves == [[0, 1], [2, 3, 4]]
    assert all(next(every_second([batch[:1]], n)).tolist() == [0] for n in (0, 1))
    with pytest.raises(ValueError, match="needs training images, and none could be read"):
        next(every_second([], 0))


def test_nothing_is_done_unless_it_is_set() -> None:
    images = Images(8)
    net = trained(images, classifier())
    before, requests = copy.deepcopy(net.state_dict()), len(images.requests)
    assert run(config(), net, images) == []
    assert len(images.requests) == requests
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize(
    ("before", "after", "better"),
    [
        (0.2, 0.1, True),
        (0.1, 0.1, False),
        (0.1, float("nan"), False),
        (float("nan"), 0.1, True),
        (float("nan"), float("nan"), False),
    ],
)
def test_what_is_not_a_number_is_not_better(before: float, after: float, better: bool) -> None:
    assert Recalibration("16", "32", before, after, 8).is_better is better


def test_networks_without_statistics_of_a_resolution_are_refused() -> None:
    with pytest.raises(ConfigError, match="'shared' has one set for all; choose batchnorm"):
        small_config(init="w.pth", adapt={"recalibrate": 8}, batchnorm="shared")
    with pytest.raises(ConfigError, match="the run has 16 alone; add resolutions"):
        small_config(init="w.pth", adapt={"recalibrate": 8}, resolutions=[16])
    assert small_config(init="w.pth", adapt={"recalibrate": 8}, freeze_batchnorm=True)
