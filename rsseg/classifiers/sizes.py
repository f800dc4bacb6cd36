"""Networks of timm for images of several sizes: which options make one take them all.

Convolutions take any size. A network with a table of positions is built for one size and needs to
be told that images differ: tables of absolute positions are then resized as timm does
(`dynamic_img_size`), one table for all resolutions, and images may be padded to whole patches
(`dynamic_img_pad`); windows of attention are padded, with the table of relative positions of one
window (`strict_img_size`). What is tried is here, what works is found out on shapes alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import timm
import torch
from torch import nn

from rsseg.common.messages import first_line
from rsseg.switchable.complexity import count_macs

Options = dict[str, Any]


def size_options(name: str, sides: Sequence[int], options: Options | None = None) -> Options | None:
    """Return the options with which a network of timm takes images of several sizes.

    Args:
        name: Of the network, without "timm/".
        sides: Of square images in pixels.
        options: What it is built with besides.

    Returns:
        The first of the candidates that works, without `options`; None if none does.
    """
    for candidate in candidates(sides):
        if size_error(name, sides, {**(options or {}), **candidate}) is None:
            return candidate
    return None


def candidates(sides: Sequence[int]) -> Iterator[Options]:
    """Yield options for images of several sizes, the plainest first."""
    size = max(sides)
    yield {}
    yield {"dynamic_img_size": True}
    yield {"img_size": size, "dynamic_img_size": True}
    yield {"img_size": size, "dynamic_img_size": True, "dynamic_img_pad": True}
    yield {"strict_img_size": False}
    yield {"img_size": size, "strict_img_size": False}
    yield {"img_size": size}


def size_error(name: str, sides: Sequence[int], options: Options) -> str | None:
    """Return why a network of timm does not take images of some sizes, None if it does."""
    try:
        network = without_memory(lambda: timm.create_model(name, num_classes=10, **options))
    except Exception as error:  # Each network has errors of its own for what it does not take.
        return f"cannot be built with {options}: {first_line(error)}"
    for side in dict.fromkeys(sides):
        try:
            count_macs(network, side)
        except Exception as error:
            return f"does not take {side} pixels: {first_line(error)}"
    return None


def without_memory(build: Callable[[], nn.Module]) -> nn.Module:
    """Build a network without memory for its weights, where its code allows that."""
    try:
        with torch.device("meta"):
            return build()
    except (RuntimeError, NotImplementedError):  # Some read their weights while they are built.
        return build()
