"""The model card of a network: what it is, how it is used, what was measured and what was not.

Source of the layout: https://huggingface.co/docs/hub/model-cards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import yaml

from rsseg.common.config import plain
from rsseg.common.messages import counted, markdown_table
from rsseg.heads import head_of
from rsseg.runtime.accuracies import read_accuracies
from rsseg.runtime.budget.table import Entry, latency_file, read_entries
from rsseg.switchable.norms import BATCH
from rsseg.training.metadata import RunMetadata

PAPER: Final = "https://arxiv.org/abs/2007.09558"
_MISSING: Final = "not measured"
_SHOWN_CLASSES: Final = 20
_PIPELINES: Final = {True: "image-segmentation", False: "image-classification"}


@dataclass(frozen=True)
class Measured:
    """What was measured of a network.

    Args:
        metric: Name of the metric of the accuracies.
        accuracies: Shares in 0..1 by resolution.
        latencies: One entry for each machine and executor.
    """

    metric: str | None = None
    accuracies: Mapping[int, float] = field(default_factory=dict)
    latencies: tuple[Entry, ...] = ()

    @classmethod
    def beside(cls, path: Path, record: RunMetadata) -> Measured:
        """Read results.json and the table of latencies beside a checkpoint, where there are any.

        Results of another network than that of the checkpoint do not count.

        Raises:
            ValueError: If one of them is damaged.
        """
        metric, accuracies = read_accuracies(path.parent, plain(record)) or (None, {})
        table = latency_file(path)
        entries = tuple(read_entries(table)) if table.is_file() else ()
        return cls(metric, accuracies, entries)


def card_text(
    record: RunMetadata,
    *,
    name: str,
    place: str,
    measured: Measured,
    license_id: str | None = None,
    datasets: Sequence[str] = (),
    text: str = "",
) -> str:
    """Return a model card in Markdown, with the metadata that hubs read at its beginning.

    Args:
        record: What the network is.
        name: What it is called.
        place: Folder or identifier that `from_pretrained` takes.
        measured: Accuracies and latencies.
        license_id: Identifier of the licence.
        datasets: Names of the data sets.
        text: What else is to be said.
    """
    parts = [
        f"# {name}",
        _summary(record),
        text,
        f"## Use\n\n    pip install rsseg\n\n```python\n{_snippet(record, place)}\n```",
        f"## Accuracy and cost\n\n{_table(record, measured)}",
        f"## Classes\n\n{_classes(record)}",
        f"## Data and licence\n\n{_origin(license_id, datasets)}",
        f"## Source\n\nWang, Sun, Li and Yao, Resolution Switchable Networks for Runtime Efficient "
        f"Image Recognition, ECCV 2020, [arXiv 2007.09558]({PAPER}).",
    ]
    head = _head(record, license_id, datasets)
    return f"---\n{head}---\n\n" + "\n\n".join(filter(None, parts)) + "\n"


def _head(record: RunMetadata, license_id: str | None, datasets: Sequence[str]) -> str:
    values: dict[str, object] = {
        "library_name": "rsseg",
        "pipeline_tag": _PIPELINES[head_of(record.task).dense],
        "tags": ["model_hub_mixin", "resolution-switchable"],
    }
    if license_id:
        values["license"] = license_id
    if datasets:
        values["datasets"] = list(datasets)
    dumped: str = yaml.safe_dump(values, sort_keys=True)
    return dumped


def _summary(record: RunMetadata) -> str:
    sides = ", ".join(map(str, dict.fromkeys(record.resolutions)))
    norm = "BatchNorm" if record.norms == BATCH else f"set of norms ({', '.join(record.norms)})"
    norm += " and positions" if record.positions == "private" else ""
    batchnorm = (
        f"a private {norm} for each" if record.batchnorm == "private" else f"one {norm} for all"
    )
    return (
        f"A resolution switchable {head_of(record.task).noun}: one set of weights with {batchnorm} "
        f"of the resolutions {sides} (pixels), of which one is chosen at run time. A resolution "
        f"between them takes an interpolated {norm}."
    )


def _snippet(record: RunMetadata, place: str) -> str:
    builder = ""
    if record.builder is not None:
        builder = f"\n# It imports and runs {record.builder}, which is not part of this model."
    allow = "" if record.builder is None else ", allow_builder=True"
    show = "answer.label_map.shape" if head_of(record.task).dense else "answer.top(3)"
    return (
        f"from PIL import Image\nfrom rsseg import HubNet\n{builder}\n"
        f"predictor = HubNet.from_pretrained({place!r}{allow}).predictor()\n"
        f'answer = predictor.predict(Image.open("photo.jpg"), {record.resolutions[-1]})\n'
        f"print({show})"
    )


def _table(record: RunMetadata, measured: Measured) -> str:
    metric = (measured.metric or head_of(record.task).metric).replace("_", " ")
    columns = ["resolution", f"{metric}, %", "GMACs", *map(_latency_head, measured.latencies)]
    if not measured.latencies:
        columns.append("latency, ms")
    rows = [columns]
    for side in dict.fromkeys(record.resolutions):
        accuracy, macs = measured.accuracies.get(side), record.macs.get(str(side))
        cells = [
            str(side),
            _MISSING if accuracy is None else f"{100 * accuracy:.1f}",
            _MISSING if macs is None else f"{macs / 1e9:.3g}",
            *(_latency(entry, side) for entry in measured.latencies),
        ]
        rows.append(cells if measured.latencies else [*cells, _MISSING])
    return markdown_table(rows)


def _latency_head(entry: Entry) -> str:
    machine = entry.machine.cpu if entry.machine.device == "cpu" else entry.machine.device
    return f"latency, ms ({entry.executor}, {counted(entry.threads, 'thread')}, {machine})"


def _latency(entry: Entry, side: int) -> str:
    rows = [row for row in entry.rows if row.resolution == side]
    return f"{rows[0].median_ms:.1f}" if rows else _MISSING


def _classes(record: RunMetadata) -> str:
    names = ", ".join(record.classes[:_SHOWN_CLASSES])
    more = len(record.classes) - _SHOWN_CLASSES
    rest = f" and {more} more, see config.json" if more > 0 else ""
    return f"{counted(len(record.classes), 'class')}: {names}{rest}."


def _origin(license_id: str | None, datasets: Sequence[str]) -> str:
    data = (
        f"Trained with {', '.join(datasets)}." if datasets else "The training data are not stated."
    )
    licence = (
        f"Licence: {license_id}." if license_id else "The licence is not stated; ask the author."
    )
    return f"{data} {licence}"
