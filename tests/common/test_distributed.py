"""Several processes do what one does: equal losses, weights and results of the same batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from rsseg.common import distributed
from rsseg.training.state import Stepper
from rsseg.training.sync_batchnorm import SyncBatchNorm, synchronise_batchnorms
from tests.helpers import distributed_job, processes
from tests.helpers.small_runs import small_job

SYNCHRONISED = ("classifier", "segmenter", "two_pass", "checkpoint", "sandwich")
OTHERS = (
    *("sandwich segmenter", "sandwich checkpoint", "sandwich shared"),
    *("group norm", "positions", "frozen", "no ensemble", "clipped", "spare", "spare sandwich"),
)


def trained(folder: Path, count: int) -> dict[str, Any]:
    """Train with so many processes."""
    path = folder / f"{count}.pt"
    started = processes.start(distributed_job.main, [path], folder, count)
    assert processes.finish(started) == [0] * count, [one.printed for one in started]
    found: dict[str, Any] = torch.load(path, weights_only=True)
    return found


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return trained(tmp_path_factory.mktemp("alone"), 1)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return trained(tmp_path_factory.mktemp("two"), 2)


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return trained(tmp_path_factory.mktemp("four"), 4)


@pytest.fixture(scope="module", params=["two", "four"])
def together(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def assert_same_run(one: dict[str, Any], all_: dict[str, Any]) -> None:
    torch.testing.assert_close(all_["losses"], one["losses"], rtol=1e-6, atol=1e-6)
    assert one["net"].keys() == all_["net"].keys()
    torch.testing.assert_close(all_["net"], one["net"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SYNCHRONISED)
def test_losses_and_weights_are_those_of_one_process(
    alone: dict[str, Any], together: dict[str, Any], name: str
) -> None:
    assert_same_run(alone[name], together[name])


@pytest.mark.parametrize("name", OTHERS)
def test_losses_and_weights_of_two_processes_are_those_of_one(
    alone: dict[str, Any], two: dict[str, Any], name: str
) -> None:
    assert_same_run(alone[name], two[name])


def test_quantisers_learn_from_the_images_of_all_processes(
    alone: dict[str, Any], together: dict[str, Any]
) -> None:
    one, all_ = alone["quantised"], together["quantised"]
    # A sum rounded otherwise moves a value near a threshold to the next level, now and then.
    torch.testing.assert_close(all_["losses"], one["losses"], rtol=2e-2, atol=2e-2)
    bases = [name for name in one["net"] if name.endswith("quantizer.basis")]
    assert len(bases) == 4
    for name in bases:
        torch.testing.assert_close(all_["net"][name], one["net"][name], rtol=2e-2, atol=2e-3)


@pytest.mark.parametrize("name", ["quantised sandwich", "learned step", "bf16 gradients"])
def test_rounded_numbers_train_nearly_as_in_one_process(
    alone: dict[str, Any], two: dict[str, Any], name: str
) -> None:
    torch.testing.assert_close(two[name]["losses"], alone[name]["losses"], rtol=2e-2, atol=2e-2)


def test_step_that_overflows_in_one_process_is_left_out_in_all(two: dict[str, Any]) -> None:
    assert two["fp16"]["equal"]
    assert two["fp16"]["scale"] < 2.0**16  # The first scale, which every overflow halves.
    assert two["fp16"]["losses"].isfinite().all()


def test_gradients_are_compressed_on_demand(two: dict[str, Any]) -> None:
    plain, compressed = two["classifier"], two["bf16 gradients"]
    assert torch.equal(plain["losses"][0], compressed["losses"][0])
    assert not torch.equal(plain["losses"][1:], compressed["losses"][1:])


def test_gradients_are_averaged_by_torch_but_for_several_backward_passes(
    alone: dict[str, Any], together: dict[str, Any]
) -> None:
    kinds = {name: found["parallel"] for name, found in together.items()}
    assert kinds.pop("two_pass") == kinds.pop("sandwich afterwards", "NoneType") == "NoneType"
    assert kinds.pop("spoiled") == ""
    assert set(kinds.values()) == {"DistributedDataParallel"}
    assert {found["parallel"] for found in alone.values()} == {"NoneType", ""}


def test_torch_averages_gradients_as_we_do(two: dict[str, Any]) -> None:
    during, afterwards = two["sandwich"], two["sandwich afterwards"]
    assert torch.equal(during["losses"], afterwards["losses"])  # Halves are not rounded.
    assert all(torch.equal(during["net"][key], afterwards["net"][key]) for key in during["net"])


@pytest.mark.parametrize("name", ["spare", "spare sandwich"])
def test_parameter_that_takes_no_part_stays_as_it_is(two: dict[str, Any], name: str) -> None:
    # A gradient of zeros, in place of none, would let the weight decay move it.
    assert torch.equal(two[name]["net"]["network.spare"], torch.ones(3))


def test_state_of_a_wrapped_network_has_the_names_of_the_network(
    alone: dict[str, Any], together: dict[str, Any]
) -> None:
    for name in together.keys() - {"spoiled"}:
        assert together[name]["net"].keys() == alone[name]["net"].keys()
        assert not any("module." in key for key in together[name]["net"])


def test_every_process_holds_the_same(together: dict[str, Any]) -> None:
    assert all(found["equal"] for found in together.values())


@pytest.mark.parametrize("name", SYNCHRONISED)
def test_each_test_image_counts_once(
    alone: dict[str, Any], together: dict[str, Any], name: str
) -> None:
    assert together[name]["results"] == alone[name]["results"]


def test_each_process_draws_its_own(together: dict[str, Any]) -> None:
    states = {tuple(state.tolist()) for state in together["classifier"]["random"]}
    assert len(states) == len(together["classifier"]["random"]) > 1


def test_process_that_met_no_number_is_named_by_all(together: dict[str, Any]) -> None:
    told = together["spoiled"]["told"]
    last = len(told) - 1
    assert set(told) == {told[0]}
    assert told[0].startswith(f"process {last}: the loss is nan (logits at resolution 8 are not")
    assert "the largest output is not finite, of 0" in told[0]


def test_processes_that_do_not_agree_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "all_gather_object", lambda value: [value, value, "else"])
    with pytest.raises(ValueError, match=r"processes 0 and 2 do not agree on the rule: 7 and else"):
        distributed.check_agreed(7, "the rule")


def test_run_that_goes_on_with_fewer_processes_draws_anew(
    capsys: pytest.CaptureFixture[str],
) -> None:
    begun = Stepper(small_job())
    begun.progress.step = 2
    state = begun.state()
    state["rng"] = {**state["rng"], "others": [state["rng"]]}  # as of two processes
    beginning = torch.get_rng_state()
    again = Stepper(small_job())
    again.restore(state, "the test")
    assert not torch.equal(torch.get_rng_state(), beginning)
    assert "the run had 2 processes and now has 1" in capsys.readouterr().err


def test_batchnorm_under_two_names_is_synchronised_once() -> None:
    layer = nn.BatchNorm2d(3)
    network = nn.Sequential(layer, layer, nn.Sequential(layer))
    synchronise_batchnorms(network, torch.device("cpu"))
    kinds = {id(child) for child in network.modules() if isinstance(child, SyncBatchNorm)}
    assert len(kinds) == 1
    assert not any(type(child) is nn.BatchNorm2d for child in network.modules())
    assert network[0].weight is layer.weight


def test_batchnorm_of_another_kind_is_refused() -> None:
    network = nn.Sequential(BatchNormAct2d(3))
    with pytest.raises(ValueError, match="cannot synchronise a BatchNormAct2d on cpu"):
        synchronise_batchnorms(network, torch.device("cpu"))


def test_buckets_hold_every_tensor_once_and_one_dtype_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "_BUCKET", 5)
    sizes = (3, 3, 1, 9, 2, 2)
    tensors = [torch.zeros(n, dtype=torch.float64 if n == 1 else torch.float32) for n in sizes]
    buckets = [[tensor.numel() for tensor in b] for b in distributed._buckets(tensors)]
    assert buckets == [[3, 3], [9], [1], [2, 2]]
