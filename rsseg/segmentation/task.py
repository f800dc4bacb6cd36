"""Segmentation as the training loop sees it: the network, the loss, what a checkpoint tells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from rsseg.complexity import batchnorm_parameters, count_macs, count_parameters
from rsseg.config import overridden, plain
from rsseg.engine import Loss
from rsseg.evaluation import Evaluation, evaluate
from rsseg.job import Batches, Job
from rsseg.mred import MREDLosses
from rsseg.net import SwitchableNet
from rsseg.pixelwise import pixelwise_mred_loss
from rsseg.preprocessing import VOID
from rsseg.resolutions import set_names
from rsseg.run import write_csv
from rsseg.segmentation.config import SegmentationConfig
from rsseg.segmentation.evaluate import SegmentationEvaluator
from rsseg.segmentation.model import build_segmenter


class Tests(Protocol):
    """The test images of a run."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Plain values that tell this data set from another."""

    def batches(
        self, resolutions: Sequence[int]
    ) -> Iterable[tuple[Sequence[Tensor], Sequence[Tensor]]]:
        """Give views at the given resolutions, and label maps."""


METRIC = "mean_iou"
SHOWN = ("pixel_accuracy", "mean_accuracy", "mean_iou")


# What may differ when a checkpoint is evaluated again; the rest is part of what was trained.
EVALUATION_KEYS = ("data.", "preprocessing.fit", "device", "workers", "batch_size")


def build_net(
    config: SegmentationConfig, device: torch.device, *, pretrained: bool = True
) -> SwitchableNet:
    """Build the network of a run; scores are held only when an ensemble teaches.

    Args:
        config: Settings of the run.
        device: Where the network is put.
        pretrained: Load the encoder's weights, if the settings name some; a run that is continued
            has them in its checkpoint.

    Raises:
        ValueError: If the network cannot be built, or cannot take views of these sizes.
    """
    torch.manual_seed(config.seed)
    model = config.model if pretrained else replace(config.model, encoder_weights=None)
    network = build_segmenter(model)
    check_sizes(network, config, config.resolutions)
    net = SwitchableNet(
        network,
        config.resolutions,
        scores=config.distillation != "none",
        batchnorm=config.batchnorm,
    )
    layout = torch.channels_last if config.channels_last else torch.contiguous_format
    return net.to(device).to(memory_format=layout)


def check_sizes(network: nn.Module, config: SegmentationConfig, resolutions: Sequence[int]) -> None:
    """Check that a network can take views of the given resolutions.

    Raises:
        ValueError: If it cannot, as those of segmentation-models-pytorch whose sizes have to be
            multiples of 32.
    """
    check = getattr(network, "check_input_shape", None)
    if check is None or not getattr(network, "requires_divisible_input_shape", True):
        return
    shapes = [config.preprocessing.size(r, 480, 640) for r in resolutions]
    for resolution, shape in zip(resolutions, shapes, strict=True):
        try:
            check(torch.empty(1, 3, *shape))
        except RuntimeError as error:
            raise ValueError(
                f"{type(network).__name__} cannot take views of resolution {resolution}, "
                f"{shape[0]}x{shape[1]} pixels ({error}); choose other resolutions with "
                "preprocessing.fit 'square', or the architecture refinenet"
            ) from error


def build_job(
    config: SegmentationConfig, net: SwitchableNet, batches: Batches, tests: Tests
) -> Job:
    """Put together all that a run needs."""
    return Job(
        config=config,
        net=net,
        batches=batches,
        loss=build_loss(config, net),
        evaluate=partial(evaluate_net, config, net, tests, config.resolutions),
        metadata=describe(config, net, tests),
        report=report_classes,
        metric=METRIC,
    )


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


def describe(config: SegmentationConfig, net: SwitchableNet, tests: Tests) -> dict[str, Any]:
    """Return the metadata of a run's checkpoints and results, as plain values."""
    settings = plain(config)
    return {
        "task": "segmentation",
        "model": settings["model"],
        "resolutions": settings["resolutions"],
        "batchnorm": config.batchnorm,
        "preprocessing": settings["preprocessing"],
        "classes": list(tests.classes),
        "data": tests.fingerprint,
        "parameters": count_parameters(net),
        "batchnorm_parameters": batchnorm_parameters(net),
        "macs": _macs(config, net, net.resolutions),
        "versions": {"torch": str(torch.__version__)},
        "config": settings,
    }


def evaluate_net(
    config: SegmentationConfig,
    net: SwitchableNet,
    tests: Tests,
    resolutions: Sequence[int],
) -> Evaluation[SegmentationEvaluator]:
    """Evaluate a network on test batches at the given resolutions."""
    return evaluate(
        net,
        tests.batches(resolutions),
        partial(SegmentationEvaluator, tests.classes, ignore_index=VOID),
        resolutions=resolutions,
        preprocessing=config.preprocessing,
        device=next(net.parameters()).device,
    )


def _macs(
    config: SegmentationConfig, net: SwitchableNet, resolutions: Sequence[int]
) -> dict[str, int]:
    """Count the multiply-adds at each resolution, of an image of the data set's shape."""
    shapes = [config.preprocessing.size(r, 480, 640) for r in resolutions]
    return {
        name: count_macs(net, shape)
        for name, shape in zip(set_names(resolutions), shapes, strict=True)
    }


def evaluation_config(metadata: Mapping[str, Any], overrides: Sequence[str]) -> SegmentationConfig:
    """Return the settings for evaluating a checkpoint again.

    Raises:
        ValueError: If an override would change what was trained.
    """
    for assignment in overrides:
        if not assignment.startswith(EVALUATION_KEYS):
            raise ValueError(
                f"--set {assignment} changes nothing in a trained network; with --evaluate only "
                f"{', '.join(EVALUATION_KEYS)} can be set"
            )
    return overridden(SegmentationConfig, metadata["config"], overrides)


def evaluate_checkpoint(
    config: SegmentationConfig,
    net: SwitchableNet,
    metadata: Mapping[str, Any],
    tests: Tests,
    resolutions: Sequence[int],
) -> tuple[dict[str, Any], Evaluation[SegmentationEvaluator]]:
    """Evaluate a checkpoint; return results in the form of a run's results.json, and the details.

    Raises:
        ValueError: If the classes are not those it was trained for, or a size does not fit.
    """
    if list(tests.classes) != list(metadata["classes"]):
        raise ValueError(
            f"the data set has the classes {', '.join(tests.classes)}; the checkpoint was trained "
            f"for {', '.join(metadata['classes'])}"
        )
    check_sizes(net.network, config, resolutions)
    evaluation = evaluate_net(config, net, tests, resolutions)
    settings = plain(config)
    results = {
        **metadata,
        "config": settings,
        "preprocessing": settings["preprocessing"],
        "data": tests.fingerprint,
        "unseen": net.unseen,
        "macs": _macs(config, net, resolutions),
        "metrics": evaluation.results(),
        "alpha": evaluation.alpha,
    }
    return results, evaluation


def report_classes(evaluation: Evaluation[SegmentationEvaluator], folder: Path) -> None:
    """Write per_class.csv: accuracy and IoU of every class at every resolution."""
    rows = [
        {"resolution": name, **row}
        for name, evaluator in evaluation.evaluators.items()
        for row in evaluator.per_class()
    ]
    write_csv(folder / "per_class.csv", rows)
