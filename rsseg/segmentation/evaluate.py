"""Evaluation of segmenters: one confusion matrix over the whole data set, and what follows from it.

Nothing is averaged over images or batches. Void pixels count nowhere. The evaluator knows one set
of logits; running it at every resolution is not its task.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypedDict

import torch
from torch import Tensor

from rsseg.common.distributed import all_sum
from rsseg.images.preprocessing import VOID
from rsseg.segmentation.label_maps import predict_labels

_CLASSES_OF_A_BYTE: Final = 256
_STRAY: Final = 1e-3  # share of the predicted pixels


class ClassRow(TypedDict):
    """The measures of one class; None where a number is undefined.

    accuracy: share of the class's pixels that are predicted right, 0..1; undefined without pixels.
    iou: intersection over union, 0..1; undefined where the class is neither present nor predicted.
    """

    name: str
    accuracy: float | None
    iou: float | None
    truth_pixels: int
    predicted_pixels: int


class SegmentationEvaluator:
    """Collects the confusion matrix of a data set.

    Args:
        classes: Names of the classes, or their number.
        ignore_index: Label of the pixels that do not count.

    Raises:
        ValueError: If the classes are empty, or `ignore_index` is one of them.

    Example:
        >>> import torch
        >>> evaluator = SegmentationEvaluator(["wall", "floor"])
        >>> evaluator.update_labels(torch.tensor([[[0, 1, 1]]]), torch.tensor([[[0, 0, 255]]]))
        >>> evaluator.result()["pixel_accuracy"]
        0.5
    """

    def __init__(self, classes: Sequence[str] | int, ignore_index: int = VOID) -> None:
        names = [str(i) for i in range(classes)] if isinstance(classes, int) else classes
        self.classes = tuple(names)
        self.ignore_index = ignore_index
        if not self.classes:
            raise ValueError(f"at least one class is needed, got {classes!r}")
        if 0 <= ignore_index < len(self.classes):
            raise ValueError(
                f"ignore_index {ignore_index} is one of the {len(self.classes)} classes; "
                f"choose a label outside 0..{len(self.classes) - 1}"
            )
        self._confusion = torch.zeros(2 * (len(self.classes),), dtype=torch.int64)

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Add images: resize their logits to the labels' size, then take the best class.

        Args:
            logits: Any float dtype, shape (B, K, h, w).
            target: Labels at the original image size, integers, shape (B, H, W).

        Raises:
            ValueError: If shapes, the number of classes or labels do not fit.
        """
        if logits.dim() != 4 or target.dim() != 3 or len(logits) != len(target):
            raise ValueError(
                "expected logits (B, K, h, w) and target (B, H, W), "
                f"got {tuple(logits.shape)} and {tuple(target.shape)}"
            )
        if logits.shape[1] != len(self.classes):
            raise ValueError(
                f"logits must have one channel for each of the {len(self.classes)} classes, "
                f"got {logits.shape[1]}"
            )
        dtype = torch.uint8 if len(self.classes) <= _CLASSES_OF_A_BYTE else torch.int64
        for image, labels in zip(logits.detach(), target, strict=True):
            self.update_labels(predict_labels(image, labels.shape, dtype=dtype), labels)

    def update_labels(self, prediction: Tensor, target: Tensor) -> None:
        """Add label maps.

        Args:
            prediction: Predicted classes, integers of any shape; free where the target is void.
            target: Labels, integers, same shape.

        Raises:
            ValueError: If the shapes differ, or a value is not a class.
        """
        if prediction.shape != target.shape:
            raise ValueError(
                f"prediction and target must have one shape, got {tuple(prediction.shape)} "
                f"and {tuple(target.shape)}"
            )
        target = target.to(prediction.device)
        # Void pixels count as class 0 predicted as class 0, and are taken off again: to leave them
        # out of both maps would take longer than to make the maps.
        void = target == self.ignore_index
        prediction, target = prediction.masked_fill(void, 0), target.masked_fill(void, 0)
        self._check_labels("target", target, f" or {self.ignore_index} for void")
        self._check_labels("prediction", prediction, "")
        size = len(self.classes)
        pairs = target.int().mul_(size).add_(prediction).flatten()
        counts = torch.bincount(pairs, minlength=size * size).reshape(size, size)
        counts[0, 0] -= void.sum()
        self._confusion = self._confusion.to(counts.device) + counts

    def share(self) -> None:
        """Add up the pixels of all processes; every process has to call this."""
        # From the CPU: a process without images has its matrix there.
        self._confusion = all_sum(self._confusion.cpu()).to(self._confusion.device)

    def _check_labels(self, name: str, labels: Tensor, besides: str) -> None:
        if labels.numel() == 0:
            return
        low, high = (int(value) for value in labels.aminmax())
        if low < 0 or high >= len(self.classes):
            raise ValueError(
                f"{name} has values in {low}..{high}, "
                f"expected classes 0..{len(self.classes) - 1}{besides}"
            )

    @property
    def confusion(self) -> Tensor:
        """Pixels by class: rows the truth, columns the prediction; int64, shape (K, K)."""
        return self._confusion.clone()

    def result(self) -> dict[str, float]:
        """Compute the measures over all images so far, shares in 0..1.

        Returns:
            pixel_accuracy, mean_accuracy (over the classes that have pixels), mean_iou (over the
            classes that have pixels or were predicted), frequency_weighted_iou; how many classes
            the two means cover: classes_in_mean_accuracy, classes_in_mean_iou; and pixels.

        Raises:
            ValueError: If no pixel has counted, so that the measures are undefined.
        """
        correct, truth, predicted = self._totals()
        pixels = truth.sum()
        if pixels == 0:
            raise ValueError(
                "no pixel to evaluate: every label so far is void, or no image was given"
            )
        present, occurring = truth > 0, truth + predicted > 0
        accuracy = correct[present] / truth[present]
        iou = correct / (truth + predicted - correct).clamp(min=1)
        return {
            "pixel_accuracy": float(correct.sum() / pixels),
            "mean_accuracy": float(accuracy.mean()),
            "mean_iou": float(iou[occurring].mean()),
            "frequency_weighted_iou": float((truth * iou).sum() / pixels),
            "classes_in_mean_accuracy": float(present.sum()),
            "classes_in_mean_iou": float(occurring.sum()),
            "pixels": float(pixels),
        }

    def only_answer(self) -> tuple[int, float] | None:
        """Return the class of all predicted pixels though others occur, see `Evaluator`.

        A collapsed segmenter has stray pixels of other classes: they count only where there are
        more of them than a tenth of the pixels that others have in truth, or 1 in 1000.
        """
        _, truth, predicted = self._totals()
        if not truth.sum():
            return None
        answer = int(predicted.argmax())
        others = truth.sum() - truth[answer]
        stray = predicted.sum() - predicted[answer]
        if not others or stray > min(_STRAY * predicted.sum(), others / 10):
            return None
        return answer, float(truth[answer] / truth.sum())

    def per_class(self) -> list[ClassRow]:
        """Return the measures of every class, in the order of the classes."""
        rows = zip(self.classes, *(total.tolist() for total in self._totals()), strict=True)
        return [
            ClassRow(
                name=name,
                accuracy=correct / truth if truth else None,
                iou=correct / union if (union := truth + predicted - correct) else None,
                truth_pixels=int(truth),
                predicted_pixels=int(predicted),
            )
            for name, correct, truth, predicted in rows
        ]

    def _totals(self) -> tuple[Tensor, Tensor, Tensor]:
        """Count the correct, true and predicted pixels of every class, float64, shape (K,)."""
        matrix = self.confusion.double().cpu()
        return matrix.diagonal(), matrix.sum(dim=1), matrix.sum(dim=0)

    def reset(self) -> None:
        """Forget all images."""
        self._confusion = torch.zeros_like(self._confusion)
