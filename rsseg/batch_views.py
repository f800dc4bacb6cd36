"""Views for a training loop of one's own: the same crops and flips that the loaders here make.

Each image is cropped and mirrored once, and every view is resized from that crop. Order, batches
and processes are those of the loop.

Source: Wang et al., ECCV 2020, Section 3.3 and Table 6 (why one crop serves all resolutions).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any, NamedTuple, SupportsIndex

import numpy as np
import torch
from PIL import Image as Pictures
from torch import Tensor

from rsseg.classifiers.config import CropConfig
from rsseg.classifiers.random_crops import RandomCrops
from rsseg.common.config import validate
from rsseg.common.extras import extra_message
from rsseg.common.messages import counted
from rsseg.images.crops import stack_images
from rsseg.images.preprocessing import Image, LabelMap, Preprocessing
from rsseg.images.reading import as_rgb, noted_orientation
from rsseg.segmentation.config import AugmentationConfig

_SEEDS = 2**32


class Views(NamedTuple):
    """The views of a batch.

    Attributes:
        images: One tensor for each resolution r, largest first, uint8, shape (B, 3, r, r).
        label_maps: At the size R of the largest view, 255 for void, uint8, shape (B, R, R); None
            without label maps.
    """

    images: list[Tensor]
    label_maps: Tensor | None


def views(
    images: Iterable[object],
    label_maps: Iterable[object] | None,
    resolutions: Sequence[SupportsIndex],
    *,
    seed: SupportsIndex | torch.Generator | None = None,
    augmentation: CropConfig | AugmentationConfig | Mapping[str, Any] | None = None,
    preprocessing: Preprocessing | None = None,
) -> Views:
    """Crop and mirror each image of a batch once, at random, and resize it to each resolution.

    Without label maps a piece of random area and aspect is cropped, as classifiers train with;
    with them, image and label map are scaled, padded and cropped together.

    Args:
        images: B images of any sizes: RGB arrays, uint8, shape (H, W, 3), or pictures of Pillow;
            or tensors, uint8, shape (3, H, W), such as one of shape (B, 3, H, W).
        label_maps: For each image the class of each pixel from 0, 255 for void, any integer type,
            shape (H, W). None for images with one label, which the views leave as it is.
        resolutions: Sides of the views in pixels, from large to small.
        seed: The same one gives the same views. None draws from torch's own generator, which
            `torch.manual_seed` seeds and a DataLoader seeds in each of its workers.
        augmentation: A `CropConfig`, or an `AugmentationConfig` with label maps, or keys of it
            such as `{"crop": 256}`; default: that of the paper.
        preprocessing: Its mean colour fills the padding; default: ImageNet's.

    Returns:
        The views and the label maps, on the CPU. The views are not normalised: see
        `rsseg.Preprocessing.normalise`.

    Raises:
        ValueError: If images, label maps, resolutions or settings are not valid.
        TypeError: If an image or a label map is of another type.
        ImportError: If albumentations, which label maps need, is not installed.

    Example:
        >>> images = [np.zeros((60, 80, 3), np.uint8), np.zeros((90, 50, 3), np.uint8)]
        >>> batch, _ = views(images, None, [64, 32], seed=0)
        >>> [tuple(view.shape) for view in batch]
        [(2, 3, 64, 64), (2, 3, 32, 32)]
    """
    _check_list(images)
    pictures = list(images)
    arrays = [_image(picture) for picture in pictures]
    if not arrays:
        raise ValueError("no image given; expected a batch of at least one")
    seeds = _seeds(seed, len(arrays))
    if label_maps is None:
        return _classification_views(arrays, seeds, resolutions, augmentation)
    for picture in pictures:
        _check_orientation(picture)
    labels = [_label_map(labels) for labels in label_maps]
    _check_sizes(arrays, labels)
    colour = (preprocessing or Preprocessing()).mean_colour
    return _segmentation_views(arrays, labels, seeds, resolutions, augmentation, colour)


def _classification_views(
    images: Sequence[Image], seeds: Sequence[int], resolutions: Any, augmentation: Any
) -> Views:
    config = validate(CropConfig, augmentation or {}, "the augmentation of views")
    crops = RandomCrops(resolutions, config)
    items = [
        crops.views(torch.from_numpy(image).permute(2, 0, 1), seed)
        for image, seed in zip(images, seeds, strict=True)
    ]
    return Views([stack_images(same) for same in zip(*items, strict=True)], None)


def _segmentation_views(  # noqa: PLR0917 One call, the whole batch.
    images: Sequence[Image],
    labels: Sequence[LabelMap],
    seeds: Sequence[int],
    resolutions: Any,
    augmentation: Any,
    colour: tuple[int, int, int],
) -> Views:
    config = validate(AugmentationConfig, augmentation or {}, "the augmentation of views")
    try:
        from rsseg.segmentation.augmentation import JointViews  # noqa: PLC0415 An extra.
    except ModuleNotFoundError as error:
        if error.name != "albumentations":
            raise
        raise ImportError(extra_message(error.name), name=error.name) from error
    joint = JointViews(resolutions, config, colour)
    items = [joint(*parts) for parts in zip(images, labels, seeds, strict=True)]
    stacked = [stack_images(same) for same in zip(*(v for v, _ in items), strict=True)]
    return Views(stacked, torch.stack([label_map for _, label_map in items]))


def _check_list(images: object) -> None:
    """Refuse one image in the place of a list of images."""
    text = ""
    if isinstance(images, np.ndarray | Tensor) and images.ndim == 3:
        text = f"of shape {tuple(images.shape)}"
    elif isinstance(images, Pictures.Image):
        text = f"of {images.width}x{images.height} pixels"
    if text:
        raise ValueError(f"got one image, {text}; give a list of images, [image]")


def _check_orientation(image: object) -> None:
    """Refuse a picture beside a label map, if viewers show it turned: which is labelled?"""
    if isinstance(image, Pictures.Image) and noted_orientation(image) != 1:
        raise ValueError(
            f"a picture notes the EXIF orientation {noted_orientation(image)}, and whether its "
            "label map is of the turned image is not known; turn it first "
            "(PIL.ImageOps.exif_transpose), or give its pixels as they are (numpy.asarray)"
        )


def _image(image: object) -> Image:
    if not isinstance(image, Tensor):
        return as_rgb(image)
    if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3 or not image.numel():
        raise ValueError(
            "expected a tensor of RGB images, uint8, shape (B, 3, H, W), or a list of arrays, "
            f"uint8, shape (H, W, 3), got a tensor, {image.dtype}, of shape {tuple(image.shape)} "
            "for one image"
        )
    return np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy())


def _label_map(labels: object) -> LabelMap:
    array = labels.cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if array.dtype == np.bool_:
        raise ValueError(
            "expected a label map of integers, shape (H, W), got one of true and false; "
            "give labels.astype(np.uint8) (of a tensor labels.to(torch.uint8)), in which true is "
            "class 1"
        )
    if array.ndim != 2 or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(
            f"expected a label map of integers, shape (H, W), got {array.dtype}, shape "
            f"{array.shape}; make colours classes first"
        )
    if array.size and not 0 <= array.min() <= array.max() <= 255:
        raise ValueError(
            f"label maps hold classes from 0 and 255 for void, got values from {array.min()} to "
            f"{array.max()}"
        )
    return np.ascontiguousarray(array, dtype=np.uint8)


def _check_sizes(images: Sequence[Image], labels: Sequence[LabelMap]) -> None:
    if len(images) != len(labels):
        raise ValueError(f"got {counted(len(images), 'image')} and {len(labels)} label maps")
    for index, (image, label_map) in enumerate(zip(images, labels, strict=True)):
        if image.shape[:2] != label_map.shape:
            raise ValueError(
                f"image {index} of the batch has {image.shape[1]}x{image.shape[0]} pixels, its "
                f"label map {label_map.shape[1]}x{label_map.shape[0]}"
            )


def _seeds(seed: SupportsIndex | torch.Generator | None, count: int) -> list[int]:
    """Return a seed for each image."""
    if seed is None or isinstance(seed, torch.Generator):
        device = "cpu" if seed is None else seed.device
        drawn: list[int] = torch.randint(_SEEDS, (count,), generator=seed, device=device).tolist()
        return drawn
    whole = isinstance(seed, Integral) and not isinstance(seed, bool)
    if not whole or int(seed) < 0:
        raise ValueError(f"seed must be a whole number from 0 or a torch.Generator, got {seed!r}")
    numbers: list[int] = np.random.default_rng(int(seed)).integers(_SEEDS, size=count).tolist()
    return numbers
