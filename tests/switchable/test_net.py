"""SwitchableNet against networks that are switched by hand, and the counts of the paper."""

from __future__ import annotations

import copy
import pickle
from typing import Any, cast

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from rsseg.images.preprocessing import Preprocessing
from rsseg.switchable.complexity import count_macs
from rsseg.switchable.convert import (
    convert_to_switchable,
    held_sets,
    specialize,
    switch,
    switchable_layers,
)
from rsseg.switchable.net import SwitchableNet, resolution_of
from rsseg.switchable.unseen import interpolate_set, recalibrate

RESOLUTIONS = (32, 24, 16)


def randomise(network: nn.Module) -> None:
    for layer in network.modules():
        if isinstance(layer, _BatchNorm):
            for tensor in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
                assert tensor is not None
                nn.init.uniform_(tensor, 0.5, 1.5)


def small() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 1)
    ).eval()


def made(resolutions: tuple[int, ...] = RESOLUTIONS) -> SwitchableNet:
    net = SwitchableNet(small(), resolutions).eval()
    randomise(net)
    return net


def views(resolutions: tuple[int, ...] = RESOLUTIONS) -> list[Tensor]:
    return [torch.randn(2, 3, side, side) for side in resolutions]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


# Counts of the paper


@pytest.mark.parametrize(
    ("name", "one", "five"),
    [
        ("resnet18", 11_689_512, 11_727_912),
        ("resnet50", 25_557_032, 25_769_512),
        ("mobilenet_v2", 3_504_872, 3_641_320),
    ],
)
def test_parameter_counts_are_those_of_the_paper(name: str, one: int, five: int) -> None:
    with torch.device("meta"):
        network = torchvision.models.get_model(name, weights=None)
        assert sum(p.numel() for p in network.parameters()) == one
        net = SwitchableNet(network, [224, 192, 160, 128, 96])
    assert sum(p.numel() for p in net.network.parameters()) == five
    assert sum(p.numel() for p in net.parameters()) == five + 5
    special = net.specialize(96)
    assert sum(p.numel() for p in special.parameters()) == one


# Forward


def test_forward_gives_the_logits_of_the_network_switched_by_hand() -> None:
    net, batch = made(), views()
    logits = net(batch)
    assert len(logits) == 3
    for resolution, view, z in zip(RESOLUTIONS, batch, logits, strict=True):
        switch(net.network, resolution)
        assert torch.equal(z, net.network(view))
        assert torch.equal(z, specialize(net, resolution)(view))


def test_one_backward_reaches_every_set_and_the_shared_weights() -> None:
    net = made().train()
    torch.autograd.backward(torch.stack([z.square().mean() for z in net(views())]).sum())
    without = {name for name, p in net.named_parameters() if p.grad is None}
    # Scores move in the loss of the ensemble, which is computed outside.
    assert without == {"scores"}
    sets = [s for layer in switchable_layers(net) for s in layer.sets.values()]
    assert [int(s.state_dict()["num_batches_tracked"]) for s in sets] == [1, 1, 1]


def test_gradient_of_shared_weights_is_the_sum_over_resolutions() -> None:
    net, batch = made(), views()
    weight = cast(nn.Conv2d, cast(nn.Sequential, net.network)[0]).weight
    torch.autograd.backward(torch.stack([z.square().mean() for z in net(batch)]).sum())
    expected = torch.zeros_like(weight)
    for resolution, view in zip(RESOLUTIONS, batch, strict=True):
        loss = specialize(net, resolution)(view).square().mean()
        expected += torch.autograd.grad(loss, weight)[0]
    torch.testing.assert_close(weight.grad, expected)


def test_oblong_views_are_known_by_their_shorter_side() -> None:
    net = made()
    batch = [torch.randn(1, 3, side, side + 8) for side in RESOLUTIONS]
    assert [tuple(z.shape) for z in net(batch)] == [(1, 5, s - 2, s + 6) for s in RESOLUTIONS]
    assert resolution_of(torch.zeros(1, 3, 40, 24)) == 24


def test_equal_resolutions_use_sets_of_their_own() -> None:
    net = made((32, 32))
    view = torch.randn(2, 3, 32, 32)
    first, second = net([view, view])
    assert not torch.equal(first, second)
    assert torch.equal(second, net.predict(view, "32_2"))
    assert torch.equal(first, net.predict(view))


