"""The results of runs as tables."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rsseg.common.files import RunError, read_json
from rsseg.common.messages import counted, percent, text_table
from rsseg.heads import head_of_metrics
from rsseg.training.evaluation import ENSEMBLE


def results_file(path: Path) -> Path:
    """Return the results.json of a run's folder; any other path is returned as it is."""
    return path / "results.json" if path.is_dir() else path


@dataclass(frozen=True)
class RunResults:
    """The results of one run, for a table.

    Args:
        name: Name of the run: its folder, and the file if that is not results.json.
        path: The file.
        metrics: By resolution ("352", ..., "ensemble"), then by name, shares in 0..1.
        alpha: Share of each resolution in the ensemble; empty without one.
        macs: Multiply-adds at each resolution, as far as they are known.
        resolutions: Those that the network was trained at; empty if the file does not say.
    """

    name: str
    path: Path
    metrics: dict[str, dict[str, float]]
    alpha: dict[str, float]
    macs: dict[str, int]
    resolutions: tuple[int, ...] = ()

    def plain(self) -> dict[str, Any]:
        """Return the values as JSON holds them."""
        return {**vars(self), "path": str(self.path)}


def read_results(path: Path, metrics: Sequence[str] | None = None) -> RunResults:
    """Read results.json, or any file of its form, or that of a run's folder.

    Args:
        path: The file or the folder.
        metrics: Names of the metrics to read; None takes those of the task.

    Raises:
        RunError: If it is missing, is not a results file, or lacks one of the metrics.
    """
    path = results_file(path)
    try:
        results = read_json(path)
        if not results["metrics"]:
            raise ValueError("there are no metrics")
        named = metrics or head_of_metrics(next(iter(results["metrics"].values()))).metrics
        folder = path.resolve().parent.name
        return RunResults(
            name=folder if path.name == "results.json" else f"{folder} {path.stem}",
            path=path,
            metrics={
                str(name): {metric: _share(values[metric]) for metric in named}
                for name, values in results["metrics"].items()
            },
            alpha={name: _share(value) for name, value in (results.get("alpha") or {}).items()},
            macs={name: int(_share(value)) for name, value in (results.get("macs") or {}).items()},
            resolutions=tuple(int(_share(side)) for side in results.get("resolutions") or ()),
        )
    except Exception as error:  # What was given may be any JSON.
        request = f" with {list(metrics)}" if metrics else ""
        raise RunError(f"cannot read {path} as results{request}: {error}") from error


def read_comparison(
    paths: Sequence[Path], metrics: Sequence[str] | None = None
) -> list[RunResults]:
    """Read the results of several runs of one task, in the order given, under distinct names.

    Raises:
        RunError: If one cannot be read, or, with no metrics named, the runs are of different tasks.
    """
    runs = [read_results(path, metrics) for path in paths]
    shown: dict[tuple[str, ...], Path] = {}
    for run in runs:
        shown.setdefault(tuple(next(iter(run.metrics.values()), {})), run.path)
    if len(shown) > 1:
        tasks = ", ".join(f"{path} holds {' '.join(names)}" for names, path in shown.items())
        raise RunError(f"these are results of different tasks: {tasks}; compare them apart")
    names = Counter(run.name for run in runs)
    return [run if names[run.name] == 1 else replace(run, name=str(run.path)) for run in runs]


def comparison_table(runs: Sequence[RunResults]) -> str:
    """Lay out the results of several runs of one task as one table.

    One line for each run, one column for each resolution of any of them, largest first, then the
    ensemble. A cell holds the metrics in percent; "-" stands where a run has none. Shares alpha and
    multiply-adds (1e9) follow where a run knows them, for each of its resolutions.
    """
    metrics = next((list(row) for run in runs for row in run.metrics.values()), [])
    columns = columns_of(runs)
    lines = [["run", *columns]]
    for run in runs:
        cells = (run.metrics.get(name, {}) for name in columns)
        lines.append([run.name, *("/".join(map(percent, row.values())) or "-" for row in cells)])
    for title, values in (
        ("alpha", [{name: f"{share:.3f}" for name, share in run.alpha.items()} for run in runs]),
        ("GMACs", [{name: f"{macs / 1e9:.2f}" for name, macs in run.macs.items()} for run in runs]),
    ):
        if any(values):
            lines[0].append(title)
            for line, row, run in zip(lines[1:], values, runs, strict=True):
                own = [name for name in columns if name in run.metrics and name != ENSEMBLE]
                line.append("/".join(row.get(name, "-") for name in own) if row else "-")
    caption = " / ".join(metric.replace("_", " ") for metric in metrics)
    return f"{caption}, %\n{text_table(lines)}"


