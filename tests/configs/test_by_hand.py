"""What a classifier's file asks for, computed by hand: the second source of the configs' tests.

Nothing of the library is used here but the names of what a step gives to its loss.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from rsseg.training.step import Outputs

# Parameters for 1000 classes with one BatchNorm set and with five, without scores; and the
# features that the last layer reads.
COUNTS = {
    "resnet18": (11_689_512, 11_727_912, 512),
    "resnet50": (25_557_032, 25_769_512, 2048),
    "mobilenetv2": (3_504_872, 3_641_320, 1280),
    # The same convolutions; BatchNorm of 6720 and 41664 channels, 2 parameters each.
    "preact_resnet18": (11_693_352, 11_747_112, 512),
    "preact_resnet50": (25_587_240, 25_920_552, 2048),
}
VARIANTS = ("none", "full", "vanilla", "dense", "from_largest")


def rate_by_hand(written: dict[str, Any], epoch: float) -> float:
    """Compute the learning rate of a cosine with a linear beginning, or of stages."""
    lr, epochs, warmup = written["optim"]["lr"], written["epochs"], written["schedule"]
    if warmup["kind"] == "staged":
        return float(lr[sum(epoch >= begin for begin in warmup["milestones"])])
    assert warmup["kind"] == "cosine"
    begin = float(warmup["warmup_epochs"])
    if epoch < begin:
        return float(lr * epoch / begin)
    return float(lr / 2 * (1 + math.cos(math.pi * (epoch - begin) / (epochs - begin))))


def mobilenet_parameters(width: float) -> int:
    """Count the parameters for 1000 classes after Table 2 of arXiv 1801.04381."""

    def channels(count: float) -> int:
        near = max(8, int(count * width + 4) // 8 * 8)
        return near + 8 if near < 0.9 * count * width else near

    rows = [(1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1)]
    before = channels(32)
    count = (27 + 2) * before
    for expansion, after, repeats in rows:
        for _ in range(repeats):
            hidden = expansion * before
            count += (before + 2) * hidden if expansion > 1 else 0
            count += (9 + 2) * hidden + (hidden + 2) * channels(after)
            before = channels(after)
    return count + (before + 2) * 1280 + (1280 + 1) * 1000


def terms_by_hand(variant: str, count: int) -> list[tuple[int, int, float]]:
    """List teacher (0 is the ensemble), student (from 1) and weight of Eq. 8, 10 and Table 5."""
    students = range(1, count + 1)
    pairs = [(t, s, 2 / (count + 1)) for s in students for t in range(s)]
    return {
        "none": [],
        "full": pairs,
        "vanilla": [(0, s, 1.0) for s in students],
        "dense": [(t, s, w) for t, s, w in pairs if t],
        "from_largest": [(1, s, 1.0) for s in students[1:]],
    }[variant]


def loss_by_hand(variant: str, outputs: Outputs, smoothing: float) -> float:
    """Sum cross entropies and distillation terms of a step."""
    students = torch.stack([z.double() for z in outputs.logits])
    logits, learned = [students[0], *students], students  # Without scores there is no teacher 0.
    if outputs.scores is not None:
        alpha = outputs.scores.double().softmax(0)
        logits[0] = (alpha[:, None, None] * students).sum(0)
        learned = torch.stack(logits)
    total = sum(
        float(F.cross_entropy(z, outputs.target, label_smoothing=smoothing)) for z in learned
    )
    log_p = [z.log_softmax(1) for z in logits]
    for t, s, weight in terms_by_hand(variant, len(students)):
        divergence = F.kl_div(log_p[s], log_p[t], reduction="batchmean", log_target=True)
        total += weight * float(divergence)
    return total


def test_cosine_by_hand_begins_at_the_rate_and_is_half_of_it_in_the_middle() -> None:
    schedule = {"kind": "cosine", "warmup_epochs": 0}
    written = {"optim": {"lr": 0.1}, "schedule": schedule, "epochs": 120}
    rates = [rate_by_hand(written, epoch) for epoch in (0, 60, 120)]
    assert rates == pytest.approx([0.1, 0.05, 0.0])
    schedule["warmup_epochs"] = 20
    rates = [rate_by_hand(written, epoch) for epoch in (0, 5, 20, 70)]
    assert rates == pytest.approx([0.0, 0.025, 0.1, 0.05])


def test_terms_by_hand_are_as_many_as_the_method_says() -> None:
    assert [weight for *_, weight in terms_by_hand("full", 5)] == [1 / 3] * 15
    assert [weight for *_, weight in terms_by_hand("full", 3)] == [1 / 2] * 6
    assert [len(terms_by_hand(variant, 5)) for variant in VARIANTS] == [0, 15, 5, 10, 4]


def test_count_of_mobilenet_by_hand_is_the_known_one() -> None:
    assert mobilenet_parameters(1.0) == COUNTS["mobilenetv2"][0]
