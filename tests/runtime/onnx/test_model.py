"""Facts about rsseg/runtime/onnx/model.py: the graph chooses what `predict` chooses."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, cast

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from rsseg.runtime.onnx.model import model_of_all, model_of_one
from rsseg.runtime.onnx.nodes import elements, names_read
from rsseg.switchable.layers import Switchable
from rsseg.switchable.net import SwitchableNet
from tests.helpers.small_networks import randomise

SIZES = [(64, 64), (32, 32), (48, 48), (33, 80), (90, 63), (20, 24), (96, 96)]
PRIVATE = 4 * (8 + 6)  # numbers in a set of `layers`


def layers() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 6, 3),
        nn.BatchNorm2d(6),
        nn.Hardswish(),
        nn.Conv2d(6, 5, 1),
    )


def trained(network: nn.Module | None = None, sides: tuple[int, ...] = (64, 32)) -> SwitchableNet:
    torch.manual_seed(0)
    net = SwitchableNet(network or layers(), sides)
    randomise(net)
    return net.eval()


@cache
def _exported(sides: tuple[int, ...], rule: str, compact: bool) -> tuple[SwitchableNet, Any]:
    net = trained(sides=sides)
    net.unseen = rule
    return net, model_of_all(net, compact=compact)


def exported(
    *, sides: tuple[int, ...] = (64, 32), rule: str = "interpolate", compact: bool = False
) -> tuple[SwitchableNet, Any]:
    """A network and its model; no test changes them, so they are made once."""
    return _exported(sides, rule, compact)


def images(height: int, width: int, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


def session(model: Any) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )


def assert_predicts(
    net: SwitchableNet, model: Any, sizes: list[tuple[int, int]] | None = None
) -> None:
    opened = session(model)
    for index, (height, width) in enumerate(sizes or SIZES):
        views = images(height, width, batch=1 + index % 3)
        with torch.no_grad():
            expected = net.predict(views).numpy()
        (logits,) = opened.run(["logits"], {"images": views.numpy()})
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize("rule", ["interpolate", "nearest"])
def test_one_model_predicts_at_every_size(
    compact: bool, rule: str, capfd: pytest.CaptureFixture[str]
) -> None:
    net, model = exported(rule=rule, compact=compact)
    capfd.readouterr()
    assert_predicts(net, model)
    assert "".join(capfd.readouterr()) == ""  # ONNX Runtime warns of nothing.


FIVE = (80, 64, 48, 40, 32)


@pytest.mark.parametrize("sides", [(64, 64, 32), FIVE])
def test_any_number_of_sets_is_chosen_from(sides: tuple[int, ...]) -> None:
    assert_predicts(*exported(sides=sides))


class Crossed(nn.Module):
    """Two values leave the part with private BatchNorms, and a layer is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.second, self.late = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6, affine=False)
        self.last = nn.Conv2d(12, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        early = self.norm(self.first(x))
        late = self.late(self.second(self.norm(self.second(early).relu())))
        logits: Tensor = self.last(torch.cat([early, late], dim=1))
        return logits


def flat() -> nn.Sequential:
    """BatchNorms of maps and of vectors, before convolutions and behind transposed ones."""
    return nn.Sequential(
        nn.BatchNorm2d(3),
        nn.ConvTranspose2d(3, 8, 3, groups=1),
        nn.BatchNorm2d(8),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 6),
        nn.BatchNorm1d(6),
        nn.BatchNorm1d(6),
    )


@pytest.mark.parametrize("build", [Crossed, flat])
def test_networks_of_other_forms_predict_too(build: Callable[[], nn.Module]) -> None:
    net = trained(build())
    assert_predicts(net, model_of_all(net))


def test_private_tensors_of_other_layers_are_chosen_as_well() -> None:
    class Levels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("levels", torch.zeros(1, 6, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            return x * cast(Tensor, self.levels)

    net = trained()
    network = cast(nn.Sequential, net.network)
    network[5] = layer = Switchable(Levels(), ["64", "32"])
    for number, held in enumerate(layer.sets.values()):
        cast(Tensor, held.levels).fill_(1 + number)
    assert_predicts(net, model_of_all(net))


def test_shared_layers_lie_in_the_model_once_and_each_set_once() -> None:
    def numbers(model: Any) -> int:
        graphs, count = [model.graph], 0
        while graphs:
            graph = graphs.pop()
            count += sum(v.size for v in elements(graph).values() if v.dtype == np.float32)
            graphs += [a.g for node in graph.node for a in node.attribute if a.HasField("g")]
        return count

    _, model = exported(sides=FIVE)
    shared = sum(p.numel() for p in layers().parameters()) - 2 * (8 + 6)
    # And a share for each set at each side from 0 to 80.
    assert numbers(model) == shared + len(FIVE) * (PRIVATE + 81)


def kinds(model: Any) -> list[str]:
    return [node.op_type for node in model.graph.node]


def test_model_of_one_holds_no_batchnorm_and_predicts_its_resolution_alone() -> None:
    net = trained()
    model = model_of_one(net, 32)
    assert not {"BatchNormalization", "If", "Mul"} & set(kinds(model))
    assert_predicts(net, model, [(32, 32), (32, 32), (32, 32)])
    sides = [
        axis.dim_param or axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim
    ]
    assert sides == ["batch", 3, 32, 32]


def test_model_of_one_may_take_other_sides() -> None:
    net = trained()
    assert_predicts(net, model_of_one(net, 32, sides="any"), [(32, 32), (32, 47), (60, 32)])


def test_network_with_shared_batchnorms_needs_no_choice() -> None:
    net = SwitchableNet(layers(), [64, 32], batchnorm="shared").eval()
    randomise(net)
    model = model_of_all(net)
    assert "If" not in kinds(model)
    assert_predicts(net, model)


@pytest.mark.parametrize("rule", ["interpolate", "nearest"])
def test_nothing_lies_in_the_model_that_is_not_read(
    rule: str, capfd: pytest.CaptureFixture[str]
) -> None:
    _, model = exported(rule=rule)
    assert set(elements(model.graph)) <= names_read(model.graph)
    session(model)
    assert "not used" not in capfd.readouterr().err  # ONNX Runtime would tell.


def test_compact_model_has_no_branches() -> None:
    assert "If" in kinds(exported()[1])
    assert "If" not in kinds(exported(compact=True)[1])


def test_model_tells_nothing_of_the_machine_it_was_made_on() -> None:
    text = exported()[1].SerializeToString()
    for word in (b".py", b"site-packages", b"forward"):
        assert word not in text


def test_network_of_one_size_only_is_refused_for_all() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(3)
            self.places = nn.Parameter(torch.zeros(3, 96, 96))

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.norm(x) + self.places
            return logits

    with pytest.raises(ValueError, match=r"cannot take Fixed for images of any size: "):
        model_of_all(trained(Fixed(), (96, 32)))


def test_network_with_several_outputs_is_refused() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.norm(x), x

    with pytest.raises(ValueError, match="from images to logits"):
        model_of_one(trained(Two()), 32)
