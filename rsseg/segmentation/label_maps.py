"""From the logits of a segmenter to the class of each pixel, at any size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from rsseg.segmentation import cells

# Classes resized together: enough to be fast, few enough to stay in cache; fewer for a large image,
# as one of 24 megapixels with 40 classes has 1e9 logits.
_CLASSES_AT_ONCE = 16
_LOGITS_AT_ONCE = 2**26  # 256 MiB as float32


def predict_labels(
    logits: Tensor, size: Sequence[int], *, dtype: torch.dtype = torch.int64
) -> Tensor:
    """Resize the logits of one image bilinearly and take the best class of each pixel.

    A draw goes to the first class. On a CPU only the pixels between classes are computed, by the
    formula of `cells`, which gives one label map on every machine. On a GPU, and where logits are
    not finite, it is `torch.nn.functional.interpolate` over some classes at a time; the two may
    differ where the best two values of a pixel are equal but for rounding. Neither holds the
    resized logits of all classes in memory.

    Args:
        logits: Any float dtype, shape (K, h, w).
        size: Height and width of the result.
        dtype: Type of the result; one byte is enough for 256 classes.

    Returns:
        Classes, shape (*size).

    Raises:
        ValueError: If the logits or the result have no pixel.
    """
    if logits.numel() == 0 or min(size) < 1:
        raise ValueError(
            f"expected logits (K, h, w) and a size of at least 1x1, got {tuple(logits.shape)} "
            f"and {tuple(size)}"
        )
    if logits.shape[-2:] == tuple(size):
        return _best_class(logits).to(dtype)
    if logits.is_cpu:
        single = logits.detach().float().contiguous()
        low, high = (float(value) for value in single.aminmax())
        if low > -cells.LARGEST and high < cells.LARGEST:  # both are false of NaN
            return torch.from_numpy(cells.label_map(single.numpy(), size)).to(dtype)
    return best_class_in_parts(logits, size).to(dtype)


def best_class_in_parts(logits: Tensor, size: Sequence[int]) -> Tensor:
    """Resize some classes at a time, and keep the best so far; int64, as `predict_labels`."""
    best = labels = torch.empty(0)
    step = min(_CLASSES_AT_ONCE, max(1, _LOGITS_AT_ONCE // (size[0] * size[1])))
    for start in range(0, len(logits), step):
        part = logits[None, start : start + step].float()
        # Channels last is the faster order for both steps.
        part = part.contiguous(memory_format=torch.channels_last)
        resized = F.interpolate(part, size=tuple(size), mode="bilinear", align_corners=False)
        values, classes = resized[0].max(dim=0)
        if start == 0:
            best, labels = values, classes
        else:
            labels = torch.where(values > best, classes + start, labels)
            best = torch.maximum(best, values)
    return labels


def _best_class(logits: Tensor) -> Tensor:
    """Return the first best class; faster than argmax, which strides through memory here."""
    best = logits[0].clone()
    labels = torch.zeros_like(best, dtype=torch.int64)
    for index, values in enumerate(logits[1:], start=1):
        labels.masked_fill_(values > best, index)
        torch.maximum(best, values, out=best)
    return labels
