"""Files that cannot be read: skipped and counted up to a limit, beyond it an error."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple, TypeVar

from rsseg.common.distributed import united
from rsseg.common.messages import counted


class Fault(NamedTuple):
    """A file that could not be read.

    Attributes:
        name: Name of the image.
        reason: What the reader said.
    """

    name: str
    reason: str


T = TypeVar("T")


def read_or_fault(read: Callable[[], T], name: str, limit: int) -> T | Fault:
    """Read something, or return why that failed; with the limit 0 the error is raised."""
    try:
        return read()
    except (ValueError, OSError) as error:
        if not limit:
            raise
        return Fault(name, str(error))


def read_or_next(
    read: Callable[[int], T], name: Callable[[int], str], *, first: int, count: int, limit: int
) -> tuple[T, list[Fault]]:
    """Read a sample, or the next one that can be read; return it with the faults before it.

    Args:
        read: Reads the sample of an index.
        name: Returns the name of the sample of an index.
        first: Index of the sample to read. Every other is as good, and is read again soon.
        count: Number of samples.
        limit: How many samples may be unreadable.

    Raises:
        ValueError: If more than `limit` fail in a row; with the limit 0, the reader's own error.
        OSError: With the limit 0, the reader's own error.
    """
    faults: list[Fault] = []
    for step in range(min(limit + 2, count)):
        index = (first + step) % count
        item = read_or_fault(partial(read, index), name(index), limit)
        if not isinstance(item, Fault):
            return item, faults
        faults.append(item)
    raise ValueError(
        f"{counted(len(faults), 'image')} in a row cannot be read, data.max_unreadable allows "
        f"{limit}; "
        f"the last is {faults[-1].reason}"
    )


class Faults:
    """The faults of one data set.

    Args:
        limit: How many files may be unreadable.

    Attributes:
        reasons: Reason of each fault by the image's name.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.reasons: dict[str, str] = {}

    def add(self, faults: Iterable[Fault]) -> None:
        """Count faults; one image counts once.

        Raises:
            ValueError: If there are more than the limit; names the last file.
        """
        for name, reason in faults:
            self.reasons[name] = reason
            self._check()

    def share(self) -> None:
        """Gather the faults of all processes; every process has to call this.

        Raises:
            ValueError: As `add` does.
        """
        self.reasons.update(united(self.reasons))
        self._check()

    def _check(self) -> None:
        if len(self.reasons) > self.limit:
            raise ValueError(
                f"{counted(len(self.reasons), 'image')} cannot be read, data.max_unreadable allows "
                f"{self.limit}; the last is {list(self.reasons.values())[-1]}"
            )
