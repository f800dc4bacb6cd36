"""Several processes do what one does: equal losses, weights and results of the same batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests import processes

JOB = Path(__file__).with_name("distributed_job.py")
SYNCHRONISED = ("classifier", "segmenter", "two_pass", "checkpoint")


def trained(folder: Path, count: int) -> dict[str, Any]:
    """Train with so many processes."""
    path = folder / f"{count}.pt"
    started = processes.start([JOB, path], count)
    printed = processes.finish(started)
    assert [process.returncode for process in started] == [0] * count, "".join(printed)
    found: dict[str, Any] = torch.load(path, weights_only=True)
    return found


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return trained(tmp_path_factory.mktemp("alone"), 1)


@pytest.fixture(scope="module", params=[2, 4])
def together(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return trained(tmp_path_factory.mktemp("together"), request.param)


@pytest.mark.parametrize("name", SYNCHRONISED)
def test_losses_and_weights_are_those_of_one_process(
    alone: dict[str, Any], together: dict[str, Any], name: str
) -> None:
    one, all_ = alone[name], together[name]
    torch.testing.assert_close(all_["losses"], one["losses"], rtol=1e-6, atol=1e-6)
    assert one["net"].keys() == all_["net"].keys()
    torch.testing.assert_close(all_["net"], one["net"], rtol=1e-4, atol=1e-5)


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
