"""The heads by name: which kinds of network there are.

Light, as the process of an exported file imports it: no library of networks is loaded.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from rsseg.classifiers.head import ClassificationHead
from rsseg.common.files import RunError
from rsseg.common.messages import check_name, listed
from rsseg.segmentation.head import SegmentationHead
from rsseg.training.head import Head

# Checkpoints, exported files and results hold their names under the key "task".
HEADS: Final[dict[str, Head]] = {
    head.name: head for head in (SegmentationHead(), ClassificationHead())
}


def head_of(task: str) -> Head:
    """Return the head of a name.

    Raises:
        ValueError: If there is none of this name.
    """
    check_name("task", task, HEADS)
    return HEADS[task]


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