@pytest.mark.parametrize("sides", [(32, 24), (16, 24, 32), (32, 24, 20), ()])
def test_views_that_do_not_fit_are_refused_with_both_lists(sides: tuple[int, ...]) -> None:
    expected = (
        rf"\[32, 24, 16\], largest first, got views with the sides \[{', '.join(map(str, sides))}\]"
    )
    with pytest.raises(ValueError, match=expected):
        made()(views(sides))


# Construction


def test_scores_are_ones_and_belong_to_the_parameters() -> None:
    net = made()
    assert torch.equal(cast(Tensor, net.scores), torch.ones(3))
    assert "scores" in dict(net.named_parameters())


def test_without_scores_there_is_no_such_parameter() -> None:
    net = SwitchableNet(small(), RESOLUTIONS, scores=False)
    assert net.scores is None
    assert "scores" not in net.state_dict()


def test_network_converted_before_with_the_same_resolutions_is_taken_as_it_is() -> None:
    network = convert_to_switchable(small(), RESOLUTIONS)
    assert SwitchableNet(network, RESOLUTIONS).network is network
    assert SwitchableNet(small(), RESOLUTIONS).resolutions == RESOLUTIONS


def test_network_converted_before_with_other_resolutions_is_refused() -> None:
    network = convert_to_switchable(small(), [32, 16])
    message = r"holds BatchNorm sets \['32', '16'\], expected \['32', '24', '16'\]"
    with pytest.raises(ValueError, match=message):
        SwitchableNet(network, RESOLUTIONS)


def test_wrong_resolutions_networks_and_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="from large to small"):
        SwitchableNet(small(), [16, 32])
    with pytest.raises(ValueError, match="no BatchNorm to convert found in Conv2d"):
        SwitchableNet(nn.Conv2d(3, 4, 1), [32, 16])
    with pytest.raises(ValueError, match="'private' or 'shared', got 'none'"):
        SwitchableNet(small(), [32], batchnorm="none")  # type: ignore[arg-type]


def test_shared_batchnorm_leaves_the_network_as_it_was() -> None:
    plain = small()
    net = SwitchableNet(copy.deepcopy(plain), RESOLUTIONS, batchnorm="shared").eval()
    assert {k.removeprefix("network.") for k in net.state_dict()} == {*plain.state_dict(), "scores"}
    for view, z in zip(views(), net(torch_views := views()), strict=True):
        assert z.shape[-1] == view.shape[-1] - 2
    assert torch.equal(net.predict(torch_views[2], 999), plain(torch_views[2]))
    special = net.specialize(16)
    assert torch.equal(special(torch_views[2]), plain(torch_views[2]))
    assert next(special.parameters()) is next(net.network.parameters())


# Prediction


def test_prediction_takes_the_resolution_from_the_images_and_resizes_nothing() -> None:
    net = made()
    images = torch.randn(2, 3, 24, 40)
    logits = net.predict(images)
    assert logits.shape == (2, 5, 22, 38)
    assert torch.equal(logits, specialize(net, 24)(images))
    assert torch.equal(net.predict(images, 16), specialize(net, "16")(images))


@pytest.mark.parametrize("rule", ["interpolate", "nearest", "extrapolate"])
@pytest.mark.parametrize("resolution", [40, 28, 12])
def test_prediction_at_an_unseen_resolution_uses_the_set_of_the_rule(
    resolution: int, rule: str
) -> None:
    net = made()
    net.unseen = rule
    images = torch.randn(2, 3, resolution, resolution)
    twin = copy.deepcopy(net.network)
    interpolate_set(twin, resolution, rule=rule)
    expected = specialize(twin, resolution)(images)
    assert torch.equal(net.predict(images), expected)
    assert torch.equal(net.specialize(resolution)(images), expected)


def test_rules_for_unseen_resolutions_differ_and_interpolation_is_the_default() -> None:
    net = made()
    images = torch.randn(2, 3, 40, 40)
    assert net.unseen == "interpolate"
    interpolated = net.predict(images)
    net.unseen = "extrapolate"
    assert not torch.equal(net.predict(images), interpolated)
    with pytest.raises(ValueError, match=r"unknown rule 'linear' .*'interpolate', 'nearest'"):
        net.unseen = "linear"


