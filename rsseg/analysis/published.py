"""The numbers that the paper prints, and points of other works in the same form, from CSV files.

published.csv beside this file is the one place of the published numbers; their source is named in
it. A CSV of one's own has the columns name, metric, value (percent), and resolution (pixels) or
macs (1e6 for one image), or both; "#" begins a comment, other columns are left alone.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rsseg.common.files import RunError, read_text

PUBLISHED: Final = Path(__file__).with_name("published.csv")


@dataclass(frozen=True)
class Number:
    """One published number.

    Args:
        item: Table or figure, such as "Table 2"; empty in a file that has none.
        network: The network, such as "ResNet-18"; empty if `name` says all.
        name: The method, such as "RS-Net".
        resolution: Side of the view in pixels, or None.
        macs: Multiply-adds of one image, or None.
        metric: Name of the metric.
        value: Percent; of a change percentage points.
        config: File in configs/ that trains the network, without ".yaml"; empty for other works.
    """

    item: str
    network: str
    name: str
    resolution: int | None
    macs: float | None
    metric: str
    value: float
    config: str

    @property
    def label(self) -> str:
        """Network and method in one."""
        return f"{self.network} {self.name}".strip()


def read_numbers(path: Path = PUBLISHED) -> list[Number]:
    """Read the numbers of a CSV file.

    Raises:
        RunError: If it cannot be read, a column is missing, or a value is not a number.
    """
    try:
        lines = [line for line in read_text(path).splitlines() if not line.startswith("#")]
        return [_number(row) for row in csv.DictReader(lines)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"cannot read {path} as numbers: {error!r}; expected a CSV with the columns name, "
            "metric, value, and resolution or macs"
        ) from error


def _number(row: dict[str, str]) -> Number:
    resolution, macs = row.get("resolution") or None, row.get("macs") or None
    return Number(
        item=row.get("item") or "",
        network=row.get("network") or "",
        name=row["name"],
        resolution=None if resolution is None else int(resolution),
        macs=None if macs is None else 1e6 * float(macs),
        metric=row["metric"],
        value=float(row["value"]),
        config=row.get("config") or "",
    )


def numbers_of(source: str) -> list[Number]:
    """Return the numbers of an item of the paper, or of a CSV file.

    Args:
        source: An item such as "Table 4", or the path of a file.

    Raises:
        RunError: If it is neither, or the file cannot be read.
    """
    published = read_numbers()
    own = [number for number in published if number.item == source]
    if own:
        return own
    if not Path(source).is_file():
        items = ", ".join(dict.fromkeys(number.item for number in published))
        raise RunError(f"{source} is not a file, nor an item of the paper with numbers ({items})")
    return read_numbers(Path(source))


def lines_of(
    numbers: Sequence[Number], metric: str, axis: str
) -> dict[str, list[tuple[float, float]]]:
    """Return the points of each network and method, by their label.

    Args:
        numbers: The numbers.
        metric: Which of them.
        axis: "resolution" (x in pixels) or "macs" (x in 1e9).

    Raises:
        RunError: If none has this metric and a place on the axis.
    """
    lines: dict[str, list[tuple[float, float]]] = {}
    for number in numbers:
        x = number.resolution if axis == "resolution" else number.macs
        if x is not None and number.metric == metric:
            place = x if axis == "resolution" else x / 1e9
            lines.setdefault(number.label, []).append((place, number.value))
    if not lines:
        have = ", ".join(dict.fromkeys(number.metric for number in numbers)) or "none"
        raise RunError(
            f"no point has the metric {metric} and {axis}; the metrics of the points are {have}"
        )
    return {label: sorted(points) for label, points in lines.items()}
