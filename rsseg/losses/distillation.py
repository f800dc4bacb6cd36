"""The variants of the distillation, each as a list of (teacher, student, weight) terms.

Source: Wang et al., ECCV 2020, https://arxiv.org/abs/2007.09558, Eq. 2, 7, 8 and 10, and Table 5.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

EXTERNAL = -1  # A fixed teacher from outside, as the teacher of a term.


class Term(NamedTuple):
    """One distillation term: weight * D_kl(p_teacher || p_student) (Eq. 7).

    Resolutions count from 1, the largest; teacher 0 is the ensemble, EXTERNAL a fixed network.
    """

    teacher: int
    student: int
    weight: float


def full(count: int) -> list[Term]:
    """Every resolution learns from the ensemble and from each larger one (Eq. 10)."""
    weight = 2 / (count + 1)
    return [Term(t, s, weight) for t in range(count) for s in range(t + 1, count + 1)]


def vanilla(count: int) -> list[Term]:
    """Every resolution learns from the ensemble (Eq. 8)."""
    return [Term(0, s, 1.0) for s in range(1, count + 1)]


def dense(count: int) -> list[Term]:
    """The full variant without the ensemble; the paper names no weight, this keeps that of full."""
    return [term for term in full(count) if term.teacher > 0]


def from_largest(count: int) -> list[Term]:
    """Every resolution learns from the largest; the paper names no weight, this takes 1."""
    return [Term(1, s, 1.0) for s in range(2, count + 1)]


def none(_count: int) -> list[Term]:
    """No distillation: parallel training, the plain sum over the resolutions (Eq. 2)."""
    return []


VARIANTS: dict[str, Callable[[int], list[Term]]] = {
    "full": full,
    "vanilla": vanilla,
    "dense": dense,
    "from_largest": from_largest,
    "none": none,
}


def distillation_terms(variant: str, count: int, scores: Tensor | None, scale: float) -> list[Term]:
    """Return a variant's terms for `count` resolutions, their weights times `scale`.

    Raises:
        ValueError: If the variant is unknown, or needs scores that are None or of another shape.
    """
    if variant not in VARIANTS:
        raise ValueError(f"unknown variant {variant!r}; choose one of {', '.join(VARIANTS)}")
    terms = [Term(t, s, weight * scale) for t, s, weight in VARIANTS[variant](count)]
    if scores is not None:
        check_scores(scores, count)
    elif any(term.teacher == 0 for term in terms):
        raise ValueError(
            f"variant {variant!r} learns from the ensemble, but scores is None; "
            "pass scores, or choose dense, from_largest or none"
        )
    return terms


def check_scores(scores: Tensor, count: int) -> None:
    """Raise a ValueError unless there is one score for each of `count` resolutions."""
    if scores.shape != (count,):
        raise ValueError(
            f"scores must hold one value for each of the {count} resolutions, "
            f"got shape {tuple(scores.shape)}"
        )
