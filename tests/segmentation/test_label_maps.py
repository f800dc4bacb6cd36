"""Facts about rsseg/segmentation/label_maps.py."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rsseg.segmentation import label_maps
from rsseg.segmentation.label_maps import best_class_in_parts, predict_labels


def drawn(*shape: int) -> Tensor:
    """Draw logits."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def plain(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize all logits at once, and take the best class."""
    resized = F.interpolate(logits[None].float(), size=size, mode="bilinear", align_corners=False)
    return resized[0].argmax(dim=0)


@pytest.mark.parametrize("at_once", [1, 700, 2**26])
def test_classes_in_parts_give_the_argmax_of_all(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_maps, "_LOGITS_AT_ONCE", at_once)
    logits = drawn(7, 5, 6)
    logits[3] = logits[1]  # a draw, which the first class wins
    expected = plain(logits, (13, 20))
    assert torch.equal(best_class_in_parts(logits, (13, 20)), expected)
    assert torch.equal(predict_labels(logits, (13, 20)), expected)


@pytest.mark.parametrize("shape", [(40, 6, 7), (40, 1, 1), (3, 30, 30), (40, 30, 4), (1, 5, 5)])
@pytest.mark.parametrize("size", [(6, 7), (1, 1), (120, 90), (7, 90), (45, 2)])
def test_classes_are_those_of_the_logits_resized(
    shape: tuple[int, int, int], size: tuple[int, int]
) -> None:
    labels = predict_labels(drawn(*shape), size)
    assert labels.dtype == torch.int64
    assert torch.equal(labels, plain(drawn(*shape), size))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_logits_of_any_type_are_resized_as_float32(dtype: torch.dtype) -> None:
    logits = drawn(9, 6, 6).to(dtype)
    assert torch.equal(predict_labels(logits, (50, 60)), predict_labels(logits.float(), (50, 60)))


def test_logits_of_a_network_in_training_and_in_any_layout_are_read() -> None:
    logits = drawn(1, 9, 6, 6).contiguous(memory_format=torch.channels_last)[0].requires_grad_()
    assert torch.equal(predict_labels(logits, (50, 60)), plain(logits, (50, 60)))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
@pytest.mark.parametrize("size", [(6, 6), (50, 60)])
def test_result_has_the_type_that_is_asked_for(dtype: torch.dtype, size: tuple[int, int]) -> None:
    labels = predict_labels(drawn(9, 6, 6), size, dtype=dtype)
    assert labels.dtype == dtype
    assert torch.equal(labels.long(), plain(drawn(9, 6, 6), size))


def test_more_classes_than_a_byte_holds_are_told_apart() -> None:
    logits = drawn(300, 4, 4)
    labels = predict_labels(logits, (31, 17))
    assert labels.max() > 255
    assert torch.equal(labels, plain(logits, (31, 17)))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 3e38])
def test_logits_that_are_not_finite_take_the_way_over_the_resized_ones(value: float) -> None:
    logits = drawn(20, 6, 6)
    logits[4, 2, 3] = value
    expected = best_class_in_parts(logits, (50, 60))
    assert torch.equal(predict_labels(logits, (50, 60)), expected)


@pytest.mark.parametrize(
    ("shape", "size"), [((3, 4, 4), (0, 5)), ((3, 0, 4), (4, 5)), ((0, 4, 4), (4, 5))]
)
def test_nothing_to_resize_names_both_sizes(
    shape: tuple[int, int, int], size: tuple[int, int]
) -> None:
    with pytest.raises(ValueError, match=rf"got \({shape[0]}, .* and \({size[0]}, {size[1]}\)"):
        predict_labels(torch.zeros(shape), size)
