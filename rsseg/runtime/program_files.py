"""Files .pt2: the folded network of one resolution as a program of torch.export.

Source: https://docs.pytorch.org/docs/stable/export.html
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from rsseg.common.config import plain
from rsseg.runtime.description import Description
from rsseg.runtime.folding import fold_batchnorms
from rsseg.runtime.onnx.check import Run
from rsseg.runtime.onnx.mixing import ordinary
from rsseg.runtime.onnx.program import Sides, example_images, exported
from rsseg.switchable.net import SwitchableNet

DESCRIPTION: Final = "rsseg.json"


def write(net: SwitchableNet, told: Description, path: Path) -> None:
    """Write the network of one resolution, for images of any size where it takes them.

    Args:
        net: Network in evaluation mode on the CPU.
        told: What the file says, under the name `DESCRIPTION`.
        path: File to write.

    Raises:
        ValueError: If torch.export cannot take the network.
    """
    assert told.resolution is not None
    network = ordinary(net, told.resolution)
    try:
        program = _folded(network, told.resolution, "any")
    except ValueError:
        program = _folded(network, told.resolution, "fixed")
    text = json.dumps(plain(told))
    torch.export.save(program, path, extra_files={DESCRIPTION: text})


def _folded(
    network: torch.nn.Module, resolution: int, sides: Sides
) -> torch.export.ExportedProgram:
    example = example_images(resolution, sides)
    return exported(fold_batchnorms(network, example, sides=sides), example, sides=sides)


def runner(path: Path) -> Run:
    """Open such a file, to be run once or twice."""
    # Guards would refuse images so small that a map shrinks to one pixel.
    network = torch.export.load(path).module(check_guards=False)

    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits: NDArray[np.float32] = network(torch.from_numpy(images)).numpy()
        return logits

    return run
