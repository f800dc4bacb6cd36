"""Writing files whole or not at all.

What is interrupted, or finds the disk full, leaves no half of a file under the name of a whole one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a temporary name for a file, which moves to `path` when the `with` block ends well.

    The temporary file lies in the same folder, is hidden, and has the suffix of `path`, from which
    many writers take the format. After an error or an interruption it is removed, and a file that
    had the name before is kept.

    Raises:
        OSError: If the file cannot be written, with its name; a full disk alone tells none.

    Example:
        >>> with written_whole(Path("picture.png")) as temporary:  # doctest: +SKIP
        ...     figure.savefig(temporary)
    """
    temporary = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
