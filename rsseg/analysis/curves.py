"""Curves of runs as one picture: losses over the steps, a metric and alpha over the epochs.

Source: Wang et al., ECCV 2020, https://arxiv.org/abs/2007.09558, appendix A (the curve of alpha).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rsseg.common.files import RunError, read_text
from rsseg.heads import head_of_metrics

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

    Where a run has an ensemble, a third column has the share alpha of each resolution.

    Args:
        runs: Run folders, one row of the figure for each.
        metric: Name of a metric in the log that is a share, 0..1; None takes the one of each run's
            task.

    Raises:
        RunError: If a run has no log, or the metric is unknown to it.
    """
    logs = [read_log(run) for run in runs]
    columns = 3 if any(entry.get("alpha") for log in logs for entry in log) else 2
    figure = Figure(figsize=(5.5 * columns, 3.4 * len(runs)), layout="constrained")
    axes = figure.subplots(len(runs), columns, squeeze=False)
    for run, log, row in zip(runs, logs, axes, strict=True):
        _plot_losses(row[0], [entry for entry in log if "total" in entry])
        _plot_metric(row[1], [entry for entry in log if "metrics" in entry], metric, run)
        if columns == 3:
            _plot_alpha(row[2], log)
        row[0].set_title(run.name)
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
    if axes.lines:  # A short run logs no step.
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


def _plot_alpha(axes: Axes, log: Sequence[dict[str, Any]]) -> None:
    """Draw the shares after each epoch that has them; earlier versions wrote evaluated ones."""
    shares: dict[int, dict[str, float]] = {
        entry["epoch"]: entry["alpha"] for entry in log if entry.get("alpha")
    }
    if not shares:
        axes.set_visible(False)
        return
    for name in next(iter(shares.values())):
        axes.plot(list(shares), [row[name] for row in shares.values()], ".-", label=name)
    axes.set(xlabel="epoch", ylabel="share alpha in the ensemble")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
