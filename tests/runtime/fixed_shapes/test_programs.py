"""Facts about rsseg/runtime/fixed_shapes/programs.py: graphs of fixed shapes that share weights."""

from __future__ import annotations

import timm
import torch
from torch import Tensor, nn

from rsseg.runtime.fixed_shapes.programs import programs_of, replace_batchnorms, scale_and_shift
from rsseg.switchable.net import SwitchableNet
from tests.helpers.small_exported import RESOLUTIONS, small_net
from tests.helpers.small_networks import randomise

BATCHNORM = torch.ops.aten.batch_norm.default


def batchnorms(program: torch.export.ExportedProgram) -> int:
    return sum(node.target is BATCHNORM for node in program.graph.nodes)


def constants(program: torch.export.ExportedProgram) -> list[Tensor]:
    return [tensor for tensor in program.state_dict.values() if tensor.numel() > 1]


def test_graph_of_each_resolution_computes_what_the_network_does() -> None:
    net = small_net()
    programs = programs_of(net, RESOLUTIONS)
    assert list(programs) == list(RESOLUTIONS)
    for side, program in programs.items():
        image = torch.randn(1, 3, side, side)
        with torch.no_grad():
            torch.testing.assert_close(program.module()(image), net.predict(image))


def test_graphs_share_every_tensor_but_a_scale_and_a_shift_of_each_batchnorm() -> None:
    programs = programs_of(small_net(), RESOLUTIONS)
    assert [batchnorms(program) for program in programs.values()] == [0, 0]
    first, second = (constants(program) for program in programs.values())
    private = [one for one in first if not any(torch.equal(one, other) for other in second)]
    assert sorted(tuple(one.shape) for one in private) == [(1, 8, 1, 1), (1, 8, 1, 1)]


def test_graph_of_one_resolution_keeps_its_batchnorms_for_others_to_fold() -> None:
    (program,) = programs_of(small_net(), [32]).values()
    assert batchnorms(program) == 1


def test_shared_batchnorms_stay_as_they_are() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1))
    net = SwitchableNet(network, RESOLUTIONS, batchnorm="shared").eval()
    assert [batchnorms(p) for p in programs_of(net, RESOLUTIONS).values()] == [1, 1]


def test_batchnorm_with_a_fused_activation_keeps_it() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), timm.layers.BatchNormAct2d(4), nn.Flatten())
    net = SwitchableNet(network, RESOLUTIONS)
    randomise(net)
    net.eval()
    for side, program in programs_of(net, RESOLUTIONS).items():
        assert batchnorms(program) == 0
        image = torch.randn(1, 3, side, side)
        with torch.no_grad():
            expected = net.predict(image)
        assert expected.min() == 0  # The activation is a ReLU.
        torch.testing.assert_close(program.module()(image), expected)


def test_only_batchnorms_with_private_tensors_are_replaced() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3)).eval()
    graph = torch.export.export(network, (torch.zeros(1, 3, 4, 4),), strict=False).module()
    assert isinstance(graph, torch.fx.GraphModule)
    assert replace_batchnorms(graph, {"1.running_mean", "another"}) == 1
    assert sum(node.target is BATCHNORM for node in graph.graph.nodes) == 1


class Positions(nn.Module):
    """Adds a table that is resized to the map, and resizes the map itself."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 8, stride=8), nn.BatchNorm2d(4))
        self.table = nn.Parameter(torch.randn(1, 4, 6, 6))

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        table = nn.functional.interpolate(
            self.table * 2, size=x.shape[2:], mode="bicubic", antialias=True
        )
        return nn.functional.interpolate(x + table, scale_factor=2).mean((2, 3))


def test_table_that_is_resized_to_the_image_is_stored_as_it_is_then() -> None:
    torch.manual_seed(0)
    net = SwitchableNet(Positions(), [64, 32])
    randomise(net)
    net.eval()
    for side, program in programs_of(net, [64, 32]).items():
        resizing = [node for node in program.graph.nodes if "upsample" in str(node.target)]
        assert len(resizing) == 1  # That of the map, which depends on the image.
        image = torch.randn(1, 3, side, side)
        with torch.no_grad():
            torch.testing.assert_close(program.module()(image), net.predict(image))


def test_scale_and_shift_are_those_of_torch_batchnorm_with_and_without_gamma_and_beta() -> None:
    torch.manual_seed(0)
    mean, variance, x = torch.randn(5), torch.rand(5) + 0.1, torch.randn(7, 5)
    for gamma, beta in ((torch.randn(5), torch.randn(5)), (None, None)):
        expected = nn.functional.batch_norm(x, mean, variance, gamma, beta, eps=0.01)
        scale, shift = scale_and_shift(gamma, beta, mean, variance, epsilon=0.01)
        assert scale.dtype == torch.float32
        torch.testing.assert_close(x * scale + shift, expected)
