"""The cascade of an evaluation: answers and costs from its files, thresholds and curve into one.

Read are correctness.npz and results.json of a run or an evaluation; costs may also be the times in
a table of latencies. How thresholds are chosen is in `thresholds`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure

from rsseg.analysis.correctness import CORRECTNESS, read_answers
from rsseg.common.files import RunError, read_json
from rsseg.common.messages import counted
from rsseg.runtime.budget.table import Entry, read_entries
from rsseg.runtime.cascade.thresholds import (
    REPEATS,
    Candidates,
    Outcomes,
    Selection,
    curve,
    fixed_at,
    fixed_points,
)

MACS: Final = "MACs of the largest resolution"
MILLISECONDS: Final = "ms of the largest resolution"
RULE: Final = (
    "chain of at most three resolutions with one common threshold, the largest at which the mean "
    "cost is at most the target; of the chains the one with the most right answers, then the "
    f"cheapest; validated on the halves of {REPEATS} splits that did not choose"
)


@dataclass(frozen=True)
class Report:
    """A cascade for a target cost, and what it is compared with.

    Args:
        outcomes: The answers; costs are shares of the largest resolution's.
        unit: What costs are shares of.
        selection: For the target cost.
        curve: For targets from the cheapest resolution to the dearest.
    """

    outcomes: Outcomes
    unit: str
    selection: Selection
    curve: list[Selection]

    @property
    def gain(self) -> float:
        """Accuracy above that of fixed resolutions at the same mean cost."""
        point = self.selection.validated
        return point.accuracy - fixed_at(self.outcomes, point.cost)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values; what `Cascade.open` reads is "thresholds"."""
        fixed = fixed_points(self.outcomes)
        return {
            "format": 1,
            "thresholds": {str(side): t for side, t in self.selection.thresholds.items()},
            "rule": RULE,
            "unit": self.unit,
            "images": self.outcomes.correct.shape[1],
            "chosen": asdict(self.selection),
            "gain": self.gain,
            "fixed": {str(side): asdict(point) for side, point in fixed.items()},
            "curve": [asdict(each) for each in self.curve],
        }


def report(
    folder: Path,
    *,
    target: float,
    resolutions: Sequence[int] | None = None,
    latency: Path | None = None,
    executor: str | None = None,
) -> Report:
    """Choose a cascade for a run or an evaluation.

    Args:
        folder: Holds correctness.npz and results.json.
        target: Largest mean cost, as a share of the largest resolution's.
        resolutions: Of the cascade; default: chosen as well.
        latency: A table of latencies whose times are the costs; default: multiply-adds.
        executor: Whose times; default: the only one in the table.

    Raises:
        ValueError: If a file is missing, damaged, or has not what is needed.
    """
    answers = read_answers(folder)
    sides = sorted(int(name) for name in answers.correct if name.isdecimal())
    lacking = [side for side in sides if str(side) not in answers.margins]
    if lacking or not sides:
        raise RunError(
            f"{folder / CORRECTNESS} holds no margins, which tell how sure the answers were; it is "
            "of an older version: evaluate the checkpoint again with train_cls.py --evaluate"
        )
    costs = _macs(folder) if latency is None else _times(latency, executor)
    every = (*sides, *(resolutions or ()))
    missing = [side for side in every if side not in costs or side not in sides]
    if missing:
        usable = sorted(set(sides) & set(costs))
        raise RunError(f"resolution {missing[0]} has no answers or no cost; there are {usable}")
    outcomes = Outcomes(
        tuple(sides),
        tuple(costs[side] / costs[sides[-1]] for side in sides),
        np.stack([answers.correct[str(side)] for side in sides]),
        np.stack([answers.margins[str(side)] for side in sides]),
    )
    candidates = Candidates(outcomes, resolutions)
    unit = MACS if latency is None else MILLISECONDS
    return Report(outcomes, unit, candidates.choose(target), curve(candidates, outcomes))


def _macs(folder: Path) -> dict[int, float]:
    path = folder / "results.json"
    try:
        macs = read_json(path)["macs"]
        return {int(name): float(cost) for name, cost in macs.items() if name.isdecimal()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"cannot read the multiply-adds in {path}: {error}") from error


def _times(path: Path, executor: str | None) -> dict[int, float]:
    entries = read_entries(path)
    matching = [entry for entry in entries if executor in (None, entry.executor)]
    if len(matching) != 1:
        names = ", ".join(map(_name, entries)) or "none"
        raise RunError(
            f"{path} holds "
            f"{counted(len(matching), 'table')}{'' if executor is None else f' of {executor}'}, "
            f"expected one; there are {names}"
        )
    return {row.resolution: row.median_ms for row in matching[0].rows}


def _name(entry: Entry) -> str:
    return (
        f"{entry.executor} ({entry.file}, {counted(entry.threads, 'thread')}, {entry.machine.cpu})"
    )


def layout(report: Report) -> str:
    """Lay out the curve against the fixed resolutions, and the chosen cascade, as text."""
    lines = [
        f"{counted(report.outcomes.correct.shape[1], 'image')}; costs are shares of the "
        f"{report.unit}",
        f"{'':<22}{'cost':>8}{'accuracy':>11}",
    ]
    for side, point in fixed_points(report.outcomes).items():
        lines.append(f"{f'{side} alone':<22}{point.cost:>8.3f}{100 * point.accuracy:>9.2f} %")
    lines.append(f"{'cascade, validated':<22}{'':>8}{'':>11}{'fixed at this cost':>22}")
    for selection in report.curve:
        point = selection.validated
        name = f"  target {selection.target:.3f}"
        lines.append(
            f"{name:<22}{point.cost:>8.3f}{100 * point.accuracy:>9.2f} %"
            f"{100 * fixed_at(report.outcomes, point.cost):>20.2f} %  {_words(selection)}"
        )
    return "\n".join([*lines, "", *_selection_lines(report)])


def _selection_lines(report: Report) -> list[str]:
    selection = report.selection
    point, spread = selection.validated, selection.spread
    return [
        f"chosen for a mean cost of at most {selection.target:g}: {_words(selection)}",
        f"validated on other images: cost {point.cost:.3f} +- {spread.cost:.3f}, accuracy "
        f"{100 * point.accuracy:.2f} +- {100 * spread.accuracy:.2f} %, {100 * report.gain:+.2f} "
        "points to fixed resolutions at this cost",
        f"on the images that chose it: cost {selection.own.cost:.3f}, accuracy "
        f"{100 * selection.own.accuracy:.2f} %",
    ]


def _words(selection: Selection) -> str:
    *lower, last = selection.thresholds
    steps = [f"{side} below {selection.thresholds[side]:.4g}" for side in lower]
    return " -> ".join([*steps, str(last)])


def plot(report: Report) -> Figure:
    """Draw accuracy against mean cost: cascades, and the resolutions alone."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    cascades = [selection.validated for selection in report.curve]
    axes.plot([p.cost for p in cascades], [100 * p.accuracy for p in cascades], label="cascade")
    fixed = fixed_points(report.outcomes)
    x, y = [p.cost for p in fixed.values()], [100 * p.accuracy for p in fixed.values()]
    axes.plot(x, y, "o--", label="one resolution")
    for side, point in fixed.items():
        place = (point.cost, 100 * point.accuracy)
        axes.annotate(str(side), place, xytext=(4, -12), textcoords="offset points")
    point = report.selection.validated
    axes.plot(point.cost, 100 * point.accuracy, "*", markersize=12, label="chosen")
    axes.set(xlabel=f"mean cost (share of the {report.unit})", ylabel="top1 (%)")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
