"""The folder of a run: configuration, checkpoints, log, results.

Nothing in it is overwritten by another run: a folder that exists is continued, or refused.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml


class RunError(ValueError):
    """A run folder that cannot be used."""


class RunFolder:
    """Paths and files of one run.

    Args:
        path: The folder. Use `create` for a new run.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last = path / "last.pt"
        self.best = path / "best.pt"
        self.tensorboard = path / "tensorboard"

    @classmethod
    def create(cls, path: Path, config: Mapping[str, Any]) -> RunFolder:
        """Make a new run folder and write the resolved configuration into it.

        Raises:
            RunError: If the folder exists and is not empty, or cannot be made.
        """
        if path.is_dir() and any(path.iterdir()):
            raise RunError(
                f"run folder {path} exists; continue that run with --resume {path}, or choose "
                "another folder with --run"
            )
        try:
            path.mkdir(parents=True, exist_ok=True)
            text = yaml.safe_dump(dict(config), sort_keys=False, default_flow_style=None)
            (path / "config.yaml").write_text(text, encoding="utf-8")
        except OSError as error:
            raise RunError(f"cannot make the run folder {path}: {error.strerror}") from error
        return cls(path)

    def log(self, entry: Mapping[str, Any]) -> None:
        """Add one line of JSON to log.jsonl."""
        path = self.path / "log.jsonl"
        with _naming(path), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def read_results(self) -> dict[str, Any]:
        """Read results.json."""
        results = json.loads((self.path / "results.json").read_text(encoding="utf-8"))
        assert isinstance(results, dict)
        return results

    def write_results(self, results: Mapping[str, Any]) -> None:
        """Write results.json, and its metrics by resolution as results.csv."""
        write_whole(self.path / "results.json", json.dumps(results, indent=1) + "\n")
        rows = [{"resolution": name, **metrics} for name, metrics in results["metrics"].items()]
        write_csv(self.path / "results.csv", rows)


def default_folder(config: Path) -> Path:
    """Return runs/FAMILY/NAME for configs/FAMILY/NAME.yaml, and runs/NAME for another file."""
    parts = config.with_suffix("").parts
    inner = parts[parts.index("configs") + 1 :] if "configs" in parts else parts[-1:]
    return Path("runs", *inner)


# What may differ on the machine that continues a run; the rest would make it another run.
MACHINE_KEYS = ("data.root", "device", "workers")


def resumable(path: Path, overrides: Sequence[str]) -> Path:
    """Return the configuration file of a run that is to be continued.

    Raises:
        RunError: If the folder is none of a run, or an override would make it another run.
    """
    if not (path / "config.yaml").is_file():
        raise RunError(f"{path} is no run folder: it holds no config.yaml")
    if not (path / "last.pt").is_file():
        raise RunError(
            f"{path} holds no last.pt: the run wrote no checkpoint; remove the folder and start "
            "the run again"
        )
    changed = [key for key in overrides if key.partition("=")[0] not in MACHINE_KEYS]
    if changed:
        raise RunError(
            f"a run is continued as it was begun; --set {changed[0]} would change it. "
            f"Only {', '.join(MACHINE_KEYS)} may be set; start a new run for the rest"
        )
    return path / "config.yaml"


def check_new(path: Path) -> None:
    """Check that a file can be written later, before the work whose result it will hold.

    Raises:
        RunError: If it exists, or there is no folder for it.
    """
    if path.exists():
        raise RunError(f"{path} exists and is not overwritten; choose another name")
    if not path.parent.is_dir():
        raise RunError(f"there is no folder {path.parent} to write {path.name} into; make it first")


def write_whole(path: Path, text: str) -> None:
    """Write a text file under a temporary name, then move it to its name."""
    temporary = path.with_name(path.name + ".part")
    with _naming(path):
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV, with every key that one of them has as a column."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with _naming(path), path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)


def comparison_table(paths: Sequence[Path], metrics: Sequence[str]) -> str:
    """Lay out several results.json as one table, named after their folder and file.

    Raises:
        RunError: If a file is missing, is no results file, or lacks one of the metrics.
    """
    tables = []
    for path in paths:
        try:
            results = json.loads(path.read_text(encoding="utf-8"))
            table = results_table(results, metrics)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunError(
                f"cannot read {path} as results with {list(metrics)}: {error}"
            ) from error
        name = (
            path.parent.name if path.name == "results.json" else f"{path.parent.name} {path.stem}"
        )
        tables.append(f"{name}\n{table}")
    return "\n\n".join(tables)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name the file that cannot be written; a full disk does not."""
    try:
        yield
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error


def results_table(results: Mapping[str, Any], metrics: Sequence[str]) -> str:
    """Lay out the metrics of results.json as text, one line for each resolution.

    Shares (0..1) are shown in percent; the share alpha of the ensemble and the multiply-adds
    (in units of 1e9) are added where they are known.
    """
    head = ["resolution", *(name.replace("_", " ") for name in metrics), "alpha", "GMACs"]
    alpha = results.get("alpha") or []
    lines = [head]
    for index, (name, values) in enumerate(results["metrics"].items()):
        macs = results.get("macs", {}).get(name)
        share = f"{alpha[index]:.3f}" if index < len(alpha) else ""
        shown = [f"{100 * values[metric]:.1f}" for metric in metrics]
        lines.append([name, *shown, share, "" if macs is None else f"{macs / 1e9:.2f}"])
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )
