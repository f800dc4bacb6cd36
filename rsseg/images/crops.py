"""Crops of a batch that are resized where the network is, all at once.

Images are cropped where they are read, and every crop has a size of its own. Put into one padded
tensor they go to the device in one piece. There an antialiased bilinear resize is two products
with small matrices, one for the rows and one for the columns, which differ from image to image.

The filter is that of `resize_image`, which rounds between the two directions as Pillow does: the
views differ by at most a grey level or two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rsseg.images.preprocessing import resize_image


class Crop(NamedTuple):
    """The pixels of one image that its views show.

    Attributes:
        pieces: One crop for all resolutions, or one for each; uint8, shape (3, h, w).
        mirrored: For each resolution, whether the view is mirrored left to right.
    """

    pieces: tuple[Tensor, ...]
    mirrored: tuple[bool, ...]

    def views(self, resolutions: Sequence[int]) -> list[Tensor]:
        """Resize to each resolution r: uint8, shape (3, r, r), laid out like a decoded image."""
        # Once: resizing would copy a crop that has gaps between its rows every time.
        dense = [_as_pixels(piece).contiguous() for piece in self.pieces]
        views = []
        for index, (side, mirrored) in enumerate(zip(resolutions, self.mirrored, strict=True)):
            piece = dense[index if len(dense) > 1 else 0].permute(2, 0, 1)
            view = resize_image(piece, (side, side))
            views.append(view.flip(-1) if mirrored else view)
        return views


def _as_pixels(image: Tensor) -> Tensor:
    """Return an image (3, H, W) with the colours last, as a decoder lays them out in memory."""
    return image.permute(1, 2, 0)


def stack_images(images: Sequence[Tensor]) -> Tensor:
    """Stack images (3, H, W) to (B, 3, H, W) in the layout channels_last, that of their files."""
    return torch.stack([_as_pixels(image) for image in images]).permute(0, 3, 1, 2)


class CropBatch(NamedTuple):
    """The crops of a batch.

    Attributes:
        pixels: Crops, padded below and on the right, uint8, shape (P, B, 3, H, W); P is 1 for
            crops that serve all resolutions, else S.
        sizes: Height and width of each crop, shape (P, B, 2).
        mirrored: Which views are mirrored, bool, shape (S, B).
    """

    pixels: Tensor
    sizes: Tensor
    mirrored: Tensor

    @classmethod
    def of(cls, crops: Sequence[Crop]) -> CropBatch:
        """Return the padded batch of the crops of several images."""
        kinds = len(crops[0].pieces)
        sizes = torch.tensor([[crop.pieces[k].shape[1:] for crop in crops] for k in range(kinds)])
        height, width = sizes.amax(dim=(0, 1)).tolist()
        pixels = torch.zeros(kinds, len(crops), 3, height, width, dtype=torch.uint8)
        for k in range(kinds):
            for place, crop in zip(pixels[k], crops, strict=True):
                piece = crop.pieces[k]
                place[:, : piece.shape[1], : piece.shape[2]] = piece
        return cls(pixels, sizes, torch.tensor([crop.mirrored for crop in crops]).T)

    def views(
        self, device: torch.device, resolutions: Sequence[int], members: Sequence[int] | None
    ) -> list[Tensor]:
        """Resize on a device.

        Args:
            device: Where the views are made.
            resolutions: Sides of the views, largest first.
            members: Indices of the resolutions to return; None for all.

        Returns:
            Views, uint8, shape (B, 3, r, r) for each of these resolutions.
        """
        pixels, sizes, mirrored = (part.to(device, non_blocking=True) for part in self)
        indices = range(len(resolutions)) if members is None else members
        views = []
        for index in indices:
            k, side = index if len(pixels) > 1 else 0, resolutions[index]
            rows = resize_matrices(sizes[k, :, 0], pixels.shape[-2], side)
            columns = resize_matrices(sizes[k, :, 1], pixels.shape[-1], side)
            columns = torch.where(mirrored[index, :, None, None], columns.flip(1), columns)
            # Columns first: it is the product with the smaller result.
            view = rows[:, None] @ (pixels[k].float() @ columns[:, None].mT)
            views.append(view.round_().clamp_(0, 255).to(torch.uint8))
        return views


def resize_matrices(lengths: Tensor, padded: int, side: int) -> Tensor:
    """Return, for each image, the matrix that resizes a padded row of pixels.

    Args:
        lengths: Pixels that count in each row, shape (B,).
        padded: Pixels with the padding.
        side: Pixels to resize to.

    Returns:
        Weights of the antialiased bilinear (triangle) filter, rows sum to 1, shape
        (B, side, padded).
    """
    scale = lengths.float()[:, None, None] / side
    centres = (torch.arange(side, device=lengths.device) + 0.5)[None, :, None] * scale
    pixels = torch.arange(padded, device=lengths.device)[None, None] + 0.5
    weights = (1 - (pixels - centres).abs() / scale.clamp(min=1)).clamp(min=0)
    weights = weights * (pixels < lengths[:, None, None])
    return weights / weights.sum(dim=-1, keepdim=True)
