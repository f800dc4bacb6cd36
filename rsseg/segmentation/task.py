"""Segmentation as the training loop sees it: the network, the loss, what a checkpoint tells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rsseg.complexity import batchnorm_parameters, count_macs, count_parameters
from rsseg.config import plain
from rsseg.engine import Loss
from rsseg.evaluation import ENSEMBLE, Evaluation, evaluate
from rsseg.mred import MREDLosses
from rsseg.net import SwitchableNet
from rsseg.pixelwise import pixelwise_mred_loss
from rsseg.preprocessing import VOID
from rsseg.run import write_csv
from rsseg.segmentation.config import SegmentationConfig
from rsseg.segmentation.evaluate import SegmentationEvaluator
from rsseg.segmentation.model import build_segmenter

METRIC = "mean_iou"
SHOWN = ("pixel_accuracy", "mean_accuracy", "mean_iou")


def build_net(config: SegmentationConfig, device: torch.device) -> SwitchableNet:
    """Build the network of a run; scores are held only when an ensemble teaches."""
    torch.manual_seed(config.seed)
    net = SwitchableNet(
        build_segmenter(config),
        config.resolutions,
        scores=config.distillation != "none",
        batchnorm=config.batchnorm,
    )
    layout = torch.channels_last if config.channels_last else torch.contiguous_format
    return net.to(device).to(memory_format=layout)


def build_loss(config: SegmentationConfig, net: SwitchableNet) -> Loss:
    """Return the loss of a run as a function of the S logits and the label maps."""

    def loss(logits: Sequence[Tensor], target: Tensor) -> MREDLosses:
        return pixelwise_mred_loss(
            logits,
            target,
            net.scores,
            variant=config.distillation,
            ignore_index=VOID,
            distillation_scale=config.distillation_scale,
        )

    return loss


def describe(
    config: SegmentationConfig, net: SwitchableNet, classes: Sequence[str]
) -> dict[str, Any]:
    """Return the metadata of a run's checkpoints and results, as plain values."""
    settings = plain(config)
    return {
        "task": "segmentation",
        "model": settings["model"],
        "resolutions": settings["resolutions"],
        "batchnorm": config.batchnorm,
        "preprocessing": settings["preprocessing"],
        "classes": list(classes),
        "parameters": count_parameters(net),
        "batchnorm_parameters": batchnorm_parameters(net),
        "macs": {str(r): count_macs(net, r) for r in net.resolutions},
        "versions": {"torch": str(torch.__version__)},
        "config": settings,
    }


def evaluate_net(
    config: SegmentationConfig,
    net: SwitchableNet,
    batches: Iterable[tuple[Sequence[Tensor], Sequence[Tensor]]],
    classes: Sequence[str],
    resolutions: Sequence[int],
) -> Evaluation[SegmentationEvaluator]:
    """Evaluate a network on test batches at the given resolutions."""
    return evaluate(
        net,
        batches,
        partial(SegmentationEvaluator, tuple(classes), ignore_index=VOID),
        resolutions=resolutions,
        preprocessing=config.preprocessing,
        device=next(net.parameters()).device,
    )


def results_of(
    net: SwitchableNet,
    metadata: Mapping[str, Any],
    evaluation: Evaluation[SegmentationEvaluator],
    resolutions: Sequence[int],
) -> dict[str, Any]:
    """Return the results of evaluating a checkpoint, in the form of a run's results.json."""
    return {
        **metadata,
        "unseen": net.unseen,
        "macs": {str(r): count_macs(net, r) for r in resolutions},
        "metrics": evaluation.results(),
        "alpha": evaluation.alpha if ENSEMBLE in evaluation.evaluators else None,
    }


def report_classes(evaluation: Evaluation[SegmentationEvaluator], folder: Path) -> None:
    """Write per_class.csv: accuracy and IoU of every class at every resolution."""
    rows = [
        {"resolution": name, **row}
        for name, evaluator in evaluation.evaluators.items()
        for row in evaluator.per_class()
    ]
    write_csv(folder / "per_class.csv", rows)
