"""The folder of a run: configuration, checkpoints, log, results.

Nothing in it is overwritten by another run: a folder that exists is continued, or refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from rsseg.common.checkpoint import read_last, save_checkpoint
from rsseg.common.files import RunError, read_json, write_csv, write_whole
from rsseg.common.messages import listed

# What is shown of the results of a segmenter, and of a classifier.
METRICS = (("pixel_accuracy", "mean_accuracy", "mean_iou"), ("top1", "top5"))


class RunFolder:
    """Paths and files of one run.

    Args:
        path: The folder. Use `create` for a new run.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last = path / "last.pt"
        self.previous = path / "previous.pt"
        self.best = path / "best.pt"
        self.tensorboard = path / "tensorboard"

    @classmethod
    def create(cls, path: Path, config: Mapping[str, Any]) -> RunFolder:
        """Make a new run folder and write the resolved configuration into it.

        Raises:
            RunError: If the folder exists and is not empty, or cannot be made.
        """
        check_unused(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot make the run folder {path}: {error.strerror}") from error
        folder = cls(path)
        folder.write_config(config)
        return folder

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write the resolved configuration, config.yaml."""
        text = yaml.safe_dump(dict(config), sort_keys=False, default_flow_style=None)
        write_whole(self.path / "config.yaml", text)

    def has_begun(self) -> bool:
        """Tell whether there is a checkpoint to continue from."""
        return self.last.is_file() or self.previous.is_file()

    def save(self, path: Path, content: Mapping[str, Any]) -> None:
        """Write a checkpoint of the run; the last but one becomes previous.pt.

        Raises:
            CheckpointError: If it cannot be written; those before are kept.
        """
        for stale in self.path.glob("*.pt.part"):  # Of a process that was killed.
            stale.unlink(missing_ok=True)
        save_checkpoint(path, content, previous=self.previous if path == self.last else None)

    def read_last(self) -> tuple[dict[str, Any], Path]:
        """Read last.pt, or previous.pt if that is broken, with a warning; return the file as well.

        Raises:
            CheckpointError: If both are missing or broken.
        """
        return read_last(self.last, self.previous)

    def log(self, entry: Mapping[str, Any]) -> None:
        """Add one line of JSON to log.jsonl."""
        path = self.path / "log.jsonl"
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
        except OSError as error:
            raise OSError(f"cannot write {path}: {error.strerror or error}") from error

    def cut_log(self, last_step: int) -> None:
        """Take out of the log what came after a step, as the run will come past there again."""
        path = self.path / "log.jsonl"
        if path.exists():
            lines = path.read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if _step_of(line) <= last_step]
            if kept != lines:
                write_whole(path, "".join(f"{line}\n" for line in kept))

    def read_results(self) -> dict[str, Any]:
        """Read results.json.

        Raises:
            RunError: If it is missing or damaged.
        """
        path = self.path / "results.json"
        try:
            return dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise RunError(
                f"cannot read {path}: {error}; find the results again with --evaluate {self.last}"
            ) from error

    def write_results(self, results: Mapping[str, Any]) -> None:
        """Write results.json, and its metrics by resolution as results.csv."""
        write_whole(self.path / "results.json", json.dumps(results, indent=1) + "\n")
        rows = [{"resolution": name, **metrics} for name, metrics in results["metrics"].items()]
        write_csv(self.path / "results.csv", rows)


def _step_of(line: str) -> float:
    """Return the step of a line of the log; one that was cut off by a crash comes after all."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


def check_unused(path: Path) -> None:
    """Check that a folder can take a new run: it is empty, or a run in it never began.

    Raises:
        RunError: If it holds anything else.
    """
    unbegun = {"config.yaml", ".config.part.yaml", "tensorboard", "last.pt.part"}
    if path.is_dir() and any(file.name not in unbegun for file in path.iterdir()):
        raise RunError(
            f"run folder {path} exists; continue that run with --resume {path}, or choose "
            "another folder with --run"
        )


def default_metrics(held: Collection[str]) -> tuple[str, ...]:
    """Tell which metrics are shown of those that results hold, the best known task first.

    Raises:
        RunError: If they are of no task that is known.
    """
    for metrics in METRICS:
        if set(metrics) <= set(held):
            return metrics
    known = " or ".join(", ".join(metrics) for metrics in METRICS)
    raise RunError(f"expected {known} among the metrics, there are: {listed(held)}; name some")


def comparison_table(paths: Sequence[Path], metrics: Sequence[str] | None = None) -> str:
    """Lay out several results.json as one table, named after their folder and file.

    Args:
        paths: The files.
        metrics: Names of the metrics to show; None takes those of the task, see `METRICS`.

    Raises:
        RunError: If a file is missing, is no results file, or lacks one of the metrics; or if
            none are named and the results are of different tasks.
    """
    tables: list[str] = []
    shown: dict[tuple[str, ...], Path] = {}
    for path in paths:
        try:
            results = read_json(path)
            chosen = tuple(metrics or default_metrics(next(iter(results["metrics"].values()))))
            table = results_table(results, chosen)
        except Exception as error:  # What was given may be any JSON.
            asked = f" with {list(metrics)}" if metrics else ""
            raise RunError(f"cannot read {path} as results{asked}: {error}") from error
        shown.setdefault(chosen, path)
        name = (
            path.parent.name if path.name == "results.json" else f"{path.parent.name} {path.stem}"
        )
        tables.append(f"{name}\n{table}")
    if len(shown) > 1:
        told = ", ".join(f"{path} holds {' '.join(names)}" for names, path in shown.items())
        raise RunError(f"these are results of different tasks: {told}; compare them apart")
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
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )


def _percent(share: object) -> str:
    if not isinstance(share, int | float):
        raise ValueError(f"{type(share).__name__} is no share")
    return f"{100 * share:.1f}"
