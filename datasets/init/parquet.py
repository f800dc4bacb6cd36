"""What the columns of parquet files hold: images, and classes by name or number."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rsseg.common.messages import listed


class ParquetClasses(NamedTuple):
    """The columns of images and classes.

    Attributes:
        image: Column of the images.
        label: Column of the classes.
        names: Names of the classes, where the files tell them.
        numbers: The numbers that occur, where they do not.
    """

    image: str
    label: str
    names: tuple[str, ...]
    numbers: list[int]


def parquet_classes(files: Sequence[Path]) -> ParquetClasses:
    """Read which columns of parquet files are images and classes.

    Raises:
        ValueError: If there is not one of each.
        ImportError: If pyarrow is not installed.
    """
    try:
        library = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise ImportError(
            "parquet files need pyarrow, which is not installed; pip install 'rsseg[readers]'",
            name="pyarrow",
        ) from error
    schema: Any = library.read_schema(files[0])
    images = [f.name for f in schema if str(f.type).startswith("struct") and "bytes" in str(f.type)]
    labels = [f.name for f in schema if str(f.type).startswith(("int", "uint"))]
    if len(images) != 1 or len(labels) != 1:
        raise ValueError(
            f"parquet: {files[0].name} has {len(images)} columns of images ({listed(images)}) and "
            f"{len(labels)} of whole numbers ({listed(labels)}), expected one of each; write "
            "data.image_key and data.label_key as in configs/own/huggingface.yaml"
        )
    metadata = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    feature = metadata.get("info", {}).get("features", {}).get(labels[0], {})
    names = tuple(feature.get("names", ()))
    numbers: set[int] = set()
    for file in [] if names else files:
        numbers |= {*library.read_table(file, columns=labels)[labels[0]].unique().to_pylist()}
    return ParquetClasses(images[0], labels[0], names, sorted(numbers))
