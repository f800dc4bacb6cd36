"""The folder of a run: configuration, checkpoints, log, results.

Nothing in it is overwritten by another run: a folder that exists is continued, or refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from rsseg.common.checkpoint import read_last, write_checkpoint
from rsseg.common.files import RunError, write_csv, write_whole


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
        """Return whether there is a checkpoint to continue from."""
        return self.last.is_file() or self.previous.is_file()

    def save(self, path: Path, content: Mapping[str, Any]) -> None:
        """Write a checkpoint of the run; the last but one becomes previous.pt.

        Raises:
            CheckpointError: If it cannot be written; those before are kept.
        """
        for stale in self.path.glob("*.pt.part"):  # Of a process that was killed.
            stale.unlink(missing_ok=True)
        write_checkpoint(path, content, previous=self.previous if path == self.last else None)

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
        """Remove the lines after a step from the log, as the run repeats those steps."""
        path = self.path / "log.jsonl"
        if path.exists():
            lines = path.read_text(encoding="utf-8").splitlines()
            rest = [line for line in lines if _step_of(line) <= last_step]
            if rest != lines:
                write_whole(path, "".join(f"{line}\n" for line in rest))

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

    def start_metrics(self, metrics: Mapping[str, Any], epoch: int) -> Mapping[str, Any] | None:
        """Return the metrics of the start of a run, which are kept in start.json; None if lost."""
        path = self.path / "start.json"
        if epoch == 0:
            write_whole(path, json.dumps(metrics, indent=1) + "\n")
        try:
            return dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return None

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
