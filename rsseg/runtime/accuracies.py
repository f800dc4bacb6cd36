"""What results.json beside a network says of its accuracy; read without PyTorch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rsseg.common.files import RunError, read_json
from rsseg.heads import head_of_metrics
from rsseg.runtime.beside import read_or_warn

Accuracies = dict[int, float]  # shares in 0..1 by resolution


def read_accuracies(folder: Path, network: Mapping[str, Any]) -> tuple[str, Accuracies] | None:
    """Read the accuracy of a network at each resolution from the results.json of a folder.

    Args:
        folder: Where it lies.
        network: Metadata or description of the network, as plain values; the file may be that of
            another one.

    Returns:
        Name of the metric (top1, of a segmenter mean_iou), and shares in 0..1 by resolution; None
        if there is no such file, or it is not of this network.

    Raises:
        ValueError: If the file is not a results file; names it.
        OSError: If it cannot be read.
    """
    path = folder / "results.json"
    if not path.exists():
        return None
    results = read_json(path)
    try:
        return _accuracies(results, network)
    except Exception as error:  # What was given may be any JSON.
        raise RunError(
            f"cannot read {path} as results ({type(error).__name__}: {error}); evaluate the "
            "network again, or remove the file"
        ) from error


def accuracies_beside(path: Path, network: Mapping[str, Any]) -> tuple[str, Accuracies] | None:
    """Return the accuracy of a network by the results.json beside its file.

    A file that cannot be used is a warning, as the network works without it.

    Args:
        path: The file of the network.
        network: As in `read_accuracies`.

    Returns:
        As `read_accuracies`.
    """
    return read_or_warn(
        lambda: read_accuracies(path.parent, network),
        None,
        consequence="accuracies are left out",
    )


def _accuracies(
    results: dict[str, Any], network: Mapping[str, Any]
) -> tuple[str, Accuracies] | None:
    if not _is_of(results, network):
        return None
    metrics = results["metrics"]
    metric = head_of_metrics(next(iter(metrics.values()), {})).metric
    # Of a resolution that was trained twice, the first set answers.
    shares = {int(name): row[metric] for name, row in metrics.items() if name.isdecimal()}
    known = {side: _checked(share, side) for side, share in shares.items() if _is_known(share)}
    return (metric, known) if known else None


def _is_known(share: object) -> bool:
    """Return whether a metric has a value: that of a diverged network is not finite."""
    return not isinstance(share, float) or math.isfinite(share)


def _checked(share: object, side: int) -> float:
    number = isinstance(share, int | float) and not isinstance(share, bool)
    if not number or not 0 <= float(share) <= 1:  # type: ignore[arg-type]
        raise ValueError(f"expected shares in 0..1, got {share!r} at {side}")
    return float(share)  # type: ignore[arg-type]


def _is_of(results: dict[str, Any], network: Mapping[str, Any]) -> bool:
    """Return whether results are of a network, as far as both say what it is."""
    if results.get("weights") or network["weights"]:
        return bool(results.get("weights") == network["weights"])
    # Earlier versions wrote no digests.
    keys = [key for key in ("task", "classes", "resolutions", "epoch") if key in network]
    return all(results[key] == network[key] for key in keys if key in results)
