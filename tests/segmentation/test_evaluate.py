"""Facts about rsseg/segmentation/evaluate.py, and what it takes from label_maps.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score, recall_score
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from rsseg.images.preprocessing import VOID
from rsseg.segmentation.evaluate import SegmentationEvaluator
from rsseg.segmentation.label_maps import predict_labels


@st.composite
def label_maps(draw: st.DrawFn) -> tuple[int, Tensor, Tensor]:
    """Number of classes, prediction and target; classes may be absent, pixels void."""
    classes = draw(st.integers(1, 6))
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    used = draw(st.integers(1, classes))
    prediction = draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, used - 1)))
    labels = st.one_of(st.integers(0, classes - 1), st.just(VOID))
    target = draw(hnp.arrays(np.uint8, shape, elements=labels))
    return classes, torch.from_numpy(prediction), torch.from_numpy(target)


@settings(max_examples=60, deadline=None)
@given(label_maps())
def test_measures_equal_those_of_scikit_learn(case: tuple[int, Tensor, Tensor]) -> None:
    classes, prediction, target = case
    evaluator = SegmentationEvaluator(classes)
    evaluator.update_labels(prediction, target)
    valid = target != VOID
    y, z = target[valid].numpy(), prediction[valid].numpy()
    if len(y) == 0:
        with pytest.raises(ValueError, match="no pixel to evaluate"):
            evaluator.result()
        return
    labels = list(range(classes))
    if classes > 1:  # with one, scikit-learn warns
        assert evaluator.confusion.tolist() == confusion_matrix(y, z, labels=labels).tolist()
    present, seen = sorted(set(y)), sorted(set(y) | set(z))
    result = evaluator.result()
    assert result["pixel_accuracy"] == pytest.approx(accuracy_score(y, z))
    assert result["mean_accuracy"] == pytest.approx(
        recall_score(y, z, labels=present, average="macro")
    )
    assert result["mean_iou"] == pytest.approx(
        jaccard_score(y, z, labels=seen, average="macro", zero_division=0)
    )
    assert result["frequency_weighted_iou"] == pytest.approx(
        jaccard_score(y, z, labels=present, average="weighted")
    )
    assert result["classes_in_mean_accuracy"] == len(present)
    assert result["classes_in_mean_iou"] == len(seen)
    assert result["pixels"] == len(y)


@settings(max_examples=20, deadline=None)
@given(label_maps())
def test_class_table_equals_that_of_torchmetrics(case: tuple[int, Tensor, Tensor]) -> None:
    classes, prediction, target = case
    if classes == 1:
        return  # torchmetrics starts at two classes
    evaluator = SegmentationEvaluator([f"class {i}" for i in range(classes)])
    evaluator.update_labels(prediction, target)
    iou = MulticlassJaccardIndex(classes, average="none", ignore_index=VOID)
    accuracy = MulticlassAccuracy(classes, average="none", ignore_index=VOID)
    ious, accuracies = iou(prediction, target.long()), accuracy(prediction, target.long())
    valid = target != VOID
    for i, row in enumerate(evaluator.per_class()):
        assert row["name"] == f"class {i}"
        assert row["truth_pixels"] == int((target == i).sum())
        assert row["predicted_pixels"] == int((prediction[valid] == i).sum())
        assert (row["accuracy"] is None) == (row["truth_pixels"] == 0)
        assert (row["iou"] is None) == (row["truth_pixels"] + row["predicted_pixels"] == 0)
        assert row["iou"] or pytest.approx(float(ious[i])) == 0.0
        assert row["accuracy"] or pytest.approx(float(accuracies[i])) == 0.0


def test_known_numbers_with_void_and_absent_classes() -> None:
    evaluator = SegmentationEvaluator(["wall", "floor", "bed", "sofa"])
    target = torch.tensor([[[0, 0, 0, 1], [1, 255, 255, 0]]], dtype=torch.uint8)
    prediction = torch.tensor([[[0, 0, 1, 1], [2, 3, 0, 0]]])
    evaluator.update_labels(prediction, target)
    assert evaluator.confusion.tolist() == [[3, 1, 0, 0], [0, 1, 1, 0], [0] * 4, [0] * 4]
    assert evaluator.confusion.dtype == torch.int64
    assert evaluator.result() == pytest.approx(
        {
            "pixel_accuracy": 4 / 6,
            "mean_accuracy": (3 / 4 + 1 / 2) / 2,
            "mean_iou": (3 / 4 + 1 / 3 + 0) / 3,
            "frequency_weighted_iou": (4 * 3 / 4 + 2 * 1 / 3) / 6,
            "classes_in_mean_accuracy": 2,
            "classes_in_mean_iou": 3,
            "pixels": 6,
        }
    )
    assert evaluator.per_class()[3]["iou"] is None


@pytest.mark.parametrize("classes", [3, 16, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_are_resized_to_the_labels_before_the_best_class_is_taken(
    classes: int, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, classes, 7, 9, generator=generator).to(dtype)
    target = torch.randint(0, classes, (2, 33, 50), generator=generator)
    target[:, :4] = VOID
    resized = F.interpolate(logits.float(), size=(33, 50), mode="bilinear", align_corners=False)
    expected = resized.argmax(dim=1)
    assert torch.equal(predict_labels(logits[0], (33, 50)), expected[0])
    evaluator = SegmentationEvaluator(classes)
    evaluator.update(logits, target.to(torch.uint8))
    valid = target != VOID
    matrix = confusion_matrix(target[valid], expected[valid], labels=list(range(classes)))
    assert evaluator.confusion.tolist() == matrix.tolist()


def test_logits_of_the_labels_size_are_taken_as_they_are() -> None:
    logits = torch.randn(40, 6, 7, generator=torch.Generator().manual_seed(0))
    assert torch.equal(predict_labels(logits, (6, 7)), logits.argmax(dim=0))


@pytest.mark.parametrize("size", [(2, 2), (4, 4)])
def test_equal_logits_give_the_first_class(size: tuple[int, int]) -> None:
    assert not predict_labels(torch.zeros(40, 2, 2), size).any()


def test_batches_add_up_to_one_matrix_and_reset_forgets_them() -> None:
    generator = torch.Generator().manual_seed(0)
    prediction, target = torch.randint(0, 4, (2, 6, 5, 5), generator=generator)
    whole, parts = SegmentationEvaluator(4), SegmentationEvaluator(4)
    whole.update_labels(prediction, target)
    for i in range(6):
        parts.update_labels(prediction[i], target[i])
        parts.result()  # looking at the result in between changes nothing
    assert parts.result() == whole.result()
    parts.reset()
    assert parts.confusion.sum() == 0


def test_void_image_changes_nothing_and_alone_is_an_error() -> None:
    evaluator = SegmentationEvaluator(3)
    evaluator.update(torch.randn(1, 3, 2, 2), torch.full((1, 8, 8), VOID, dtype=torch.uint8))
    with pytest.raises(ValueError, match="no pixel to evaluate"):
        evaluator.result()
    assert [row["iou"] for row in evaluator.per_class()] == [None] * 3
    evaluator.update_labels(torch.tensor([1]), torch.tensor([1]))
    assert evaluator.result()["mean_iou"] == 1


def test_other_void_labels_work() -> None:
    evaluator = SegmentationEvaluator(2, ignore_index=-100)
    evaluator.update_labels(torch.tensor([0, 1]), torch.tensor([0, -100]))
    assert evaluator.result()["pixels"] == 1


def test_no_image_yet_is_an_error_without_warning() -> None:
    with pytest.raises(ValueError, match="no pixel to evaluate"):
        SegmentationEvaluator(3).result()


@pytest.mark.parametrize("value", [3, 40, 254])
def test_label_outside_the_classes_is_refused_and_nothing_is_counted(value: int) -> None:
    evaluator = SegmentationEvaluator(3)
    labels = torch.tensor([0, value], dtype=torch.uint8)
    with pytest.raises(ValueError, match=rf"target has values in 0\.\.{value}, .*or 255 for void"):
        evaluator.update_labels(torch.tensor([0, 0]), labels)
    with pytest.raises(ValueError, match="prediction has values in"):
        evaluator.update_labels(labels, torch.tensor([0, 0]))
    assert evaluator.confusion.sum() == 0


def test_wrong_shapes_and_arguments_name_the_numbers() -> None:
    evaluator = SegmentationEvaluator(3)
    with pytest.raises(ValueError, match="each of the 3 classes, got 4"):
        evaluator.update(torch.zeros(1, 4, 2, 2), torch.zeros(1, 2, 2, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"got \(2, 3, 2, 2\) and \(1, 2, 2\)"):
        evaluator.update(torch.zeros(2, 3, 2, 2), torch.zeros(1, 2, 2, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"one shape, got \(2,\) and \(3,\)"):
        evaluator.update_labels(torch.zeros(2), torch.zeros(3))
    with pytest.raises(ValueError, match="ignore_index 2 is one of the 3 classes"):
        SegmentationEvaluator(3, ignore_index=2)
    with pytest.raises(ValueError, match="at least one class"):
        SegmentationEvaluator([])


@pytest.mark.parametrize(
    ("prediction", "target", "expected"),
    [
        ([1, 1, 1, 1], [0, 1, 2, 1], (1, 0.5)),
        ([1, 1, 1, 0], [0, 1, 2, 255], (1, 1 / 3)),  # what is predicted for void counts nowhere
        ([1, 1, 1, 1], [0, 0, 2, 2], (1, 0.0)),
        ([1, 1, 1, 1], [1, 1, 1, 255], None),  # there is no other class
        ([1, 1, 1, 0], [0, 1, 2, 1], None),
        ([1, 1, 1, 1], [255, 255, 255, 255], None),
    ],
)
def test_one_answer_to_all_pixels_is_told_with_the_share_of_its_class(
    prediction: list[int], target: list[int], expected: tuple[int, float] | None
) -> None:
    evaluator = SegmentationEvaluator(3)
    evaluator.update_labels(torch.tensor(prediction), torch.tensor(target))
    assert evaluator.only_answer() == (expected and pytest.approx(expected))


@pytest.mark.parametrize(
    ("stray", "true", "expected"),
    [
        (0, 200, (0, 0.98)),
        (9, 200, (0, 0.98)),
        (11, 200, None),  # More than 1 pixel in 1000.
        (9, 20, None),  # As many as a network could find of a rare class.
        (0, 0, None),
    ],
)
def test_stray_pixels_do_not_hide_a_collapsed_network(
    stray: int, true: int, expected: tuple[int, float] | None
) -> None:
    prediction, target = torch.zeros(2, 1, 100, 100, dtype=torch.long)
    prediction[0, 0, :stray] = 1
    target[0].view(-1)[:true] = 1
    evaluator = SegmentationEvaluator(2)
    evaluator.update_labels(prediction, target)
    assert evaluator.only_answer() == (expected and pytest.approx(expected))
