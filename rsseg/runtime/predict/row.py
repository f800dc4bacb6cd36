"""Prediction for images: label maps at the images' own size, and how long the network takes.

Networks and images in, panels out (`visualize` draws them). Which files are read and written is
decided in `predict_files`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from rsseg.images.preprocessing import VOID, Image, LabelMap, Preprocessing
from rsseg.runtime.predict.timed_network import TimedNetwork
from rsseg.segmentation.evaluate import predict_labels
from rsseg.segmentation.figure import Panel, Row
from rsseg.switchable.net import SwitchableNet


def pixel_accuracy(labels: LabelMap, truth: LabelMap) -> float | None:
    """Give the share of pixels with the true class, 0..1; None where all is void."""
    valid = truth != VOID
    return float((labels == truth)[valid].mean()) if valid.any() else None


class Predictor:
    """A named network, ready to predict images of any size at any resolution.

    The network that is given keeps its mode and its active set: each resolution runs in an
    ordinary network that shares the parameters. A network in training can lend itself.

    Args:
        net: A network that was trained, from views to logits (B, K, h, w).
        preprocessing: How it reads images; the one of its checkpoint.
        classes: Names of its classes, in the order of the labels.
        name: Name in pictures and tables.
        device: Where it is moved to, such as "cpu" or "cuda"; default: where it is.
    """

    def __init__(
        self,
        net: SwitchableNet,
        preprocessing: Preprocessing,
        classes: Sequence[str],
        *,
        name: str = "RS-Net",
        device: str | torch.device | None = None,
    ) -> None:
        self.net = net
        self.classes = tuple(classes)
        self.name = name
        self.timed = TimedNetwork(net, preprocessing, name=f"'{name}'", device=device)

    def __call__(self, image: Image, resolution: int) -> Panel:
        """Predict an image at one resolution.

        Args:
            image: RGB, uint8, shape (H, W, 3).
            resolution: Side of the view in pixels; one that was not trained uses `net.unseen`.

        Returns:
            The label map, shape (H, W), and the median time of a few passes of the network
            alone, measured once for each size of the view.

        Raises:
            ValueError: If the network cannot read a view of this size, or its logits are not
                those of the classes.
        """
        logits, latency = self.timed.predict(image, resolution)
        self._check(logits)
        labels = predict_labels(logits[0], image.shape[:2]).to(torch.uint8).cpu().numpy()
        return Panel(self.name, resolution, labels, latency=latency)

    def _check(self, logits: Tensor) -> None:
        if logits.ndim != 4 or logits.shape[1] != len(self.classes):
            raise ValueError(
                f"'{self.name}' gives logits of shape {tuple(logits.shape)}, expected "
                f"(1, {len(self.classes)}, h, w) for {len(self.classes)} named classes"
            )


def predict_row(
    predictors: Sequence[Predictor],
    image: Image,
    resolutions: Sequence[int],
    *,
    truth: LabelMap | None = None,
    name: str = "image",
) -> Row:
    """Predict one image with every network at every resolution.

    Args:
        predictors: The networks.
        image: RGB, uint8, shape (H, W, 3).
        resolutions: Sides of the views in pixels.
        truth: True class of each pixel, 255 for void, shape (H, W): gives the pixel accuracies.
        name: Title of the image.

    Returns:
        What `comparison_figure` draws.
    """
    panels = []
    for predictor in predictors:
        for resolution in resolutions:
            panel = predictor(image, resolution)
            if truth is not None:
                panel = replace(panel, accuracy=pixel_accuracy(panel.labels, truth))
            panels.append(panel)
    return Row(image, panels, truth, name)
