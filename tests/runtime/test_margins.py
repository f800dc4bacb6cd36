"""Facts about the margins of an evaluation: how sure each answer was, written and read again."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from classification import evaluate
from classification.evaluate import ClassificationEvaluator, softmax_margins
from classification.task import CLASSIFICATION
from rsseg.analysis.correctness import read_answers
from rsseg.common.files import RunError
from rsseg.training import task
from rsseg.training.evaluation import Evaluation


def evaluator(images: int, seed: int = 0) -> tuple[ClassificationEvaluator, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(images, 4, generator=draw)
    filled = ClassificationEvaluator()
    filled.update(logits, torch.randint(0, 4, (images,), generator=draw))
    return filled, logits


@given(st.integers(0, 999), st.integers(2, 9), st.floats(0.01, 100))
def test_margin_is_the_best_probability_less_the_second(
    seed: int, classes: int, scale: float
) -> None:
    draw = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(5, classes, generator=draw)
    best = np.sort(softmax(logits.double().numpy(), axis=1), axis=1)
    np.testing.assert_allclose(softmax_margins(logits), best[:, -1] - best[:, -2], atol=1e-5)


def test_answer_that_is_not_finite_is_not_sure_and_that_of_one_class_is() -> None:
    rows = torch.tensor([[torch.nan, 1.0], [torch.inf, 1.0], [2.0, 2.0]])
    assert softmax_margins(rows).tolist() == [0.0, 0.0, 0.0]
    assert softmax_margins(torch.zeros(2, 1)).tolist() == [1.0, 1.0]


def test_margins_of_all_processes_stand_beside_their_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine, logits = evaluator(5)
    other, other_logits = evaluator(3, seed=1)
    empty = ClassificationEvaluator()
    held = [(e.ranks, e.predicted, e.margins) for e in (mine, other, empty)]
    monkeypatch.setattr(evaluate, "all_gather_object", lambda value: held)
    mine.share()
    together = torch.cat([logits, other_logits])
    assert mine.predicted.tolist() == together.argmax(1).tolist()
    assert mine.margins.tolist() == softmax_margins(together).tolist()
    assert mine.margins.dtype == np.float32


def test_report_is_read_again_in_the_order_of_the_names(tmp_path: Path) -> None:
    filled, logits = evaluator(3)
    tests = cast(task.EvalData, SimpleNamespace(names=["c", "a", "b"]))
    CLASSIFICATION.report(Evaluation({"64": filled, "ensemble": filled}, None), tests, tmp_path)
    answers = read_answers(tmp_path)
    expected = softmax_margins(logits)[[1, 2, 0]].tolist()
    assert answers.names.tolist() == ["a", "b", "c"]
    assert {name: margins.tolist() for name, margins in answers.margins.items()} == {
        "64": expected,
        "ensemble": expected,
    }


def write(folder: Path, **arrays: Any) -> Path:
    held = {"names": np.array(["a", "b"]), "correct_64": np.array([True, False]), **arrays}
    np.savez(folder / "correctness.npz", **held)
    return folder


def test_answers_of_an_older_version_have_no_margins(tmp_path: Path) -> None:
    assert read_answers(write(tmp_path)).margins == {}


@pytest.mark.parametrize(
    "margins",
    [
        np.array([0.5], np.float32),
        np.array([0.5, 1.5], np.float32),
        np.array([0.5, np.nan], np.float32),
        np.array([0.5, 0.5], np.float64),
        np.array(["a", "b"]),
    ],
)
def test_margins_of_another_kind_are_refused(margins: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"holds margin_64 .*; expected margin_R, float32, 0\.\.1"):
        read_answers(write(tmp_path, margin_64=margins))
