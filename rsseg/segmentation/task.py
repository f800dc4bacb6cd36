"""Segmentation as a task: the network, the loss over label maps, the table of the classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import torch
from segmentation_models_pytorch.base import SegmentationModel
from torch import Tensor, nn

from rsseg.common.distributed import all_sum, world_size
from rsseg.common.files import write_csv
from rsseg.images.preprocessing import PHOTO_SIZE, VOID
from rsseg.losses.mred import MREDLosses
from rsseg.losses.pixelwise import pixelwise_mred_loss
from rsseg.segmentation.config import SegmentationConfig
from rsseg.segmentation.encoders import encoder_record
from rsseg.segmentation.evaluate import SegmentationEvaluator
from rsseg.segmentation.head import SegmentationHead
from rsseg.segmentation.label_maps import predict_labels
from rsseg.segmentation.model import build_segmenter
from rsseg.training.evaluation import Evaluation
from rsseg.training.step import Loss, Outputs, Teach
from rsseg.training.task import EvalData, Task
from rsseg.weights.record import Record


class Segmentation(Task[SegmentationConfig]):
    """A class for each pixel: the loss over label maps, the table of the classes."""

    head: ClassVar = SegmentationHead()
    config = SegmentationConfig

    def network(self, config: SegmentationConfig, *, pretrained: bool) -> nn.Module:
        """Build the segmenter of a run, see `Task`."""
        model = config.model if pretrained else replace(config.model, encoder_weights=None)
        return build_segmenter(model)

    def record(self, config: SegmentationConfig, *, offline: bool) -> Record | None:
        """Return the normalisation of the weights of a run, see `Task`."""
        model = config.model
        return encoder_record(
            model.encoder_name, model.encoder_weights, config.init, offline=offline
        )

    def check_sizes(
        self, network: nn.Module, config: SegmentationConfig, resolutions: Sequence[int]
    ) -> None:
        """Check that a network can take views of the given resolutions.

        Raises:
            ValueError: If it cannot, as those of segmentation-models-pytorch whose sizes have to
                be multiples of 32.
        """
        if not isinstance(network, SegmentationModel) or not network.requires_divisible_input_shape:
            return
        for resolution in resolutions:
            shape = config.preprocessing.size(resolution, *PHOTO_SIZE)
            try:
                network.check_input_shape(torch.empty(1, 3, *shape))
            except RuntimeError as error:
                raise ValueError(
                    f"{type(network).__name__} cannot take views of resolution {resolution}, "
                    f"{shape[0]}x{shape[1]} pixels ({error}); choose other resolutions with "
                    "preprocessing.fit 'square', or the architecture refinenet"
                ) from error

    def loss(
        self,
        config: SegmentationConfig,
        _data: EvalData,
        _device: torch.device,
        original: Teach | None = None,
    ) -> Loss:
        """Return the pixel-wise loss, see `Task`."""
        weight = config.adapt.teacher if config.adapt else 0.0

        def loss(outputs: Outputs) -> MREDLosses:
            answer = original(outputs.views[0]) if original else None
            target = outputs.target
            if answer is not None and not config.reads_labels:
                target = labels_of(answer, target)
            losses = pixelwise_mred_loss(
                outputs.logits,
                target,
                outputs.scores,
                variant=config.distillation,
                ignore_index=VOID,
                distillation_scale=config.distillation_scale,
                teacher=answer if weight else None,
                teacher_weight=weight,
            )
            return weighted_by_pixels(losses, target)

        return loss

    def evaluator(self, data: EvalData) -> SegmentationEvaluator:
        """Return an evaluator over all pixels, see `Task`."""
        return SegmentationEvaluator(data.classes, ignore_index=VOID)

    def report(
        self, evaluation: Evaluation[SegmentationEvaluator], _data: EvalData, folder: Path
    ) -> None:
        """Write per_class.csv: accuracy and IoU of every class at every resolution."""
        rows = [
            {"resolution": name, **row}
            for name, evaluator in evaluation.evaluators.items()
            for row in evaluator.per_class()
        ]
        write_csv(folder / "per_class.csv", rows)


def labels_of(logits: Tensor, target: Tensor) -> Tensor:
    """Return the best class of each pixel in the place of labels; void stays void.

    Args:
        logits: Of the network that answers, at any size, shape (B, K, h, w).
        target: Label maps that say which pixels are of an image, shape (B, H, W).
    """
    best = torch.stack([predict_labels(z, target.shape[1:]) for z in logits])
    return torch.where(target == VOID, target, best.to(target.dtype))


def weighted_by_pixels(losses: MREDLosses, target: Tensor) -> MREDLosses:
    """Weigh the means of this process so that the mean of all processes is that of all pixels.

    Args:
        losses: Means over the valid pixels of `target`.
        target: Label maps of this process, shape (B, H, W).
    """
    if world_size() == 1:
        return losses
    pixels = (target != VOID).sum()
    share = pixels * world_size() / all_sum(pixels).clamp(min=1)
    return MREDLosses(*(value * share for value in losses))


SEGMENTATION = Segmentation()
