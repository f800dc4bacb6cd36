"""Figures of matplotlib: their format is checked at the door, their file is written whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from rsseg.common.files import check_output, write_csv, written_whole


def check_figure(path: Path, *, overwrite: bool = False, numbers: bool = False) -> None:
    """Check that a figure can be written later.

    Args:
        path: The file.
        overwrite: Whether the user allows to write over a file.
        numbers: Whether its numbers are written beside it, see `save_with_numbers`.

    Raises:
        ValueError: If matplotlib cannot write its format, or as `check_output` says.
    """
    kinds = Figure().canvas.get_supported_filetypes()
    if _format(path) not in kinds:
        raise ValueError(f"{path} must end in one of .{', .'.join(sorted(kinds))}")
    check_output(path, overwrite=overwrite)
    if numbers:
        check_output(path.with_suffix(".csv"), overwrite=overwrite)


def save_figure(figure: Figure, path: Path, dpi: int = 110) -> None:
    """Write a figure, whole or not at all, in the format of the suffix of `path`, or as PNG.

    Args:
        figure: A figure of matplotlib.
        path: The file, see `check_figure`.
        dpi: Dots per inch.

    Raises:
        OSError: If the file cannot be written.
    """
    with written_whole(path) as temporary:
        figure.savefig(temporary, dpi=dpi, format=_format(path))


def save_with_numbers(figure: Figure, path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write a figure, and what it shows as CSV beside it; return the path of the CSV.

    Raises:
        OSError: If a file cannot be written.
    """
    numbers = path.with_suffix(".csv")
    write_csv(numbers, rows)
    save_figure(figure, path)
    return numbers


def _format(path: Path) -> str:
    return path.suffix[1:].lower() or "png"
