"""Top-1 and top-5 against other libraries, and answers that must count as wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import top_k_accuracy_score
from torchmetrics.functional.classification import multiclass_accuracy

from classification.evaluate import ClassificationEvaluator


@given(st.integers(0, 999), st.integers(6, 12), st.integers(2, 40))
def test_accuracies_equal_those_of_two_libraries(seed: int, classes: int, images: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(images, classes, generator=draw)
    target = torch.randint(0, classes, (images,), generator=draw)
    evaluator = ClassificationEvaluator()
    for part in range(0, images, 7):
        evaluator.update(logits[part : part + 7], target[part : part + 7])
    result = evaluator.result()
    for name, k in (("top1", 1), ("top5", 5)):
        theirs = multiclass_accuracy(logits, target, classes, average="micro", top_k=k)
        assert result[name] == pytest.approx(float(theirs))
        labels = np.arange(classes)
        other = top_k_accuracy_score(target.numpy(), logits.numpy(), k=k, labels=labels)
        assert result[name] == pytest.approx(other)
    assert result["images"] == images
    assert evaluator.correct.tolist() == (logits.argmax(1) == target).tolist()
    assert evaluator.predicted.tolist() == logits.argmax(1).tolist()


def test_logits_that_are_not_finite_are_wrong_answers() -> None:
    logits = torch.tensor([[torch.nan] * 3, [0.0, torch.inf, 0.0], [1.0, 0.0, 0.0]])
    evaluator = ClassificationEvaluator()
    evaluator.update(logits, torch.tensor([0, 1, 0]))
    assert evaluator.correct.tolist() == [False, False, True]


def test_network_that_says_the_same_of_every_class_has_guessed() -> None:
    evaluator = ClassificationEvaluator()
    evaluator.update(torch.zeros(10, 10), torch.arange(10))
    result = evaluator.result()
    assert (result["top1"], result["top5"]) == (0.1, 0.5)


def test_no_image_is_an_error_and_no_nan() -> None:
    with pytest.raises(ValueError, match="no image to evaluate"):
        ClassificationEvaluator().result()


@pytest.mark.parametrize(
    ("answers", "target", "expected"),
    [
        ([1, 1, 1, 1], [0, 1, 2, 1], (1, 0.5)),
        ([1, 1], [0, 2], (1, 0.0)),
        ([1, 1], [1, 1], None),
        ([1, 0], [1, 1], None),
        ([1], [0], None),
        ([], [], None),
    ],
)
def test_one_answer_to_all_images_is_told_with_the_share_of_its_class(
    answers: list[int], target: list[int], expected: tuple[int, float] | None
) -> None:
    evaluator = ClassificationEvaluator()
    logits = torch.nn.functional.one_hot(torch.tensor(answers, dtype=torch.int64), 3).float()
    evaluator.update(logits, torch.tensor(target, dtype=torch.int64))
    assert evaluator.only_answer() == (expected and pytest.approx(expected))
