"""Classification as a task: the network, the loss over labels, the answers to every image."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from classification.config import ClassificationConfig
from classification.evaluate import ClassificationEvaluator
from classification.mixing import build_mix
from rsseg.analysis.correctness import CORRECTNESS
from rsseg.classifiers.build import TIMM, build_classifier, is_timm, weights_record
from rsseg.classifiers.head import ClassificationHead
from rsseg.classifiers.sizes import size_options
from rsseg.common.files import written_whole
from rsseg.common.messages import first_line
from rsseg.images.preprocessing import PHOTO_SIZE
from rsseg.load import load_checkpoint
from rsseg.losses.mred import MREDLosses, mred_loss, working_dtype
from rsseg.switchable.complexity import count_macs
from rsseg.training.evaluate_checkpoint import check_classes
from rsseg.training.evaluation import Evaluation
from rsseg.training.job import Mix
from rsseg.training.step import Loss, Outputs, Teach, fixed_teacher
from rsseg.training.task import EvalData, Task
from rsseg.weights.record import Record


def _size_remedy(config: ClassificationConfig, resolutions: Sequence[int]) -> str:
    """Return what to do about a network that does not take images of some sizes."""
    model, options = config.model, None
    if is_timm(model.name):
        name = model.name.removeprefix(TIMM)
        sides = [max(config.preprocessing.size(side, *PHOTO_SIZE)) for side in resolutions]
        options = size_options(name, sides, model.options)
    if options:
        return f"set model.options: {json.dumps({**model.options, **options})}"
    return "choose other resolutions or another model"


class Classification(Task[ClassificationConfig]):
    """A class for each image: the loss over labels, the answers to every image."""

    head: ClassVar = ClassificationHead()
    config = ClassificationConfig

    def network(self, config: ClassificationConfig, *, pretrained: bool) -> nn.Module:
        """Build the classifier of a run, see `Task`."""
        return build_classifier(config.model if pretrained else replace(config.model, weights=None))

    def record(self, config: ClassificationConfig, *, offline: bool) -> Record | None:
        """Return the normalisation of the weights of a run, see `Task`."""
        return weights_record(config.model, config.init)

    def check_sizes(
        self, network: nn.Module, config: ClassificationConfig, resolutions: Sequence[int]
    ) -> None:
        """Check that a network can take images of the given resolutions.

        Raises:
            ValueError: If it cannot, as networks for one size or whose maps become too small.
        """
        for resolution in dict.fromkeys(resolutions):
            try:
                count_macs(network, config.preprocessing.size(resolution, *PHOTO_SIZE))
            except (RuntimeError, AssertionError, ValueError) as error:
                raise ValueError(
                    f"{config.model.name} cannot take images of resolution {resolution}: "
                    f"{first_line(error)}; {_size_remedy(config, resolutions)}"
                ) from error

    def loss(
        self,
        config: ClassificationConfig,
        data: EvalData,
        device: torch.device,
        original: Teach | None = None,
    ) -> Loss:
        """Return the loss over labels, or over the original's shares in their place, see `Task`.

        Images that were mixed have their labels mixed; the original answers to the mixed images.
        """
        weight, fixed = config.adapt.teacher if config.adapt else 0.0, None
        if config.teacher is not None:
            fixed, weight = build_teacher(config, data.classes, device), config.teacher.weight

        def loss(outputs: Outputs) -> MREDLosses:
            answer = original(outputs.views[0]) if original else None
            taught = fixed(outputs.views[0]) if fixed else answer
            target = outputs.target
            if answer is not None and not config.reads_labels:
                target = answer.to(working_dtype(answer)).softmax(dim=1)
            return mred_loss(
                outputs.logits,
                target,
                outputs.scores,
                variant=config.distillation,
                distillation_scale=config.distillation_scale,
                label_smoothing=config.label_smoothing,
                teacher=taught if weight else None,
                teacher_weight=weight,
            )

        return loss

    def evaluator(self, _data: EvalData) -> ClassificationEvaluator:
        """Return an evaluator over all images, see `Task`."""
        return ClassificationEvaluator()

    def report(
        self, evaluation: Evaluation[ClassificationEvaluator], data: EvalData, folder: Path
    ) -> None:
        """Write correctness.npz: for every image its name, and the answer at every resolution.

        Arrays: `names`; for each resolution R (and "ensemble") `correct_R`, bool, `predicted_R`,
        the class, and `margin_R`, how sure it was, float32, all of shape (N,) in the order of
        `names`.
        """
        answers: dict[str, np.ndarray] = {"names": np.asarray(data.names, dtype=np.str_)}
        for name, evaluator in evaluation.evaluators.items():
            answers[f"correct_{name}"] = evaluator.correct
            answers[f"predicted_{name}"] = evaluator.predicted.astype(np.int32)
            answers[f"margin_{name}"] = evaluator.margins
        with written_whole(folder / CORRECTNESS) as part, part.open("wb") as file:
            np.savez_compressed(file, **answers)  # type: ignore[arg-type]

    def mix(self, config: ClassificationConfig) -> Mix | None:
        """Return MixUp or CutMix, see `Task`."""
        return build_mix(config)


def build_teacher(
    config: ClassificationConfig, classes: Sequence[str], device: torch.device
) -> Teach:
    """Load the fixed teacher of a run: from the largest normalised views to its logits.

    Raises:
        ValueError: If it cannot be loaded or knows other classes.
    """
    assert config.teacher is not None
    path = config.teacher.checkpoint
    net, preprocessing, metadata = load_checkpoint(path)
    if metadata.task != Classification.head.name:
        raise ValueError(f"teacher {path} is a network for {metadata.task}; give a classifier")
    # The names of imported classes are not known, their number is.
    if not metadata.imported or len(metadata.classes) != len(classes):
        check_classes(classes, metadata.classes)
    teach = fixed_teacher(net.specialize(config.resolutions[0]).to(device), config.precision)
    return lambda views: teach(config.preprocessing.translated(views, preprocessing))


CLASSIFICATION = Classification()
