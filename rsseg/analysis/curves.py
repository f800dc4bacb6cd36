"""Curves of runs as one picture: the losses over the steps, a metric over the epochs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rsseg.analysis.results import head_of_metrics
from rsseg.common.files import RunError, read_text

LOSSES = ("total", "classification", "ensemble", "distillation")


def read_log(run: Path) -> list[dict[str, Any]]:
    """Read log.jsonl of a run folder.

    Raises:
        RunError: If there is none, or a line of it is not JSON.
    """
    path = run / "log.jsonl"
    try:
        lines = read_text(path).splitlines()
        return [json.loads(line) for line in lines]
    except FileNotFoundError as error:
        raise RunError(f"{run} is not a run folder with a log: there is no {path}") from error
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} holds a line that is not JSON: {error}") from error


def plot_curves(runs: Sequence[Path], metric: str | None = None) -> Figure:
    """Draw the losses of each run, and its metric at every resolution in percent.

    Args:
        runs: Run folders, one row of the figure for each.
        metric: Name of a metric in the log that is a share, 0..1; None takes the one of each run's
            task.

    Raises:
        RunError: If a run has no log, or the metric is unknown to it.
    """
    figure = Figure(figsize=(11, 3.4 * len(runs)), layout="constrained")
    axes = figure.subplots(len(runs), 2, squeeze=False)
    for run, (left, right) in zip(runs, axes, strict=True):
        log = read_log(run)
        _plot_losses(left, [entry for entry in log if "total" in entry])
        _plot_metric(right, [entry for entry in log if "metrics" in entry], metric, run)
        left.set_title(run.name)
    return figure


def _plot_losses(axes: Axes, steps: Sequence[dict[str, Any]]) -> None:
    parts = [name for name in LOSSES[1:] if any(entry[name] for entry in steps)]
    for name in [LOSSES[0], *(parts if len(parts) > 1 else [])]:
        values = [entry[name] for entry in steps]
        if values:
            axes.plot([entry["step"] for entry in steps], values, label=name, linewidth=1)
    axes.set(xlabel="step", ylabel="loss")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()


def _plot_metric(
    axes: Axes, evaluations: Sequence[dict[str, Any]], metric: str | None, run: Path
) -> None:
    last: dict[str, dict[str, float]] = evaluations[-1]["metrics"] if evaluations else {}
    if not last:
        return
    if metric is None:
        metric = head_of_metrics({name for metrics in last.values() for name in metrics}).metric
    for name, result in last.items():
        if metric not in result:
            raise RunError(f"{run} has no metric '{metric}'; it has {', '.join(sorted(result))}")
        values = [100 * entry["metrics"][name][metric] for entry in evaluations]
        axes.plot([entry["epoch"] for entry in evaluations], values, "o-", label=name)
    axes.set(xlabel="epoch", ylabel=f"{metric.replace('_', ' ')} (%)")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
