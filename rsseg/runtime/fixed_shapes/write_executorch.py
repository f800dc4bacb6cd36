"""From a network to an ExecuTorch program (.pte) with one method for each resolution, for phones.

Constants lie in the file under the digest of their content, so methods share those that are equal.

Source: https://docs.pytorch.org/executorch/stable/, "Model Export and Lowering".
"""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

from rsseg.common.config import plain
from rsseg.common.extras import import_extra
from rsseg.common.messages import first_line
from rsseg.runtime.description import KEY, Description
from rsseg.runtime.fixed_shapes.executorch import NAME, method_of, quiet
from rsseg.runtime.fixed_shapes.programs import programs_of
from rsseg.switchable.net import SwitchableNet


def write_executorch(net: SwitchableNet, description: Description, path: Path) -> None:
    """Write a network as an ExecuTorch program for XNNPACK, without comparing it.

    Args:
        net: Network in evaluation mode on the CPU.
        description: Goes into the file; its usable resolutions become methods.
        path: File to write.

    Raises:
        ValueError: If the network cannot be exported.
        ImportError: If ExecuTorch is not installed.
    """
    import_extra(NAME)
    programs = programs_of(net, description.usable)
    methods = {method_of(description, side): program for side, program in programs.items()}
    try:
        with quiet():
            lower = import_module("executorch.exir").to_edge_transform_and_lower
            place = "executorch.backends.xnnpack.partition.xnnpack_partitioner"
            partitioner = import_module(place).XnnpackPartitioner()
            lowered = lower(
                methods,
                partitioner=[partitioner],
                constant_methods={KEY: json.dumps(plain(description))},
            )
            program = lowered.to_executorch()
    except Exception as error:  # Its errors have no common class.
        reason = first_line(error)
        raise ValueError(f"ExecuTorch cannot take the network: {reason}") from error
    with path.open("wb") as stream:
        program.write_to_file(stream)
