"""The loss of a classification run, with a fixed teacher besides, against formulas by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from classification.task import CLASSIFICATION, build_teacher
from datasets.classification import TestImages
from rsseg.common.checkpoint import write_checkpoint
from rsseg.load import load_checkpoint
from rsseg.training.step import Outputs
from rsseg.training.task import build_net, describe
from tests.helpers.small_images import CLASSES, image_config, write_images
from tests.helpers.small_networks import randomise

CPU = torch.device("cpu")


def teacher_file(root: Path, **values: Any) -> Path:
    """A teacher for [0, 1] inputs, with sets of its own."""
    settings = {"preprocessing": {"mean": [0, 0, 0], "std": [1, 1, 1]}, **values}
    config = image_config(root, **settings)
    net = build_net(CLASSIFICATION, config, CPU)
    randomise(net)
    metadata = describe(CLASSIFICATION, config, net, TestImages(config))
    write_checkpoint(root / "teacher.pt", {"metadata": metadata.plain(), "net": net.state_dict()})
    return root / "teacher.pt"


def outputs(views: Sequence[Tensor]) -> Outputs:
    logits = [torch.randn(4, 3) for _ in views]
    return Outputs(logits, torch.tensor([0, 1, 2, 0]), torch.ones(len(views)), views)


@pytest.mark.parametrize("resolutions", [[48, 32], [40, 32]])
def test_teacher_adds_its_divergence_and_sees_the_image_as_it_was_trained(
    tmp_path: Path, resolutions: list[int]
) -> None:
    root = write_images(tmp_path)
    path = teacher_file(root)
    values: dict[str, Any] = {"resolutions": resolutions}
    alone = image_config(root, **values)
    taught = image_config(root, **values, teacher={"checkpoint": str(path), "weight": 0.5})
    tests = TestImages(alone)
    images = torch.randint(0, 256, (4, 3, resolutions[0], resolutions[0]), dtype=torch.uint8)
    views = [alone.preprocessing.normalise(images), torch.zeros(4, 3, 32, 32)]
    given = outputs(views)
    losses = [CLASSIFICATION.loss(c, tests, CPU)(given) for c in (alone, taught)]
    net, _, _ = load_checkpoint(path)
    with torch.no_grad():
        p = net.predict(images / 255, resolutions[0]).softmax(dim=1)
    added = sum((p * (p.log() - z.log_softmax(1))).sum(1).mean() for z in given.logits)
    found = losses[1].distillation - losses[0].distillation
    torch.testing.assert_close(found, 0.5 * added, rtol=1e-3, atol=1e-4)


def test_teacher_of_other_classes_or_another_order_is_refused(tmp_path: Path) -> None:
    root = write_images(tmp_path)
    config = image_config(root, teacher={"checkpoint": str(teacher_file(root))})
    for classes, message in (
        (CLASSES[::-1], "class 0 of the data set is 'cat', of the checkpoint 'ant'"),
        (CLASSES[:2], r"has 2 classes \(ant, bee\); the checkpoint was trained for 3"),
    ):
        with pytest.raises(ValueError, match=message):
            build_teacher(config, classes, CPU)
    assert build_teacher(config, CLASSES, CPU)(torch.zeros(1, 3, 48, 48)).shape == (1, 3)
