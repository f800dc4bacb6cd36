"""Reading text files that others wrote: at most so much of them, and every fault with its file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

LARGEST_TEXT: Final = 2**26  # bytes: a list of a million files, several times


def read_text(path: Path, *, largest: int = LARGEST_TEXT) -> str:
    """Read a UTF-8 text, with or without a mark of its byte order.

    Args:
        path: The file.
        largest: Bytes that it may have; no more are read, so that a device has an end as well.

    Raises:
        ValueError: If it is larger or no UTF-8; names the file.
        OSError: If it cannot be read.
    """
    with path.open("rb") as stream:
        content = stream.read(largest + 1)
    if len(content) > largest:
        raise ValueError(f"{path}: more than {largest} bytes, so not the text that is expected")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error}); convert it") from error


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ValueError: If it is no JSON, or as `read_text` says; names the file.
        OSError: If it cannot be read.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # Brackets in brackets without end.
        raise ValueError(f"{path}: not a JSON file ({error}); repair or remove it") from error
