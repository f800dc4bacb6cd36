"""Crops of a batch that are resized where the network is.

Images are cropped where they are read, and every crop has a size of its own. A batch of them can
go to the device as it is, and become the views of all resolutions there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rsseg.preprocessing import resize_image


class Cut(NamedTuple):
    """What is left of one image.

    Attributes:
        pieces: One crop for all resolutions, or one for each; uint8, shape (3, h, w).
        mirrored: For each resolution, whether the view is mirrored left to right.
    """

    pieces: tuple[Tensor, ...]
    mirrored: tuple[bool, ...]

    def view(self, index: int, side: int) -> Tensor:
        """Resize the crop of the resolution `index` to its side: uint8, shape (3, side, side)."""
        piece = self.pieces[index if len(self.pieces) > 1 else 0]
        view = resize_image(piece, (side, side))
        return (view.flip(-1) if self.mirrored[index] else view).contiguous()


class CutBatch:
    """The crops of a batch.

    Args:
        cuts: One for each image.
    """

    def __init__(self, cuts: Sequence[Cut]) -> None:
        self.cuts = cuts

    def pin_memory(self) -> CutBatch:
        """Copy the crops into pinned memory, for a fast way to the device."""
        pinned = [
            cut._replace(pieces=tuple(p.pin_memory() for p in cut.pieces)) for cut in self.cuts
        ]
        return CutBatch(pinned)

    def views(
        self, device: torch.device, resolutions: Sequence[int], members: Sequence[int] | None
    ) -> list[Tensor]:
        """Resize on a device.

        Args:
            device: Where the views are made.
            resolutions: Sides of the views, largest first.
            members: Indices of the resolutions that are wanted; None for all.

        Returns:
            Views, uint8, shape (B, 3, r, r) for each of these resolutions.
        """
        moved = [
            cut._replace(pieces=tuple(p.to(device, non_blocking=True) for p in cut.pieces))
            for cut in self.cuts
        ]
        chosen = range(len(resolutions)) if members is None else members
        return [
            torch.stack([cut.view(index, resolutions[index]) for cut in moved]) for index in chosen
        ]
