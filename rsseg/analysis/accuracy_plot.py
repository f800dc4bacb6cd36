"""A metric against resolution, multiply-adds or milliseconds, for several results in one picture.

Source: Wang et al., ECCV 2020, https://arxiv.org/abs/2007.09558, Fig. 1 and Fig. 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rsseg.analysis.published import Number, lines_of
from rsseg.analysis.results import RunResults, results_file
from rsseg.common.files import RunError, read_json
from rsseg.common.messages import counted
from rsseg.heads import head_of_metrics
from rsseg.training.evaluation import ENSEMBLE

Axis = Literal["resolution", "macs", "milliseconds", "end_to_end"]
LABELS = {
    "resolution": "resolution (pixels)",
    "macs": "multiply-adds (1e9)",
    "milliseconds": "milliseconds for one image",
    "end_to_end": "end-to-end milliseconds for one image",
}
Point = tuple[float, float, bool]


@dataclass(frozen=True)
class Curve:
    """One line of the picture.

    Args:
        name: Folder of the results.
        metric: Name of the metric.
        x: Resolutions in pixels, multiply-adds in 1e9, or milliseconds, rising.
        y: The metric there, percent.
        trained: For each point, whether the network was trained at it.
    """

    name: str
    metric: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    trained: tuple[bool, ...]


def read_curve(
    source: Path | RunResults,
    metric: str | None,
    axis: Axis,
    times: Mapping[int, float] | None = None,
) -> Curve:
    """Read one line from results.json, or from the folder that holds it.

    Args:
        source: The file or the folder, or results that have been read.
        metric: Name of the metric; None takes that of the task.
        axis: What it is drawn against.
        times: Milliseconds of one image by resolution, for the last two axes; "end_to_end" are
            those from the bytes of the image.

    Raises:
        RunError: If the file is missing, is not a results file, or lacks the metric; if a
            resolution has no time.
    """
    path = source.path if isinstance(source, RunResults) else results_file(source)
    try:
        results: dict[str, Any] = (
            vars(source) if isinstance(source, RunResults) else read_json(path)
        )
        rows = {name: row for name, row in results["metrics"].items() if name != ENSEMBLE}
        key = metric or head_of_metrics(next(iter(rows.values()))).metric
        trained = {str(resolution) for resolution in results["resolutions"]}
        points = sorted((_place(results, name, axis, times or {}), name) for name in rows)
        values = tuple(100 * rows[name][key] for _, name in points)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
        request = f" with the metric {metric}" if metric else ""
        raise RunError(f"cannot read {path} as results{request}: {error}") from error
    return Curve(
        path.parent.name,
        key,
        tuple(x for x, _ in points),
        values,
        tuple(name.split("_")[0] in trained for _, name in points),
    )


def _place(results: Mapping[str, Any], name: str, axis: Axis, times: Mapping[int, float]) -> float:
    """Return where the results at one resolution are drawn."""
    side = int(name.split("_", maxsplit=1)[0])
    if axis == "macs":
        return float(results["macs"][name]) / 1e9
    if axis in ("milliseconds", "end_to_end"):
        if side not in times:
            raise ValueError(f"no time of {side} pixels, there are those of {sorted(times)}")
        return times[side]
    return side


def plot_accuracy(
    paths: Sequence[Path | RunResults],
    *,
    metric: str | None = None,
    axis: Axis = "resolution",
    names: Sequence[str] | None = None,
    times: Mapping[int, float] | None = None,
    points: Sequence[Number] = (),
) -> Figure:
    """Draw a metric of several results; trained resolutions are filled, others hollow.

    Args:
        paths: results.json files, the folders that hold them, or results that have been read.
            Those of one name are joined to one line, as I-Nets of several resolutions are. Where
            they meet at one point, as runs of several seeds do, their mean is drawn with a bar from
            the smallest to the largest.
        metric: Name of a metric that is a share, 0..1; None takes that of
            the task.
        axis: What it is drawn against.
        names: Name of each of the results; default is that of its folder.
        times: As for `read_curve`; the same for all results.
        points: Numbers of other works, drawn as squares on dotted lines; against resolution or
            multiply-adds.

    Raises:
        RunError: If results cannot be read, there are not as many names, or no point has the
            metric and a place on the axis.
    """
    if names is not None and len(names) != len(paths):
        raise RunError(
            f"{counted(len(paths), 'result')} for the picture, but {counted(len(names), 'name')}"
        )
    curves = [read_curve(path, metric, axis, times) for path in paths]
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    joined: dict[str, list[Point]] = {}
    for curve, name in zip(curves, names or [curve.name for curve in curves], strict=True):
        joined.setdefault(name, []).extend(zip(curve.x, curve.y, curve.trained, strict=True))
    for name, own in joined.items():
        _draw_line(axes, name, own)
    if points:
        for name, line in lines_of(points, curves[0].metric, axis).items():
            x, y = zip(*line, strict=True)
            axes.plot(x, y, "s:", label=name, markersize=4, linewidth=1)
    drawn = " / ".join(dict.fromkeys(curve.metric.replace("_", " ") for curve in curves))
    axes.set(xlabel=LABELS[axis], ylabel=f"{drawn} (%)")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def _draw_line(axes: Axes, name: str, points: Sequence[Point]) -> None:
    """Draw the means of points with equal x as one line, and their range as bars."""
    groups: dict[tuple[float, bool], list[float]] = {}
    for x, y, trained in sorted(points):
        groups.setdefault((x, trained), []).append(y)
    middle = {place: sum(values) / len(values) for place, values in groups.items()}
    (line,) = axes.plot([x for x, _ in middle], list(middle.values()), label=name)
    for (x, trained), mean in middle.items():
        low, high = min(groups[x, trained]), max(groups[x, trained])
        face = line.get_color() if trained else "white"
        axes.plot(x, mean, "o", color=line.get_color(), markerfacecolor=face)
        if high > low:
            axes.vlines(x, low, high, color=line.get_color(), linewidth=1)
