"""Reading files to a limit, and writing them whole or not at all.

What is interrupted, or finds the disk full, leaves no half of a file under the name of a whole one.
What has been written outlasts a machine that stops the moment after.
"""

from __future__ import annotations

import csv
import errno
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

LARGEST_TEXT: Final = 2**26  # bytes: a list of a million files, several times


def read_text(path: Path, *, largest: int = LARGEST_TEXT) -> str:
    """Read a UTF-8 text, with or without a mark of its byte order.

    Args:
        path: The file.
        largest: Bytes that it may have; no more are read, so that a device has an end as well.

    Raises:
        ValueError: If it is larger or not UTF-8; the message names the file.
        OSError: If it cannot be read.
    """
    with path.open("rb") as stream:
        content = stream.read(largest + 1)
    if len(content) > largest:
        raise ValueError(f"{path}: more than {largest} bytes, so not the expected text")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error}); convert it") from error


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ValueError: If it is not JSON, or as `read_text` says; the message names the file.
        OSError: If it cannot be read.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # Brackets in brackets without end.
        raise ValueError(f"{path}: not a JSON file ({error}); repair or remove it") from error


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary name for a file, which moves to `path` when the `with` block ends well.

    The temporary file lies in the same folder, is hidden, and has the suffix of `path`, from which
    many writers take the format. After an error or an interruption it is removed, and a file that
    had the name before is kept.

    Raises:
        OSError: If the file cannot be written; names it, which a full disk alone does not.

    Example:
        >>> with written_whole(Path("picture.png")) as temporary:  # doctest: +SKIP
        ...     figure.savefig(temporary)
    """
    temporary = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        yield temporary
        move_whole(temporary, path)
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def move_whole(temporary: Path, path: Path) -> None:
    """Move a file to its name in the same folder, for good when this returns.

    The bytes are on the disk before the name is, or the name could outlast a crash without them.

    Raises:
        OSError: If the file does not exist, or the disk refuses.
    """
    sync(temporary)
    temporary.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until the bytes of a file, or the names in a folder, are on the disk.

    Raises:
        OSError: If the disk refuses; a file system that cannot be waited for is not an error.
    """
    if os.name == "nt":  # There only what is open for writing can be waited for.
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


class RunError(ValueError):
    """A run folder that cannot be used."""


def check_output(path: Path, *, overwrite: bool | None = None, option: str = "--overwrite") -> None:
    """Check that a file can be written later, before the work whose result it will hold.

    Args:
        path: The file.
        overwrite: Whether the user allows to write over a file; None where that is not an option.
        option: How the user allows it.

    Raises:
        ValueError: If it exists and may not be written over, or there is no folder for it.
    """
    if path.exists() and not overwrite:
        remedy = "choose another name" + ("" if overwrite is None else f", or give {option}")
        raise ValueError(f"{path} exists; {remedy}")
    if not path.parent.is_dir():
        raise ValueError(f"there is no folder {path.parent} for {path.name}; make it first")


def write_whole(path: Path, text: str) -> None:
    """Write a text file under a temporary name, then move it to its name."""
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder."""
    return sum(file.stat().st_size for file in (files_below(path) if path.is_dir() else [path]))


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV, with every key that one of them has as a column."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with written_whole(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)


def files_below(base: Path) -> Iterator[Path]:
    """Yield the files below a folder, links followed, hidden ones left out."""
    seen: set[str] = set()
    for folder, folders, files in os.walk(base, followlinks=True):
        if (real := os.path.realpath(folder)) in seen:  # a link back to a folder above
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(files) if not name.startswith("."))
