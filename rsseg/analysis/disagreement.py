"""Which images one network classifies right and another wrong, as in Table 1 of the paper.

Read are the files `correctness.npz` that classification runs write; no network and no image is
needed. Whether an answer is right was decided where it was written.

Source: Wang et al., "Resolution Switchable Networks for Runtime Efficient Image Recognition",
ECCV 2020, https://arxiv.org/abs/2007.09558, Table 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rsseg.analysis.correctness import Answers, read_answers
from rsseg.common.files import RunError
from rsseg.common.messages import counted
from rsseg.training.evaluation import ENSEMBLE


@dataclass(frozen=True)
class Disagreement:
    """Table 1 for M pairs of a model and a resolution.

    Args:
        members: Model and resolution, in the order of the rows.
        images: Number of images N.
        accuracy: Accuracy of each member, percent, shape (M,).
        matrix: Images right at the column and wrong at the row, percent, shape (M, M).
    """

    members: tuple[tuple[str, str], ...]
    images: int
    accuracy: NDArray[np.float64]
    matrix: NDArray[np.float64]


def right_and_wrong(correct: NDArray[np.bool_]) -> NDArray[np.float64]:
    r"""Count the images that are right at the column and wrong at the row.

    .. math:: D_{ab} = \frac{100}{N} \sum_i (1 - c_{ai}) \, c_{bi}

    Args:
        correct: Whether member a was right about image i, shape (M, N), N at least 1.

    Returns:
        Shares D of all images in percent, shape (M, M); the diagonal is 0.

    Example:
        >>> right_and_wrong(np.array([[True, True, False, False], [True, False, True, True]]))
        array([[ 0., 50.],
               [25.,  0.]])
    """
    # Whole numbers below 2^53 are exact in float64, whose product is much the faster.
    right = correct.astype(np.float64)
    shares: NDArray[np.float64] = 100 * ((1 - right) @ right.T) / correct.shape[1]
    return shares


def disagreement(
    runs: Sequence[Path], *, resolutions: Sequence[int] | None = None, ensemble: bool = False
) -> Disagreement:
    """Compare the answers of runs to the same test images.

    Args:
        runs: Folders of classification runs or evaluations, each with a correctness.npz.
        resolutions: Which resolutions to compare; None takes all that a run was tested at.
        ensemble: Compare the ensembles as well.

    Raises:
        RunError: If a folder has no such file or it is damaged, the images are not the same, or
            nothing is left to compare.
    """
    names = _model_names(runs)
    every = [read_answers(run) for run in runs]
    for run, answers in zip(runs, every, strict=True):
        _check_same_images(runs[0], every[0], run, answers)
    _check_tested(every, resolutions, ensemble)
    members, rows = [], []
    for run, name, answers in zip(runs, names, every, strict=True):
        for resolution in _selected(run, answers, resolutions, ensemble):
            members.append((name, resolution))
            rows.append(answers.correct[resolution])
    correct = np.stack(rows)
    matrix = right_and_wrong(correct)
    return Disagreement(tuple(members), correct.shape[1], 100 * correct.mean(axis=1), matrix)


def _check_same_images(first: Path, expected: Answers, other: Path, answers: Answers) -> None:
    differing = np.setxor1d(expected.names, answers.names, assume_unique=True)
    if differing.size:
        place = first if differing[0] in expected.names else other
        raise RunError(
            f"{first} and {other} were tested on other images: "
            f"{counted(differing.size, 'name')} of only one of them, such as '{differing[0]}' "
            f"in {place}; evaluate both on the same images"
        )


def _check_tested(
    every: Sequence[Answers], resolutions: Sequence[int] | None, ensemble: bool
) -> None:
    names = {name.partition("_")[0] for answers in every for name in answers.correct}
    if ensemble and ENSEMBLE not in names:
        raise RunError("no run holds the answers of an ensemble; leave out --ensemble")
    numbers = sorted(int(name) for name in names if name.isdecimal() and len(name) < 10)
    missing = [resolution for resolution in resolutions or () if resolution not in numbers]
    if missing:
        raise RunError(f"no run was tested at resolution {missing[0]}; there are {numbers[::-1]}")


def _selected(
    run: Path, answers: Answers, resolutions: Sequence[int] | None, ensemble: bool
) -> list[str]:
    def is_selected(name: str) -> bool:
        if name == ENSEMBLE:
            return ensemble
        # A resolution that was trained twice has the names 224 and 224_2.
        return not resolutions or name.partition("_")[0] in map(str, resolutions)

    selected = [name for name in answers.correct if is_selected(name)]
    if not selected:
        raise RunError(
            f"{run} was tested at {', '.join(answers.correct)}, none of which is asked for; leave "
            "it out, or ask for others with --resolutions"
        )
    return selected


def _model_names(runs: Sequence[Path]) -> list[str]:
    """Return names of runs: their folders, with as many parents as make them different."""
    parts = [run.resolve().parts for run in runs]
    if not parts or len(set(parts)) < len(parts):
        raise RunError("the same run is given twice" if parts else "no run is given")
    names: list[str] = []
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            break
    return names


def as_rows(table: Disagreement) -> list[dict[str, str | float]]:
    """Return one row for each member, in percent, as `write_csv` takes them."""
    columns = [f"{model} {resolution}" for model, resolution in table.members]
    return [
        {
            "model": model,
            "resolution": resolution,
            "accuracy": round(float(accuracy), 4),
            **{c: round(float(x), 4) for c, x in zip(columns, shares, strict=True)},
        }
        for (model, resolution), accuracy, shares in zip(
            table.members, table.accuracy, table.matrix, strict=True
        )
    ]


def layout(table: Disagreement) -> str:
    """Lay out the matrix as text; its columns are numbered like the rows."""
    width = max(len("model"), *(len(model) for model, _ in table.members))
    numbers = "".join(f"{f'({n + 1})':>7}" for n in range(len(table.members)))
    lines = [
        f"{counted(table.images, 'image')}; right at the column and wrong at the row, in percent",
        f"      {'model':<{width}}  resolution  accuracy{numbers}",
    ]
    for index, (model, resolution) in enumerate(table.members):
        shares = "".join(f"{share:>7.1f}" for share in table.matrix[index])
        number, accuracy = f"({index + 1})", f"{table.accuracy[index]:>8.1f}"
        lines.append(f"{number:>4}  {model:<{width}}  {resolution:>10}  {accuracy}{shares}")
    return "\n".join(lines)
