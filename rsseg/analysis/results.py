"""The results of runs as tables."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from rsseg.common.files import RunError, read_json
from rsseg.common.messages import listed, text_table
from rsseg.load import HEADS
from rsseg.training.head import Head


def head_of_metrics(metrics: Collection[str]) -> Head:
    """Return the head whose main metric is among those given.

    Raises:
        RunError: If there is none.
    """
    for head in HEADS.values():
        if head.metric in metrics:
            return head
    expected = " or ".join(", ".join(head.metrics) for head in HEADS.values())
    raise RunError(
        f"expected {expected} among the metrics, there are: {listed(metrics)}; name some"
    )


def results_file(path: Path) -> Path:
    """Return the results.json of a run's folder; any other path is returned as it is."""
    return path / "results.json" if path.is_dir() else path


def comparison_table(paths: Sequence[Path], metrics: Sequence[str] | None = None) -> str:
    """Lay out several results.json as one table, named after their folder and file.

    Args:
        paths: The files, or the folders of runs that hold them.
        metrics: Names of the metrics to show; None takes those of the task.

    Raises:
        RunError: If a file is missing, is not a results file, or lacks one of the metrics; or if
            none are named and the results are of different tasks.
    """
    tables: list[str] = []
    shown: dict[tuple[str, ...], Path] = {}
    for path in map(results_file, paths):
        try:
            results = read_json(path)
            columns = tuple(
                metrics or head_of_metrics(next(iter(results["metrics"].values()))).metrics
            )
            table = results_table(results, columns)
        except Exception as error:  # What was given may be any JSON.
            request = f" with {list(metrics)}" if metrics else ""
            raise RunError(f"cannot read {path} as results{request}: {error}") from error
        shown.setdefault(columns, path)
        name = (
            path.parent.name if path.name == "results.json" else f"{path.parent.name} {path.stem}"
        )
        tables.append(f"{name}\n{table}")
    if len(shown) > 1:
        tasks = ", ".join(f"{path} holds {' '.join(names)}" for names, path in shown.items())
        raise RunError(f"these are results of different tasks: {tasks}; compare them apart")
    return "\n\n".join(tables)


def results_table(results: Mapping[str, Any], metrics: Sequence[str]) -> str:
    """Lay out the metrics of results.json as text, one line for each resolution.

    Shares (0..1) are shown in percent; the share alpha of the ensemble and the multiply-adds
    (in units of 1e9) are added where they are known.
    """
    head = ["resolution", *(name.replace("_", " ") for name in metrics), "alpha", "GMACs"]
    alpha = results.get("alpha") or {}
    lines = [head]
    for name, values in results["metrics"].items():
        macs = results.get("macs", {}).get(name)
        share = f"{alpha[name]:.3f}" if name in alpha else ""
        shown = [_percent(values[metric]) for metric in metrics]
        lines.append([name, *shown, share, "" if macs is None else f"{macs / 1e9:.2f}"])
    return text_table(lines, ">")


def _percent(share: object) -> str:
    if not isinstance(share, int | float):
        raise ValueError(f"{type(share).__name__} is not a share")
    return f"{100 * share:.1f}"
