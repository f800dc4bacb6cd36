"""Writing files whole or not at all.

What is interrupted, or finds the disk full, leaves no half of a file under the name of a whole one.
What has been written outlasts a machine that stops the moment after.
"""

from __future__ import annotations

import errno
import os
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
        move_whole(temporary, path)
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def move_whole(temporary: Path, path: Path) -> None:
    """Move a file to its name in the same folder, for good when this returns.

    The bytes are on the disk before the name is, or the name could outlast a crash without them.

    Raises:
        OSError: If there is no such file, or the disk refuses.
    """
    sync(temporary)
    temporary.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until the bytes of a file, or the names in a folder, are on the disk.

    Raises:
        OSError: If the disk refuses; a file system that cannot be waited for is no error.
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
