"""Converted networks in use: copied, specialized, synchronised and compiled."""

from __future__ import annotations

import copy
import pickle
from typing import cast

import pytest
import timm
import torch
from timm.layers import BatchNormAct2d, convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from rsseg.switchable.convert import convert_to_switchable, specialize, switch, switchable_layers
from tests.helpers.small_networks import at, converted, randomise, run, small


def torch_sync(network: nn.Module) -> nn.Sequential:
    synced = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    return cast(nn.Sequential, synced)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 16, 16)


# Copies


def test_deepcopy_is_independent_in_values_and_active_set(images: Tensor) -> None:
    network = converted()
    switch(network, 32)
    expected = network(images)
    twin = copy.deepcopy(network)
    switch(twin, 64)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert torch.equal(network(images), expected)


def test_pickled_network_keeps_outputs_and_active_set(images: Tensor) -> None:
    network = converted()
    switch(network, 32)
    twin = pickle.loads(pickle.dumps(network))
    assert torch.equal(twin(images), network(images))
    assert torch.equal(run(twin, "64", images), run(network, "64", images))


def test_state_dict_loads_into_another_converted_network(images: Tensor) -> None:
    network, other = converted(), converted()
    assert not torch.equal(run(network, "32", images), run(other, "32", images))
    other.load_state_dict(network.state_dict(), strict=True)
    for name in ("64", "32"):
        assert torch.equal(run(network, name, images), run(other, name, images))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_all_sets_follow_a_change_of_dtype(dtype: torch.dtype, images: Tensor) -> None:
    network = converted().to(dtype)
    assert {p.dtype for p in network.parameters()} == {dtype}
    for name in ("64", "32"):
        assert run(network, name, images.to(dtype)).dtype == dtype
        assert specialize(network, name)(images.to(dtype)).dtype == dtype


def test_all_sets_follow_a_change_of_device() -> None:
    tensors = converted().to("meta").state_dict().values()
    assert {tensor.device.type for tensor in tensors} == {"meta"}


@pytest.mark.gpu
def test_outputs_on_the_gpu_are_those_on_the_cpu(images: Tensor) -> None:
    network = converted()
    expected = run(network, "32", images)
    on_gpu = run(network.cuda(), "32", images.cuda())
    torch.testing.assert_close(on_gpu.cpu(), expected, rtol=1e-3, atol=1e-3)


# Specialisation


def test_specialized_network_shares_all_tensors_with_its_set() -> None:
    network = converted()
    special = cast(nn.Sequential, specialize(network, 32))
    assert special[0].weight is network[0].weight
    for index in (1, 4):
        for name, tensor in special[index].state_dict(keep_vars=True).items():
            assert tensor is getattr(at(network, index, "32"), name)


def test_specializing_leaves_the_converted_network_as_it_was(images: Tensor) -> None:
    network = converted()
    switch(network, 64)
    expected, keys = network(images), list(network.state_dict())
    specialize(network, 32)
    assert torch.equal(network(images), expected)
    assert list(network.state_dict()) == keys


def test_training_the_specialized_network_trains_its_set_only(images: Tensor) -> None:
    network = converted()
    unmoved = run(copy.deepcopy(network), "64", images)
    special = specialize(network, 32).train()
    special(images)
    special.eval()
    assert torch.equal(run(network, "32", images), special(images))
    assert torch.equal(run(network, "64", images), unmoved)


def test_deepcopy_of_a_specialized_network_is_independent(images: Tensor) -> None:
    network = converted()
    expected = run(network, "32", images)
    twin = copy.deepcopy(specialize(network, 32))
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert torch.equal(run(network, "32", images), expected)


@pytest.mark.parametrize("training", [True, False])
def test_specialized_network_is_in_the_same_mode(training: bool) -> None:
    special = specialize(converted().train(training), 32)
    assert all(module.training is training for module in special.modules())


def test_specialized_network_has_no_trace_of_rsseg_even_when_pickled(images: Tensor) -> None:
    network = converted()
    special = specialize(network, 32)
    pickled = pickle.dumps(special)
    assert b"rsseg" not in pickled
    assert b"Switchable" not in pickled
    assert torch.equal(pickle.loads(pickled)(images), run(network, "32", images))


def test_network_that_caches_a_tensor_with_a_gradient_is_specialized(images: Tensor) -> None:
    network = converted()
    vars(network)["cache"] = {"doubled": cast(nn.Conv2d, network[0]).weight * 2}
    assert torch.equal(specialize(network, 32)(images), run(network, "32", images))


def test_specialized_network_keeps_layers_that_were_left_shared(images: Tensor) -> None:
    network = convert_to_switchable(small(), [64, 32], where=lambda name, _: name == "1")
    randomise(network)
    special = cast(nn.Sequential, specialize(network, 32))
    small().load_state_dict(special.state_dict(), strict=True)
    assert torch.equal(special(images), run(network, "32", images))


# Synchronised BatchNorm


def test_sync_conversion_afterwards_reaches_every_set(images: Tensor) -> None:
    network = converted()
    expected = {name: run(network, name, images) for name in ("64", "32")}
    synced = torch_sync(network)
    kinds = [type(layer) for layer in synced.modules() if isinstance(layer, _BatchNorm)]
    assert kinds == [nn.SyncBatchNorm] * 4
    for name, output in expected.items():
        assert torch.equal(run(synced, name, images), output)
        assert torch.equal(specialize(synced, name)(images), output)


def test_sync_conversion_before_is_converted_too(images: Tensor) -> None:
    synced = torch_sync(small())
    expected = synced(images)
    network = convert_to_switchable(synced, [64, 32])
    assert len(list(switchable_layers(network))) == 2
    assert torch.equal(run(network, "32", images), expected)


def test_fused_activations_survive_the_sync_conversion_of_timm_but_not_that_of_torch() -> None:
    plain = timm.create_model("test_byobnet", num_classes=5).eval()
    randomise(plain)
    images = torch.randn(2, 3, 32, 32)
    expected = plain(images)
    count = sum(isinstance(layer, BatchNormAct2d) for layer in plain.modules())
    network = convert_to_switchable(plain, [64, 32])
    bare = torch_sync(copy.deepcopy(network))
    synced = convert_sync_batchnorm(network)
    for twin in (bare, synced):
        assert sum(isinstance(m, nn.SyncBatchNorm) for m in twin.modules()) == 2 * count
    assert torch.equal(run(synced, "32", images), expected)
    assert not torch.allclose(run(bare, "32", images), expected)


# Compilation


def check_compiled(network: nn.Sequential, images: Tensor, backend: str) -> None:
    with torch.no_grad():
        for name in ("64", "32"):
            compiled = torch.compile(specialize(network, name), backend=backend)
            expected = run(network, name, images)
            torch.testing.assert_close(compiled(images), expected, rtol=1e-5, atol=1e-5)


def test_compiled_specialized_network_gives_equal_outputs(images: Tensor) -> None:
    torch.compiler.reset()
    check_compiled(converted(), images, "aot_eager")


def test_compiled_converted_network_obeys_the_switch(images: Tensor) -> None:
    torch.compiler.reset()
    network = converted()
    compiled = torch.compile(network, backend="aot_eager")
    with torch.no_grad():
        for name in ("64", "32", "64"):
            expected = run(network, name, images)
            torch.testing.assert_close(compiled(images), expected)


@pytest.mark.slow
def test_specialized_network_compiled_to_machine_code_gives_equal_outputs(images: Tensor) -> None:
    torch.compiler.reset()
    check_compiled(converted(), images, "inductor")
