"""What an executor is: from normalised images to logits at a resolution.

All of them may be called by several threads at once: nothing that one call uses is changed by
another, so a thread gets to the bit what it would get alone. How an image becomes a view, and what
the logits mean, is decided in `predictor`.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rsseg.common.messages import first_line

Views = NDArray[np.float32]  # (B, 3, h, w), normalised
Logits = NDArray[np.float32]  # (B, K) or (B, K, h, w)


class Executor(Protocol):
    """Computes the logits of views; safe to be called by several threads at once."""

    @property
    def name(self) -> str:
        """Name of the executor, a key of `opening.EXECUTORS`."""

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Trained resolutions that it can compute, each once, largest first."""

    @property
    def device(self) -> str:
        """Where it computes, such as "cpu" or "cuda:0"."""

    def logits(self, images: Views, resolution: int) -> Logits:
        """Compute the logits of a batch.

        Args:
            images: Normalised views, float32, shape (B, 3, h, w).
            resolution: Side in pixels; it chooses the BatchNorm set, images are not resized.

        Returns:
            Logits at the network's own output size, float32, shape (B, K) or (B, K, h, w).

        Raises:
            ValueError: If it cannot compute views of this kind.
        """


def check_views(images: Views) -> None:
    """Check that an array is a batch of views.

    Raises:
        ValueError: If it is not.
    """
    if images.dtype != np.float32 or images.ndim != 4 or images.shape[1] != 3 or not images.size:
        raise ValueError(
            "expected normalised images, float32, shape (B, 3, h, w), got "
            f"{images.dtype}, shape {images.shape}"
        )


def view_size_error(resolution: int, images: Views, error: Exception) -> str:
    """Return the message that a network cannot compute views of this size."""
    reason = first_line(error)
    return (
        f"the network cannot predict at resolution {resolution}, with views of "
        f"{images.shape[-1]}x{images.shape[-2]} pixels: {reason}"
    )
