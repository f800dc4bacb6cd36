"""A file that HDF5 writes to and that records errors of writing, above all a full disk.

HDF5 alone cannot close a file that it cannot write, and h5py prints a traceback for every object
that is then still open.
"""

from __future__ import annotations

import io

from typing_extensions import Buffer  # of collections.abc from Python 3.12 on; torch needs it too


class HDF5Output(io.FileIO):
    """A file for `h5py.File(output, "w")`, opened with "w+"; call `check` now and then.

    Attributes:
        failure: The first error of writing; what is written after it is lost.
    """

    failure: OSError | None = None

    def write(self, content: Buffer, /) -> int:
        """Write all of the content, or record the error."""
        rest = memoryview(content).cast("B")
        try:
            while rest and not self.failure:
                rest = rest[super().write(rest) or 0 :]
        except OSError as error:
            self.failure = error
        return memoryview(content).nbytes

    def truncate(self, size: int | None = None, /) -> int:
        """Set the size of the file, or record the error."""
        try:
            return super().truncate(size)
        except OSError as error:
            self.failure = self.failure or error
            return size or 0

    def check(self) -> None:
        """Raise the first error of writing, an OSError, if there was one."""
        if self.failure:
            raise self.failure
