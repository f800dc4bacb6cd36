"""Segmentation as a task: the network, the loss over label maps, the table of the classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from rsseg.common.distributed import all_sum, world_size
from rsseg.common.files import write_csv
from rsseg.images.preprocessing import PHOTO_SIZE, VOID
from rsseg.losses.mred import MREDLosses
from rsseg.losses.pixelwise import pixelwise_mred_loss
from rsseg.segmentation.config import SegmentationConfig
from rsseg.segmentation.evaluate import SegmentationEvaluator
from rsseg.segmentation.model import build_segmenter
from rsseg.training.evaluation import Evaluation
from rsseg.training.step import Loss, Outputs
from rsseg.training.task import Task, Tests


def build_network(config: SegmentationConfig, pretrained: bool) -> nn.Module:
    """Build the segmenter of a run, `pretrained` with the weights that its settings name."""
    return build_segmenter(
        config.model if pretrained else replace(config.model, encoder_weights=None)
    )


def check_sizes(network: nn.Module, config: SegmentationConfig, resolutions: Sequence[int]) -> None:
    """Check that a network can take views of the given resolutions.

    Raises:
        ValueError: If it cannot, as those of segmentation-models-pytorch whose sizes have to be
            multiples of 32.
    """
    check = getattr(network, "check_input_shape", None)
    if check is None or not getattr(network, "requires_divisible_input_shape", True):
        return
    shapes = [config.preprocessing.size(r, *PHOTO_SIZE) for r in resolutions]
    for resolution, shape in zip(resolutions, shapes, strict=True):
        try:
            check(torch.empty(1, 3, *shape))
        except RuntimeError as error:
            raise ValueError(
                f"{type(network).__name__} cannot take views of resolution {resolution}, "
                f"{shape[0]}x{shape[1]} pixels ({error}); choose other resolutions with "
                "preprocessing.fit 'square', or the architecture refinenet"
            ) from error


def build_loss(config: SegmentationConfig, _tests: Tests, _device: torch.device) -> Loss:
    """Return the loss of a run as a function of what a step gives."""

    def loss(outputs: Outputs) -> MREDLosses:
        losses = pixelwise_mred_loss(
            outputs.logits,
            outputs.target,
            outputs.scores,
            variant=config.distillation,
            ignore_index=VOID,
            distillation_scale=config.distillation_scale,
        )
        return weighted_by_pixels(losses, outputs.target)

    return loss


def weighted_by_pixels(losses: MREDLosses, target: Tensor) -> MREDLosses:
    """Weigh means over the pixels of this process, so that their mean is that over all pixels.

    Args:
        losses: Means over the valid pixels of `target`.
        target: Label maps of this process, shape (B, H, W).
    """
    if world_size() == 1:
        return losses
    pixels = (target != VOID).sum()
    share = pixels * world_size() / all_sum(pixels).clamp(min=1)
    return MREDLosses(*(value * share for value in losses))


def report_classes(
    evaluation: Evaluation[SegmentationEvaluator], _tests: Tests, folder: Path
) -> None:
    """Write per_class.csv: accuracy and IoU of every class at every resolution."""
    rows = [
        {"resolution": name, **row}
        for name, evaluator in evaluation.evaluators.items()
        for row in evaluator.per_class()
    ]
    write_csv(folder / "per_class.csv", rows)


def _evaluator(tests: Tests) -> SegmentationEvaluator:
    return SegmentationEvaluator(tests.classes, ignore_index=VOID)


SEGMENTATION: Task[SegmentationConfig] = Task(
    name="segmentation",
    config=SegmentationConfig,
    network=build_network,
    check=check_sizes,
    loss=build_loss,
    evaluator=_evaluator,
    report=report_classes,
    metric="mean_iou",
    shown=("pixel_accuracy", "mean_accuracy", "mean_iou"),
    mix=lambda _config: None,
)
