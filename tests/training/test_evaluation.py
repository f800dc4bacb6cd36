"""Evaluation at every resolution, against a loop written out by hand and scikit-learn."""

from __future__ import annotations

import copy
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, jaccard_score, recall_score
from torch import Tensor, nn

from rsseg.images.preprocessing import Preprocessing
from rsseg.segmentation.evaluate import SegmentationEvaluator
from rsseg.switchable.net import SwitchableNet
from rsseg.switchable.unseen import interpolate_set
from rsseg.training.evaluation import Evaluation, alpha_of, combine, evaluate
from tests.helpers.small_networks import randomise
from tests.helpers.small_runs import CLASSES

PREPROCESSING = Preprocessing(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
SIZES = ((20, 30), (24, 18), (16, 16))  # of the label maps
Batch = tuple[list[Tensor], list[Tensor]]


def trained_net(resolutions: tuple[int, ...] = (16, 8), *, scores: bool = True) -> SwitchableNet:
    """A network whose sets differ, with unequal scores."""
    torch.manual_seed(1)
    classifier = nn.Conv2d(8, CLASSES, 1, bias=False)
    nn.init.normal_(classifier.weight)  # Else one class would be the best everywhere.
    first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
    network = nn.Sequential(first, nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5), classifier)
    net = SwitchableNet(network, resolutions, scores=scores)
    randomise(net)
    if net.scores is not None:
        net.scores.data = torch.linspace(1.5, -0.5, len(resolutions))
    return net.eval()


def batches(resolutions: tuple[int, ...]) -> list[Batch]:
    """Two batches, of two images and of one, each label map of another size."""
    source = torch.Generator().manual_seed(2)
    labels = [
        torch.randint(0, CLASSES - 1, size, generator=source, dtype=torch.uint8) for size in SIZES
    ]
    labels[1][:5] = 255

    def views(count: int) -> list[Tensor]:
        shapes = [(count, 3, side, side) for side in resolutions]
        return [torch.randint(0, 256, s, generator=source, dtype=torch.uint8) for s in shapes]

    return [(views(2), labels[:2]), (views(1), labels[2:])]


def evaluated(
    net: SwitchableNet, resolutions: tuple[int, ...]
) -> Evaluation[SegmentationEvaluator]:
    return evaluate(
        net,
        batches(resolutions),
        partial(SegmentationEvaluator, CLASSES),
        resolutions=resolutions,
        preprocessing=PREPROCESSING,
        device=torch.device("cpu"),
    )


def normalised(view: Tensor) -> Tensor:
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (PREPROCESSING.mean, PREPROCESSING.std))
    return (view / 255 - mean) / std


