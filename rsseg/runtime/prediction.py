"""Prediction: the answer of a network for one image at one resolution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rsseg.images.preprocessing import LabelMap
from rsseg.images.torch_types import loaded_torch
from rsseg.runtime.stages import Stages

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """The answer of a network for one image.

    Args:
        resolution: Side of the view in pixels.
        stages: Milliseconds by stage; whoever writes or sends the answer adds his own.
        logits: Shape (K,) of a classifier, (K, h, w) of a segmenter.
        classes: Names of the K classes.
        label_map: Class of each pixel of the image as it was given, shape (H, W), uint8; None of
            a classifier.
        ran: Every resolution that was computed on the way, the answer's last.
        fits: Whether the resolution was expected to keep the budget; None without one.
    """

    resolution: int
    stages: Stages
    logits: Floats
    classes: tuple[str, ...]
    label_map: LabelMap | None = None
    ran: tuple[int, ...] = ()
    fits: bool | None = None

    @property
    def milliseconds(self) -> float:
        """From the decoded image to the answer: its view, the network, the result."""
        return self.stages.prediction

    @property
    def network_ms(self) -> float:
        """Of these, the time of the network, with the copies to and from its device."""
        return self.stages.network

    @property
    def probabilities(self) -> Floats:
        """Probability of each class of a classifier, 0..1, shape (K,).

        Raises:
            ValueError: Of a segmenter, whose answer is the `label_map`.
        """
        if self.logits.ndim != 1:
            raise ValueError("a segmenter has no probabilities of an image; use its label_map")
        probabilities: Floats
        torch = loaded_torch()
        if torch is not None:  # The values of its own softmax, which rounds in another order.
            probabilities = torch.from_numpy(self.logits).softmax(0).numpy()
        else:
            powers = np.exp(self.logits.astype(np.float64) - self.logits.max())
            probabilities = (powers / powers.sum()).astype(np.float32)
        return probabilities

    @property
    def label(self) -> int:
        """The most probable class of a classifier; of equal ones the first.

        Raises:
            ValueError: Of a segmenter.
        """
        return int(self.probabilities.argmax())

    @property
    def margin(self) -> float:
        """Probability of the best class less that of the second, 0..1; 1 with a single class.

        Raises:
            ValueError: Of a segmenter.
        """
        best = np.sort(self.probabilities)[::-1]
        return float(best[0] - best[1]) if len(best) > 1 else 1.0

    def top(self, n: int) -> list[tuple[str, float]]:
        """Return the n most probable classes of a classifier, and their probabilities.

        Raises:
            ValueError: Of a segmenter, or if n is below 1.
        """
        if n < 1:
            raise ValueError(f"expected at least 1 class to name, got {n}")
        probabilities = self.probabilities
        # Stable: of equal classes the earlier one comes first, as in the evaluation.
        order = np.argsort(-probabilities, kind="stable")[:n]
        return [(self.classes[index], float(probabilities[index])) for index in order]
