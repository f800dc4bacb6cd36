"""Look through NYUDv2 in any of its forms, with the faults of its packed files."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from datasets.label_report import SplitReport, reports_of
from datasets.nyudv2.folder import FolderReader
from datasets.nyudv2.reader import open_nyudv2
from datasets.samples import Reader, Split


def check(
    root: Path,
    *,
    crop: str | None = None,
    label_offset: int | None = None,
    void_value: int | None = None,
    classes: int = 40,
) -> dict[Split, SplitReport]:
    """Read every sample of both splits.

    Args:
        root: What open_nyudv2 opens.
        crop: As for open_nyudv2.
        label_offset: As for open_nyudv2.
        void_value: As for open_nyudv2.
        classes: Number of classes.

    Returns:
        The report of each split; faults are in it and are not raised.
    """
    open_split = partial(
        open_nyudv2,
        root,
        crop=crop,
        label_offset=label_offset,
        void_value=void_value,
        classes=classes,
        partial=True,
        packed=False,
    )
    return reports_of(open_split, lambda reader, *_: folder_faults(reader), root)


def folder_faults(reader: Reader) -> list[str]:
    """Return what a folder of NYUDv2 lacks, and what is wrong with its packed files."""
    if not isinstance(reader, FolderReader):
        return []
    missing = [f"{reader.root}: {path} is missing" for path in reader.missing]
    return [*missing, *_packed_faults(reader)]


def _packed_faults(reader: FolderReader) -> Iterator[str]:
    """Compare the packed file of a split, if there is one, with its checksums."""
    try:
        packed = reader.open_packed()
    except (ValueError, OSError) as error:
        yield str(error)
        return
    if packed is None:
        return
    for index in range(len(packed.names)):
        try:
            packed.read(index)
        except (ValueError, OSError) as error:
            yield str(error)
