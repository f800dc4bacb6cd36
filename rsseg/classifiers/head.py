"""Classifiers: a class for each image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from rsseg.common.config import validate
from rsseg.images.torch_types import Module
from rsseg.training.head import Head


class ClassificationHead(Head):
    """A class for each image, metrics over all images of a data set."""

    name: ClassVar = "classification"
    noun: ClassVar = "classifier"
    dense: ClassVar = False
    metrics: ClassVar = ("top1", "top5")
    metric: ClassVar = "top1"
    formats: ClassVar = ("json",)

    def network(self, model: Mapping[str, Any]) -> Module:
        """Build a classifier from the values of a `ClassifierConfig`, see `Head`."""
        from rsseg.classifiers.build import ClassifierConfig, build_classifier

        # The weights come from the checkpoint; the file it began with may be gone.
        values = {**model, "weights": None}
        return build_classifier(validate(ClassifierConfig, values, "the checkpoint"))