def metrics_by_hand(pairs: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Resize, argmax, join all pixels; `pairs` are logits (K, h, w) and labels (H, W)."""
    guesses: list[NDArray[np.int64]] = []
    for logits, labels in pairs:
        resized = F.interpolate(logits[None], size=labels.shape, mode="bilinear")[0]
        guesses.append(resized.argmax(0).numpy()[labels.numpy() != 255])
    guess = np.concatenate(guesses)
    truth = np.concatenate([labels.numpy()[labels.numpy() != 255] for _, labels in pairs])
    present, seen = np.unique(truth), np.union1d(truth, guess)
    return {
        "pixel_accuracy": accuracy_score(truth, guess),
        "mean_accuracy": recall_score(truth, guess, labels=present, average="macro"),
        "mean_iou": jaccard_score(truth, guess, labels=seen, average="macro"),
    }


@torch.no_grad()
def logits_by_hand(net: SwitchableNet, name: str, index: int, resolution: int) -> list[Tensor]:
    """Logits of each image at one resolution, the `index`-th view of a batch."""
    resolutions = [16, 8] if resolution in (16, 8) else [12, 5]
    found: list[Tensor] = []
    for views, _ in batches(tuple(resolutions)):
        found.extend(net.predict(normalised(views[index]), name))
    return found


def labels_of(resolutions: tuple[int, ...]) -> list[Tensor]:
    return [label_map for _, label_maps in batches(resolutions) for label_map in label_maps]


def assert_metrics(found: dict[str, float], expected: dict[str, float]) -> None:
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-9)


def test_each_resolution_equals_a_loop_by_hand() -> None:
    net = trained_net()
    results = evaluated(net, (16, 8)).results()
    for index, side in enumerate((16, 8)):
        logits = logits_by_hand(net, str(side), index, side)
        pairs = list(zip(logits, labels_of((16, 8)), strict=True))
        assert_metrics(results[str(side)], metrics_by_hand(pairs))
    assert results["16"] != results["8"]
    assert min(results["16"]["mean_iou"], results["8"]["mean_iou"]) > 0.05


@pytest.mark.parametrize("scores", [True, False])
def test_ensemble_equals_a_loop_by_hand_and_has_equal_shares_without_scores(scores: bool) -> None:
    net = trained_net(scores=scores)
    evaluation = evaluated(net, (16, 8))
    share = torch.tensor(2.0).sigmoid().item() if scores else 0.5  # softmax of 1.5 and -0.5
    large, small = logits_by_hand(net, "16", 0, 16), logits_by_hand(net, "8", 1, 8)
    pairs = []
    for first, second, labels in zip(large, small, labels_of((16, 8)), strict=True):
        # To the size of the largest view, as in training.
        one, two = (
            F.interpolate(z[None], size=(16, 16), mode="bilinear")[0] for z in (first, second)
        )
        pairs.append((share * one + (1 - share) * two, labels))
    assert_metrics(evaluation.results()["ensemble"], metrics_by_hand(pairs))
    assert list(evaluation.evaluators) == ["16", "8", "ensemble"]
    expected = pytest.approx({"16": share, "8": 1 - share}) if scores else None
    assert evaluation.alpha == expected
    assert alpha_of(net) == expected


@pytest.mark.parametrize("rule", ["interpolate", "nearest", "extrapolate"])
def test_unseen_resolutions_use_the_sets_that_the_rule_makes(rule: str) -> None:
    net, by_hand = trained_net(), trained_net()
    net.unseen = rule
    names = set(net.state_dict())
    results = evaluated(net, (12, 5)).results()
    assert list(results) == ["12", "5"]
    for index, side in enumerate((12, 5)):
        interpolate_set(by_hand.network, side, rule=rule)
        logits = logits_by_hand(by_hand, str(side), index, side)
        pairs = list(zip(logits, labels_of((12, 5)), strict=True))
        assert_metrics(results[str(side)], metrics_by_hand(pairs))
    assert set(net.state_dict()) == names


def test_rules_for_unseen_resolutions_differ() -> None:
    results = []
    for rule in ("interpolate", "nearest", "extrapolate"):
        net = trained_net()
        net.unseen = rule
        results.append(evaluated(net, (12, 5)).results())
    assert results[0]["12"] != results[1]["12"]
    assert results[0]["5"] == results[1]["5"] != results[2]["5"]


def test_repeated_resolutions_keep_their_own_sets() -> None:
    net = trained_net((8, 8))
    results = evaluated(net, (8, 8)).results()
    assert list(results) == ["8", "8_2", "ensemble"]
    same = evaluated(net, (12, 12)).results()
    assert list(same) == ["12", "12_2"]


def test_ensemble_needs_all_trained_resolutions_in_any_company() -> None:
    net = trained_net()
    assert list(evaluated(net, (8,)).evaluators) == ["8"]
    mixed = evaluated(net, (8, 12, 16))
    assert list(mixed.evaluators) == ["8", "12", "16", "ensemble"]
    assert mixed.alpha == alpha_of(net)
    single = trained_net((16,))
    assert list(evaluated(single, (16,)).evaluators) == ["16"]


def test_evaluation_changes_neither_network_nor_mode_nor_random_numbers() -> None:
    net = trained_net().train()
    before, state = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    first = evaluated(net, (16, 8)).results()
    assert net.training
    assert all(module.training for module in net.modules())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert evaluated(net.eval(), (16, 8)).results() == first
    assert not net.training


def test_logits_of_classifiers_are_combined_as_they_are() -> None:
    logits = [torch.randn(4, 3), torch.randn(4, 3)]
    combined = combine(logits, torch.tensor([0.0, 0.0]), (32, 32))
    torch.testing.assert_close(combined, (logits[0] + logits[1]) / 2)
