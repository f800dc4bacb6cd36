"""The change of a metric against the I-Nets: Tables 2, 3 and 7, and the bars of Fig. 5 and 9.

An I-Net is a network that was trained at one resolution alone. It counts at that resolution, and
not where it was merely tested.

Source: Wang et al., "Resolution Switchable Networks for Runtime Efficient Image Recognition",
ECCV 2020, https://arxiv.org/abs/2007.09558.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rsseg.analysis.results import (
    Group,
    RunResults,
    columns_of,
    grouped,
    metrics_of,
    read_comparison,
)
from rsseg.common.files import RunError
from rsseg.common.messages import text_table
from rsseg.heads import head_of_metrics


@dataclass(frozen=True)
class Gain:
    """The change of one metric at one resolution, in percentage points.

    Args:
        name: Name of the networks.
        metric: Name of the metric.
        resolution: Name of the resolution, such as "224" or "224_2".
        runs: Number of their runs.
        base_runs: Number of runs of the I-Net.
        change: Difference of the means.
        lowest: Smallest difference of a run and an I-Net, of all pairs.
        highest: Largest difference.
    """

    name: str
    metric: str
    resolution: str
    runs: int
    base_runs: int
    change: float
    lowest: float
    highest: float

    def __str__(self) -> str:
        if self.runs == self.base_runs == 1:
            return f"{self.change:+.1f}"
        return f"{self.change:+.1f} ({self.lowest:+.1f} to {self.highest:+.1f})"

    def row(self) -> dict[str, str | int | float]:
        """Return the values as `write_csv` takes them, to four digits after the point."""
        spread = {key: round(getattr(self, key), 4) for key in ("change", "lowest", "highest")}
        return {**vars(self), **spread}


def read_gains(
    results: Sequence[Path],
    base: Sequence[Path],
    *,
    names: Sequence[str] | None = None,
    metrics: Sequence[str] | None = None,
) -> list[Gain]:
    """Compare results with those of the I-Nets.

    Args:
        results: results.json files, or the folders that hold them.
        base: Those of the I-Nets; several at one resolution are seeds.
        names: Name of each of the results, to join those of one name; default is their own.
        metrics: Names of the metrics; None takes those of the task.

    Returns:
        By name, metric and resolution, for each resolution that has an I-Net.

    Raises:
        RunError: If results cannot be read, are of different tasks, there are not as many names,
            one of `base` was trained at several resolutions, or no resolution is common.
    """
    runs = read_comparison([*results, *base], metrics)
    runs, inets = runs[: len(results)], [_own_resolution(run) for run in runs[len(results) :]]
    groups = grouped(runs, names or [run.name for run in runs])
    gains = [
        gain
        for group in groups
        for metric in metrics_of(runs)
        for resolution in columns_of(group.runs)
        for gain in _gain(group, Group("I-Nets", tuple(inets)), metric, resolution)
    ]
    if not gains:
        raise RunError(
            f"no I-Net has a resolution of the results: they have {', '.join(columns_of(runs))}, "
            f"the I-Nets {', '.join(columns_of(inets))}"
        )
    return gains


def _own_resolution(run: RunResults) -> RunResults:
    """Return the results of an I-Net at the resolution that it was trained at."""
    sides = run.resolutions or tuple(int(side) for side in run.metrics if side.isdecimal())
    if len(sides) != 1:
        raise RunError(
            f"{run.path} is not an I-Net: it has the resolutions {list(sides)}; --base takes "
            "networks that were trained at one"
        )
    own = {name: row for name, row in run.metrics.items() if name == str(sides[0])}
    if not own:
        raise RunError(f"{run.path} has no results at {sides[0]}, where the I-Net was trained")
    return replace(run, metrics=own)


def _gain(group: Group, inets: Group, metric: str, resolution: str) -> list[Gain]:
    """Return the change in a list, which is empty where one of both is missing."""
    values = [100 * value for value in group.values(resolution, metric)]
    # A resolution that was trained twice has the names 224 and 224_2: one I-Net serves both.
    base = [100 * value for value in inets.values(resolution.partition("_")[0], metric)]
    if not values or not base:
        return []
    change = sum(values) / len(values) - sum(base) / len(base)
    extremes = min(values) - max(base), max(values) - min(base)
    return [
        Gain(group.name, metric, resolution, len(values), len(base), change, *extremes),
    ]


def gains_table(gains: Sequence[Gain]) -> str:
    """Lay out changes as text: a line for each name and metric, a column for each resolution."""
    columns = _columns(gains)
    lines = [["name", "metric", *columns]]
    for name, metric in dict.fromkeys((gain.name, gain.metric) for gain in gains):
        cells = {g.resolution: str(g) for g in gains if (g.name, g.metric) == (name, metric)}
        lines.append([name, metric.replace("_", " "), *(cells.get(key, "-") for key in columns)])
    return f"change against the I-Nets, percentage points\n{text_table(lines)}"


def _columns(gains: Sequence[Gain]) -> list[str]:
    names = {gain.resolution for gain in gains}
    return sorted(names, key=lambda name: (-int(name.partition("_")[0]), name))


def plot_gains(gains: Sequence[Gain], metric: str | None = None) -> Figure:
    """Draw the changes as bars: a group for each name, a bar for each resolution.

    Args:
        gains: The changes.
        metric: Name of the metric; None takes that of the task.

    Raises:
        RunError: If there is none of this metric.
    """
    metric = metric or head_of_metrics({gain.metric for gain in gains}).metric
    shown = [gain for gain in gains if gain.metric == metric]
    if not shown:
        have = ", ".join(dict.fromkeys(gain.metric for gain in gains))
        raise RunError(f"no change of the metric {metric}; there are {have}")
    names, columns = list(dict.fromkeys(gain.name for gain in shown)), _columns(shown)
    figure = Figure(figsize=(max(5.0, 1.6 + 0.42 * len(shown)), 4.2), layout="constrained")
    axes = figure.subplots()
    for column in columns:
        own = {_bar(shown, names, gain): gain for gain in shown if gain.resolution == column}
        _draw_bars(axes, column, own)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(range(len(names)), names)
    if sum(map(len, names)) > 12 * figure.get_figwidth():  # Side by side they would overlap.
        for label in axes.get_xticklabels():
            label.set(rotation=20, horizontalalignment="right", rotation_mode="anchor")
    axes.set_ylabel(f"change of {metric.replace('_', ' ')} against the I-Nets (points)")
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    axes.margins(y=0.12)
    axes.legend(title="resolution (pixels)", ncols=min(3, len(columns)))
    return figure


def _bar(gains: Sequence[Gain], names: Sequence[str], gain: Gain) -> tuple[float, float]:
    """Return centre and width of a bar; the bars of one name stand side by side around it."""
    own = [one for one in gains if one.name == gain.name]
    width = 0.8 / max(3, len(own))  # A lone bar is not as wide as its group.
    order = [one.resolution for one in own].index(gain.resolution)
    return names.index(gain.name) + (order - (len(own) - 1) / 2) * width, 0.9 * width


def _draw_bars(axes: Axes, resolution: str, bars: Mapping[tuple[float, float], Gain]) -> None:
    """Draw the bars of one resolution, with lines from the smallest to the largest difference."""
    gains, (centres, widths) = list(bars.values()), zip(*bars, strict=True)
    drawn = axes.bar(centres, [gain.change for gain in gains], widths, label=resolution)
    for x, gain in zip(centres, gains, strict=True):
        if gain.highest > gain.lowest:
            axes.vlines(x, gain.lowest, gain.highest, color="black", linewidth=1)
    if all(gain.highest == gain.lowest for gain in gains):  # Numbers would lie on the lines.
        axes.bar_label(drawn, fmt="{:+.1f}", fontsize=7, padding=1)
