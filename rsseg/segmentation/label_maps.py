"""From the logits of a segmenter to the class of each pixel, at any size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

# Classes resized together: enough to be fast, few enough to stay in cache; fewer for a large image,
# as one of 24 megapixels with 40 classes has 1e9 logits.
_CLASSES_AT_ONCE = 16
_LOGITS_AT_ONCE = 2**26  # 256 MiB as float32


def predict_labels(logits: Tensor, size: Sequence[int]) -> Tensor:
    """Resize the logits of one image bilinearly and take the best class of each pixel.

    The same classes as from resizing all logits at once, without holding these in memory.

    Args:
        logits: Any float dtype, shape (K, h, w).
        size: Height and width of the result.

    Returns:
        Classes, int64, shape (*size).
    """
    if logits.shape[-2:] == tuple(size):
        return _best_class(logits)
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
