"""Decoded samples of a split in one file, which reads as fast as memory is copied.

    8 bytes         magic, which names the version too
    20 bytes        start and length of the header (64 bits each), its CRC-32; little endian
    samples         one after the other: image, H * W * 3 bytes RGB, then labels, H * W bytes
    header          JSON: {"state": ..., "samples": [[name, height, width, CRC-32], ...]}

The file copies what other files hold; `state` is a hash of theirs: when it differs, the file is
stale. The file is read by plain reads and not through a memory map: a sample is copied in either
case, since augmentation may write into it, and takes equally long; but a file that is cut short,
or a disk that fails, is then an error and not the end of the process. The checksums find damage,
not malice.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, BinaryIO, Final, NamedTuple

import numpy as np
from tqdm import tqdm

from datasets.samples import Reader, Sample
from rsseg.common.files import written_whole
from rsseg.images.preprocessing import VOID

MAGIC: Final = b"RSSEGPK1"
HEAD: Final = struct.Struct("<8sQQI")
_LONGEST_HEADER: Final = 2**26  # bytes: about a million samples
_LARGEST_IMAGE: Final = 2**28  # pixels: more than Pillow opens
_REMEDY: Final = (
    "remove it: the images beside it are read then, and python -m datasets.nyudv2 prepare writes "
    "it again"
)


class StalePackedError(ValueError):
    """A packed file was made of other files than there are now."""


class _Entry(NamedTuple):
    name: str
    height: int
    width: int
    checksum: int
    start: int


class PackedFile:
    """The samples of a packed file.

    Each process compares a sample with its checksum when it first reads it. No file is kept open,
    so this may be pickled, and read in threads and in worker processes, forked or spawned. A file
    that is written anew meanwhile is read anew, as single images would be.

    Args:
        path: The file.
        classes: Number of classes that its labels may be of.

    Attributes:
        path: The file.
        state: Hash of the files it was made of.
        names: Name of each sample.

    Raises:
        ValueError: If it is not a packed file, or is damaged.
        OSError: If it cannot be read.
    """

    def __init__(self, path: Path, *, classes: int = VOID) -> None:
        self.path, self.classes = path, classes
        with path.open("rb", buffering=0) as file:
            self._load(file)

    def read(self, index: int) -> Sample:
        """Read a sample into arrays of its own; `index` is in 0..len(names) - 1.

        Raises:
            ValueError: If the sample is damaged, or the file holds other samples by now.
            OSError: If the file cannot be read.
        """
        with self.path.open("rb", buffering=0) as file:
            if _stamp(file) != self._stamp:
                self._load_again(file)
            entry = self._entries[index]
            image = np.empty((entry.height, entry.width, 3), dtype=np.uint8)
            labels = np.empty((entry.height, entry.width), dtype=np.uint8)
            file.seek(entry.start)
            whole = all(file.readinto(part.data) == part.nbytes for part in (image, labels))
        sample = Sample(image, labels, entry.name)
        if not whole or (index not in self._checked and _checksum(sample) != entry.checksum):
            raise ValueError(f"{self.path}: {entry.name} is damaged; {_REMEDY}")
        if index not in self._checked and ((labels >= self.classes) & (labels != VOID)).any():
            raise ValueError(
                f"{self.path}: {entry.name} has labels above the {self.classes} classes; {_REMEDY}"
            )
        self._checked.add(index)
        return sample

    def _load(self, file: BinaryIO) -> None:
        self._stamp = _stamp(file)
        try:
            self.state, self._entries = _read_header(file)
        except ValueError as error:
            raise ValueError(
                f"{self.path}: not a packed file, or damaged ({error}); {_REMEDY}"
            ) from error
        self.names = tuple(entry.name for entry in self._entries)
        self._checked: set[int] = set()

    def _load_again(self, file: BinaryIO) -> None:
        names = self.names
        self._load(file)
        if self.names != names:
            raise ValueError(f"{self.path}: holds other samples than before; start again")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_checked": set()}


def write_packed(path: Path, reader: Reader, state: str) -> None:
    """Write all samples of a reader into a packed file, whole or not at all.

    Args:
        path: The file; one of this name is replaced.
        reader: The samples.
        state: Hash of their files, taken before: what changes while they are read makes it stale.

    Raises:
        ValueError: If a sample is faulty.
        OSError: If reading or writing fails.
    """
    with written_whole(path) as temporary, temporary.open("wb") as file:
        file.write(bytes(HEAD.size))
        rows = [
            _append(file, reader.read(index))
            for index in tqdm(range(len(reader)), desc=f"packing {path.stem}", unit="image")
        ]
        header = json.dumps({"state": state, "samples": rows}).encode()
        start = file.tell()
        file.write(header)
        file.seek(0)
        file.write(HEAD.pack(MAGIC, start, len(header), zlib.crc32(header)))


def files_state(root: Path, paths: Iterable[Path], *facts: str) -> str:
    """Hash the names below `root`, sizes and times of files, together with facts about them."""
    digest = hashlib.sha256("".join(f"{fact}\n" for fact in facts).encode())
    for path in paths:
        state = path.stat()
        line = f"{path.relative_to(root).as_posix()} {state.st_size} {state.st_mtime_ns}\n"
        digest.update(line.encode())
    return digest.hexdigest()


def _append(file: IO[bytes], sample: Sample) -> tuple[str, int, int, int]:
    for part in (sample.image, sample.labels):
        file.write(np.ascontiguousarray(part).data)
    height, width = sample.labels.shape
    return sample.name, height, width, _checksum(sample)


def _checksum(sample: Sample) -> int:
    image, labels = (np.ascontiguousarray(part).data for part in (sample.image, sample.labels))
    return zlib.crc32(labels, zlib.crc32(image))


def _stamp(file: BinaryIO) -> tuple[int, int]:
    state = os.fstat(file.fileno())
    return state.st_size, state.st_mtime_ns


def _read_header(file: BinaryIO) -> tuple[str, tuple[_Entry, ...]]:
    """Read the state and the entries; whatever does not fit to the last byte is a ValueError."""
    size = os.fstat(file.fileno()).st_size
    head = file.read(HEAD.size)
    if len(head) < HEAD.size or head[: len(MAGIC)] != MAGIC:
        raise ValueError(f"it begins with {head[: len(MAGIC)]!r}, expected {MAGIC!r}")
    _, start, length, checksum = HEAD.unpack(head)
    if start + length != size or length > _LONGEST_HEADER:
        raise ValueError(
            f"it has {size} bytes, and a header of {length} bytes that begins at {start}"
        )
    file.seek(start)
    text = file.read(length)
    if len(text) < length or zlib.crc32(text) != checksum:
        raise ValueError("its header is damaged")
    state, entries = _parse(text)
    end = entries[-1].start + _bytes(entries[-1]) if entries else HEAD.size
    if end != start:
        raise ValueError(f"its samples end at {end} and its header begins at {start}")
    return state, entries


def _parse(text: bytes) -> tuple[str, tuple[_Entry, ...]]:
    entries: list[_Entry] = []
    start = HEAD.size
    try:
        header = json.loads(text)
        for name, height, width, checksum in header["samples"]:
            entry = _Entry(name, height, width, checksum, start)
            _check_entry(entry)
            entries.append(entry)
            start += _bytes(entry)
        return str(header["state"]), tuple(entries)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"its header does not list samples: {error!r}") from error


def _check_entry(entry: _Entry) -> None:
    # bool is an int to isinstance.
    fits = type(entry.name) is str and all(type(value) is int for value in entry[1:])
    if not (fits and min(entry.height, entry.width) > 0):
        raise ValueError(f"{tuple(entry)} is not a name with height, width and checksum")
    if entry.height * entry.width > _LARGEST_IMAGE:
        raise ValueError(f"{entry.name} would have {entry.width}x{entry.height} pixels")


def _bytes(entry: _Entry) -> int:
    return entry.height * entry.width * 4
