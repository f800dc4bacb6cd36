"""What results.json beside a network says of its accuracy; read without PyTorch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rsseg.common.files import RunError, read_json
from rsseg.heads import head_of_metrics

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
        RunError: If the file is not a results file.
    """
    path = folder / "results.json"
    if not path.exists():
        return None
    try:
        results: dict[str, Any] = read_json(path)
        if not _is_of(results, network):
            return None
        metrics = results["metrics"]
        metric = head_of_metrics(next(iter(metrics.values()))).metric
        # Of a resolution that was trained twice, the first set answers.
        values = {
            int(name): float(row[metric]) for name, row in metrics.items() if name.isdecimal()
        }
        return metric, {side: value for side, value in values.items() if math.isfinite(value)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
        raise RunError(f"cannot read {path} as results: {error}") from error


def _is_of(results: dict[str, Any], network: Mapping[str, Any]) -> bool:
    """Return whether results are of a network, as far as both say what it is."""
    if results.get("weights") or network["weights"]:
        return bool(results.get("weights") == network["weights"])
    # Earlier versions wrote no digests.
    keys = [key for key in ("task", "classes", "resolutions", "epoch") if key in network]
    return all(results[key] == network[key] for key in keys if key in results)
