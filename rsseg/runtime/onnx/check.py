"""An exported file against PyTorch: the same random images through both.

Knows no file format: the caller passes a function that runs the file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsseg.common.files import check_output
from rsseg.common.messages import first_line
from rsseg.switchable.net import SwitchableNet

TOLERANCE: Final = 1e-3
Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]
_BATCH: Final = 2
_UNTRAINED: Final = 2  # sizes that are compared besides the trained ones
# Encoders shrink by 32 and most networks take its multiples: for when no side lies between.
_STEP: Final = 32


def check_request(checkpoint: Path, out: Path, tolerance: float, *, overwrite: bool) -> None:
    """Check what every export is asked for, before anything is loaded.

    Args:
        checkpoint: To export.
        out: File or folder to write.
        tolerance: Largest difference of a logit from PyTorch.
        overwrite: Whether what exists may be replaced.

    Raises:
        ValueError: If the checkpoint would be written over, something exists or cannot be made
            there, or the tolerance is not a positive number.
    """
    if out.resolve() == checkpoint.resolve():
        raise ValueError(f"{out} is the checkpoint itself; choose another name")
    if not 0 < tolerance < math.inf:
        raise ValueError(f"tolerance must be a positive number, got {tolerance}")
    check_output(out, overwrite=overwrite)


@dataclass(frozen=True)
class Difference:
    """How far a file is from PyTorch at one resolution.

    Attributes:
        height: Of the images in pixels.
        width: The same.
        trained: Whether the resolution was trained.
        largest: Largest absolute difference of the logits.
        logits: Largest absolute value of the logits.
    """

    height: int
    width: int
    trained: bool
    largest: float
    logits: float

    def __str__(self) -> str:
        kind = "trained" if self.trained else "not trained"
        return (
            f"{self.height}x{self.width} ({kind}): largest difference {self.largest:.1e}, "
            f"logits up to {self.logits:.3g}"
        )


def differences(
    net: SwitchableNet, run: Run, trained: Sequence[int], *, untrained: bool
) -> list[Difference]:
    """Compare a file with the network that it was made from.

    Args:
        net: Network in evaluation mode on the CPU.
        run: From images, float32, shape (B, 3, h, w), to the file's logits.
        trained: Resolutions to compare at, with squares.
        untrained: Compare with two sizes that were not trained as well, the second not a square.

    Returns:
        The difference at each size.
    """
    sizes = [(side, side, True) for side in trained]
    if untrained:
        sizes += [(*size, False) for size in _untrained_sizes(net)]
    compared = []
    for seed, (height, width, is_trained) in enumerate(sizes):
        images = _random_images(height, width, seed)
        expected = _predicted(net, images).numpy()
        logits = _run(run, images.numpy())
        if logits.shape != expected.shape:
            raise ValueError(
                f"the file gives logits of shape {logits.shape} for images of {height}x{width} "
                f"pixels, the network {expected.shape}"
            )
        largest, size = np.abs(logits - expected).max(), np.abs(expected).max()
        compared.append(Difference(height, width, is_trained, float(largest), float(size)))
    return compared


def _run(run: Run, images: NDArray[np.float32]) -> NDArray[np.float32]:
    try:
        return run(images)
    except Exception as error:  # Each runtime has errors of its own.
        height, width = images.shape[-2:]
        raise ValueError(
            f"the exported network fails on images of {height}x{width} pixels, and nothing was "
            f"written: {first_line(error)}"
        ) from error


def check(compared: Sequence[Difference], tolerance: float = TOLERANCE) -> None:
    """Check that a file computes what PyTorch does.

    Raises:
        ValueError: If a difference is above the tolerance, or is not a number.
    """
    # Written so that a difference which is not a number fails as well.
    bad = [each for each in compared if not each.largest <= tolerance]
    if bad:
        raise ValueError(
            f"the exported network differs from PyTorch by more than {tolerance:g} at {bad[0]}; "
            "nothing was written. A larger tolerance may be right for very large logits"
        )


def _random_images(height: int, width: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(_BATCH, 3, height, width, generator=generator)


def _predicted(net: SwitchableNet, images: Tensor) -> Tensor:
    with torch.inference_mode():
        return net.predict(images)


def _untrained_sizes(net: SwitchableNet) -> Iterator[tuple[int, int]]:
    """Yield the first untrained sizes that the network takes: between trained ones, if it can."""
    trained = list(dict.fromkeys(net.resolutions))
    between = [(a + b) // 2 for a, b in pairwise(trained)]
    first_and_last = dict.fromkeys([*between[:1], *between[-1:]])
    whole = [side // _STEP * _STEP for side in between]
    outside = [trained[0] + _STEP, trained[0] + 2 * _STEP, trained[-1] - _STEP]
    candidates = dict.fromkeys([*first_and_last, *whole, *between, *outside])
    count = 0
    for side in candidates:
        size = (side, side + count * _STEP)
        if count < _UNTRAINED and side > 0 and side not in trained and _takes(net, size):
            count += 1
            yield size


def _takes(net: SwitchableNet, size: tuple[int, int]) -> bool:
    try:
        _predicted(net, _random_images(*size, seed=0))
    except (RuntimeError, ValueError, AssertionError):  # Each network has its own way to refuse.
        return False
    return True
