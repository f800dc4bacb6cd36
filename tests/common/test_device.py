"""Devices by name, and deterministic algorithms."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from rsseg.common.device import choose_device, make_deterministic


def test_auto_takes_cuda_where_there_is_one() -> None:
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    assert choose_device("auto") == torch.device(kind)
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:99", "cuda:x"])
def test_device_that_is_not_there_is_named_in_one_line(name: str) -> None:
    with pytest.raises(ValueError, match=f"device '{name}' cannot be used here") as caught:
        choose_device(name)
    assert str(caught.value).endswith("expected auto, cpu or cuda")
    assert "\n" not in str(caught.value)


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(os.environ, "CUBLAS_WORKSPACE_CONFIG", ":16:8")
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("restored")
def test_operation_without_deterministic_algorithm_is_an_error() -> None:
    make_deterministic()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"  # What was chosen stays.
    with pytest.raises(RuntimeError, match="does not have a deterministic"):
        torch.zeros(3).put_(torch.tensor([0]), torch.ones(1), accumulate=False)