def test_prediction_at_an_unseen_resolution_leaves_no_set_behind() -> None:
    net = made()
    before = copy.deepcopy(net.state_dict())
    net.predict(torch.randn(2, 3, 28, 28))
    with pytest.raises(RuntimeError):
        net.predict(torch.randn(2, 7, 28, 28))
    after = net.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], value) for key, value in before.items())


def test_prediction_uses_a_set_that_was_made_to_be_kept() -> None:
    net, images = made(), torch.randn(2, 3, 28, 28)
    interpolate_set(net.network, 28)
    recalibrate(net, [torch.randn(4, 3, 28, 28)], 28)
    assert torch.equal(net.predict(images), specialize(net, 28)(images))
    assert held_sets(net.network) == ("32", "24", "16", "28")
    assert len(net(views())) == 3


@pytest.mark.parametrize("resolution", [0, -1, 4097])
def test_prediction_out_of_range_is_refused(resolution: int) -> None:
    with pytest.raises(ValueError, match=f"resolution {resolution} is not a whole number"):
        made().predict(torch.randn(1, 3, 16, 16), resolution)


@pytest.mark.parametrize("resolution", [True, 28.0])
def test_prediction_at_a_resolution_that_is_no_whole_number_is_refused(resolution: int) -> None:
    with pytest.raises(ValueError, match=f"resolution {resolution} is not a whole number"):
        made().predict(torch.randn(1, 3, 16, 16), resolution)


def test_prediction_with_an_unknown_name_lists_the_names() -> None:
    with pytest.raises(ValueError, match=r"no BatchNorm set is named '24_2'; there are \['32'"):
        made().predict(torch.randn(1, 3, 16, 16), "24_2")


# Copies, dtypes, compilation


def test_copies_predict_the_same_and_are_independent() -> None:
    net, images = made(), torch.randn(2, 3, 16, 16)
    expected = net.predict(images)
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(twin.predict(images), expected)
        assert (twin.resolutions, twin.unseen) == (net.resolutions, net.unseen)
        nn.init.zeros_(next(twin.network.parameters()))
    assert torch.equal(net.predict(images), expected)


def test_state_dict_round_trip_gives_equal_outputs() -> None:
    net, other, images = made(), made(), torch.randn(2, 3, 16, 16)
    other.load_state_dict(net.state_dict(), strict=True)
    assert torch.equal(other.predict(images), net.predict(images))


def test_unseen_resolutions_work_in_other_dtypes() -> None:
    net = made().to(torch.float64)
    assert net.predict(torch.randn(2, 3, 28, 28, dtype=torch.float64)).dtype == torch.float64


def test_printed_net_names_resolutions_and_kind() -> None:
    assert "resolutions=[32, 24, 16], batchnorm=private" in repr(made())


def check_compiled(net: SwitchableNet, backend: str) -> None:
    torch.compiler.reset()
    compiled = torch.compile(net.predict, backend=backend)
    with torch.no_grad():
        for resolution in (32, 16, 28, 32):
            images = torch.randn(2, 3, resolution, resolution)
            expected = net.predict(images)
            torch.testing.assert_close(compiled(images), expected, rtol=1e-5, atol=1e-5)


def test_compiled_prediction_gives_equal_outputs_at_trained_and_unseen_resolutions() -> None:
    check_compiled(made(), "eager")


@pytest.mark.slow
def test_prediction_compiled_to_machine_code_gives_equal_outputs() -> None:
    check_compiled(made(), "inductor")


def test_compiled_forward_gives_equal_logits() -> None:
    torch.compiler.reset()
    net, batch = made(), views()
    compiled = torch.compile(net, backend="eager")
    with torch.no_grad():
        for z, expected in zip(compiled(batch), net(batch), strict=True):
            torch.testing.assert_close(z, expected)


# Networks that return more than logits


