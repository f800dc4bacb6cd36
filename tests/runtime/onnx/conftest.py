"""The table of operators of PyTorch's ONNX exporter, made once for all tests of this folder."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from torch.onnx._internal.exporter._registration import ONNXRegistry


@pytest.fixture(scope="package", autouse=True)
def _operators() -> Iterator[None]:
    """Let the exporter copy its table: to make one it parses the source of 500 functions."""
    made = cache(ONNXRegistry.from_torchlib)

    def copied(opset_version: int) -> Any:
        table = copy.copy(made(opset_version))
        # Translations of an export's own are put before those of the table.
        table.functions = {name: [*found] for name, found in table.functions.items()}
        return table

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ONNXRegistry, "from_torchlib", staticmethod(copied))
        yield
