"""From a network to the graph that torch.export takes of it.

Which sizes of images a graph takes is decided here; what is done with it is in `folding`,
`onnx_models` and `program_files`.

Source: https://docs.pytorch.org/docs/stable/export.html
"""

from __future__ import annotations

import math
import textwrap
from typing import Final, Literal

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

# In the example that a network is traced with no map may shrink to one pixel: that would be taken
# for a fact about every image. Encoders shrink by 32.
_SMALLEST_EXAMPLE: Final = 96
_LONGEST: Final = 300  # letters of a reason: some name every tensor of a network
Sides = Literal["any", "fixed"]


def example_images(resolution: int, sides: Sides) -> Tensor:
    """Make images to trace a network with, random, shape (2, 3, h, w).

    Images for a graph of any sides may be larger than the resolution, by a whole factor.
    """
    factor = math.ceil(_SMALLEST_EXAMPLE / resolution) if sides == "any" else 1
    side = factor * resolution
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))


def exported(network: nn.Module, example: Tensor, *, sides: Sides) -> ExportedProgram:
    """Take the graph of a network.

    Args:
        network: Network in evaluation mode.
        example: Images it is traced with, shape (B, C, H, W), B at least 2; any B is taken later.
        sides: Whether images of any height and width are taken later, or of this size only.

    Raises:
        ValueError: If torch.export cannot take the network, or not for any sides.
    """
    batch = Dim("batch", min=1)
    axes = {0: batch, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC} if sides == "any" else {0: batch}
    try:
        with torch.no_grad():
            return torch.export.export(network, (example,), dynamic_shapes=(axes,), strict=False)
    except Exception as error:  # Each part of torch.export has errors of its own.
        size = "of any size" if sides == "any" else f"of {example.shape[-1]} pixels"
        raise ValueError(
            f"torch.export cannot take {type(network).__name__} for images {size}: "
            f"{_first_line(error)}"
        ) from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return textwrap.shorten(lines[0], _LONGEST) if lines else type(error).__name__