@dataclass(frozen=True)
class Group:
    """Runs of one name: several seeds, or I-Nets of several resolutions.

    Args:
        name: The name.
        runs: The runs.
    """

    name: str
    runs: tuple[RunResults, ...]

    def values(self, resolution: str, metric: str) -> list[float]:
        """Return the metric of each run that has it at a resolution, shares in 0..1."""
        rows = (run.metrics.get(resolution, {}) for run in self.runs)
        return [row[metric] for row in rows if metric in row]


def grouped(runs: Sequence[RunResults], names: Sequence[str]) -> list[Group]:
    """Join the runs of one name, in the order of the names.

    Args:
        runs: The runs.
        names: Name of each of them.

    Raises:
        RunError: If there are not as many names.
    """
    if len(runs) != len(names):
        raise RunError(f"{counted(len(runs), 'result')}, but {counted(len(names), 'name')}")
    pairs = list(zip(runs, names, strict=True))
    return [
        Group(name, tuple(run for run, own in pairs if own == name))
        for name in dict.fromkeys(names)
    ]


def metrics_of(runs: Sequence[RunResults]) -> list[str]:
    """Return the names of all metrics of runs."""
    return list(dict.fromkeys(m for run in runs for row in run.metrics.values() for m in row))


def columns_of(runs: Sequence[RunResults]) -> list[str]:
    """Return the names of all resolutions of runs, largest first, then the ensemble."""
    return sorted({name for run in runs for name in run.metrics}, key=_place)


def grouped_table(runs: Sequence[RunResults], names: Sequence[str]) -> str:
    """Lay out the results of several runs of one task, those of one name together.

    One line for each name and metric, one column for each resolution. Runs of one name at one
    resolution, as those of several seeds are, give their mean and, in brackets, the smallest and
    the largest value, in percent; runs at different resolutions, as I-Nets are, fill one line.

    Raises:
        RunError: If there are not as many names.
    """
    columns = columns_of(runs)
    lines = [["name", "runs", "metric", *columns]]
    for group in grouped(runs, names):
        for metric in metrics_of(runs):
            cells = [mean_and_range(group.values(column, metric)) for column in columns]
            lines.append([group.name, str(len(group.runs)), metric.replace("_", " "), *cells])
    return text_table(lines)


def mean_and_range(values: Sequence[float]) -> str:
    """Write the mean and, of several, the smallest and the largest value; in percent."""
    if not values:
        return "-"
    mean = percent(sum(values) / len(values))
    low, high = percent(min(values)), percent(max(values))
    return mean if len(values) == 1 else f"{mean} ({low} to {high})"


def _place(name: str) -> tuple[float, str]:
    """Return where the column of a resolution stands: from large to small, then the others."""
    number, _, repetition = name.partition("_")
    return (-float(number), repetition) if number.isdecimal() else (math.inf, name)


def results_table(results: Mapping[str, Any], metrics: Sequence[str]) -> str:
    """Lay out the metrics of results.json as text, one line for each resolution.

    Shares (0..1) are shown in percent; the share alpha of the ensemble and the multiply-adds
    (in units of 1e9) are added where they are known.
    """
    metrics = _telling(results, metrics)
    head = ["resolution", *(name.replace("_", " ") for name in metrics), "alpha", "GMACs"]
    alpha = results.get("alpha") or {}
    lines = [head]
    for name, values in results["metrics"].items():
        macs = results.get("macs", {}).get(name)
        share = f"{alpha[name]:.3f}" if name in alpha else ""
        shown = [percent(_share(values[metric])) for metric in metrics]
        lines.append([name, *shown, share, "" if macs is None else f"{macs / 1e9:.2f}"])
    return text_table(lines, ">")


def _telling(results: Mapping[str, Any], metrics: Sequence[str]) -> list[str]:
    """Return the metrics without top5 where there are at most 5 classes: there it is always 1."""
    classes = len(results.get("classes") or ())
    return [name for name in metrics if name != "top5" or not 0 < classes <= 5]


def adaptation_table(results: Mapping[str, Any], metrics: Sequence[str]) -> str:
    """Lay out what adapting a network has changed, one line for each resolution, in percent.

    Args:
        results: Content of results.json with the metrics of the start under "start".
        metrics: Names of the metrics.
    """
    metrics = _telling(results, metrics)
    head = ["resolution"]
    for name in metrics:
        head += [f"{name.replace('_', ' ')}: original", "adapted", "change"]
    lines = [head]
    for name, values in results["metrics"].items():
        if name in results["start"] and name != ENSEMBLE:
            line = [name]
            for metric in metrics:
                before, after = _share(results["start"][name][metric]), _share(values[metric])
                line += [percent(before), percent(after), f"{100 * (after - before):+.1f}"]
            lines.append(line)
    return text_table(lines, ">")


def _share(value: object) -> float:
    """Return a number of a results file."""
    if not isinstance(value, int | float):
        raise ValueError(f"{type(value).__name__} is not a share")
    return float(value)