class Several(nn.Module):
    """Returns its logits in a mapping or in a tuple with others, or alone in evaluation mode."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.body = small()
        self.kind = kind

    def forward(self, images: Tensor) -> object:
        logits = self.body(images)
        if self.kind == "mapping":
            return {"aux": 0 * logits, "out": logits}
        return (logits, 0 * logits) if self.training else logits


@pytest.mark.parametrize(("kind", "output"), [("mapping", "out"), ("tuple", 0)])
@pytest.mark.parametrize("training", [True, False])
def test_output_names_the_logits_among_what_a_network_returns(
    kind: str, output: str | int, *, training: bool
) -> None:
    several = Several(kind)
    net = SwitchableNet(several, RESOLUTIONS, output=output).train(training)
    body = SwitchableNet(copy.deepcopy(several.body), RESOLUTIONS).train(training)
    given = views()
    for own, plain in zip(net(given), body(given), strict=True):
        assert torch.equal(own, plain)
    assert torch.equal(net.predict(given[1]), body.predict(given[1]))
    assert count_macs(net, 32) == count_macs(body, 32) > 0
    special = net.eval().specialize(24)
    assert torch.equal(special(given[1]), body.eval().predict(given[1]))
    inner = special.get_submodule("network")
    assert type(inner) is Several
    Several(kind).load_state_dict(inner.state_dict())


def test_torchvision_segmenter_trains_and_predicts_by_its_output() -> None:
    network = torchvision.models.segmentation.lraspp_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=4
    )
    net = SwitchableNet(network, [64, 32], output="out")
    logits = net([torch.zeros(2, 3, 64, 64), torch.zeros(2, 3, 32, 32)])
    assert [tuple(z.shape) for z in logits] == [(2, 4, 64, 64), (2, 4, 32, 32)]
    net.eval()
    images = torch.rand(1, 3, 32, 32)
    plain = torchvision.models.segmentation.lraspp_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=4
    )
    plain.load_state_dict(net.specialize(32).get_submodule("network").state_dict())
    assert torch.equal(net.predict(images), plain.eval()(images)["out"])


@pytest.mark.parametrize(
    ("kind", "output", "error", "message"),
    [
        ("mapping", None, TypeError, "mapping with 'aux', 'out'.*output='aux' or 'out'"),
        ("tuple", None, TypeError, r"tuple of 2.*output=0\)"),
        ("mapping", "logits", ValueError, "mapping with 'aux', 'out', in which there is no 'logi"),
        ("tuple", 2, ValueError, "tuple of 2, in which there is no 2"),
        ("tuple", "out", ValueError, "tuple of 2, in which there is no 'out'"),
        ("tuple", True, ValueError, "key or the index of the logits, got True"),
    ],
)
def test_output_that_is_not_logits_is_named_with_the_remedy(
    kind: str, output: str | int | None, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        SwitchableNet(Several(kind), RESOLUTIONS, output=output).train()(views())


def test_one_batch_in_place_of_views_is_refused_with_what_to_call() -> None:
    with pytest.raises(TypeError, match=r"list of 3 views.*\(3, 3, 32, 32\).*net.predict.*rsseg.v"):
        made()(torch.zeros(3, 3, 32, 32))


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.uint16])
def test_integers_of_numpy_are_resolutions_everywhere(kind: Any) -> None:
    net, images = made((96, 64)), torch.randn(1, 3, 80, 80)
    numpy_net = SwitchableNet(net.network, [kind(96), kind(64)]).eval()
    assert [type(side) for side in numpy_net.resolutions] == [int, int]
    assert torch.equal(numpy_net.predict(images, kind(80)), net.predict(images, 80))
    assert torch.equal(numpy_net.specialize(kind(96))(images), net.specialize(96)(images))
    expected = copy.deepcopy(net.network)
    interpolate_set(expected, 72)
    interpolate_set(numpy_net.network, kind(72))
    switch(numpy_net.network, kind(72))
    switch(expected, 72)
    assert torch.equal(numpy_net.network(images), expected(images))
    assert count_macs(net, kind(64)) == count_macs(net, (kind(64), kind(64))) == count_macs(net, 64)
    image = np.arange(250 * 300 * 3).reshape(250, 300, 3).astype(np.uint8)
    for fit in ("square", "aspect", "crop"):
        preprocessing = Preprocessing(fit=fit)
        assert torch.equal(preprocessing.view(image, kind(224)), preprocessing.view(image, 224))
