"""Segmenters: a class for each pixel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from rsseg.common.config import validate
from rsseg.images.torch_types import Module
from rsseg.training.head import Head


class SegmentationHead(Head):
    """A class for each pixel, metrics over all pixels of a data set."""

    name: ClassVar = "segmentation"
    noun: ClassVar = "segmenter"
    dense: ClassVar = True
    metrics: ClassVar = ("pixel_accuracy", "mean_accuracy", "mean_iou")
    metric: ClassVar = "mean_iou"
    formats: ClassVar = ("png", "overlay", "json")

    def network(self, model: Mapping[str, Any]) -> Module:
        """Build a segmenter from the values of a `ModelConfig`, see `Head`."""
        from rsseg.segmentation.model import ModelConfig, build_segmenter

        # The weights come from the checkpoint; the file of the encoder may be gone.
        values = {**model, "encoder_weights": None}
        return build_segmenter(validate(ModelConfig, values, "the checkpoint"))
