"""Images in tar files, read at their places without unpacking.

The layouts are those of timm's reader: one tar file of class folders, a folder of tar files, or a
tar file of tar files, one for each class. The class is the last folder before the image's name,
else the name of the tar file that holds it.

timm's own reader is not used: it reads every byte of the archives to list them, writes a pickle
beside them, and keeps an object for each image, which every worker process copies. Here headers
alone are read, and places are three arrays.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from datasets.imagenet.images import LabelledImages
from datasets.imagenet.labels import is_image
from rsseg.images.preprocessing import Image
from rsseg.images.reading import Decoder, decode_image

TAR: Final = ".tar"


@dataclass(frozen=True)
class Members:
    """The members of tar files, by arrays of one entry each.

    Attributes:
        files: The tar files.
        names: Class folder and name of each image, UTF-8, shape (N,).
        file: Index of its tar file, shape (N,).
        offset: Place of its first byte there, shape (N,).
        size: Its bytes, shape (N,).
    """

    files: tuple[Path, ...]
    names: NDArray[np.bytes_]
    file: NDArray[np.int64]
    offset: NDArray[np.int64]
    size: NDArray[np.int64]

    def at(self, index: NDArray[Any]) -> Members:
        """Return the members at some places."""
        arrays = {key: getattr(self, key)[index] for key in ("names", "file", "offset", "size")}
        return replace(self, **arrays)

    @property
    def folders(self) -> list[str]:
        """The class folder of each image."""
        return [name.decode().rpartition("/")[0] for name in self.names]

    @property
    def classes(self) -> tuple[str, ...]:
        """The class folders, sorted."""
        return tuple(sorted(set(self.folders)))

    def read(self, index: int) -> bytes:
        """Read a member.

        Raises:
            OSError: If its tar file cannot be read; names it.
            ValueError: If the file has become shorter.
        """
        path, size = self.files[self.file[index]], int(self.size[index])
        # Opened for each: processes that are forked would share the position of an open file.
        with path.open("rb") as stream:
            stream.seek(int(self.offset[index]))
            content: bytes = stream.read(size)
        if len(content) != size:
            raise ValueError(f"{path}: ends inside {self.names[index].decode()}; copy it anew")
        return content


class PackedImages(LabelledImages):
    """The images of one split inside tar files.

    Args:
        members: Where they are.
        labels: Class of each image, shape (N,), 0..K-1.
        classes: Readable name of each class.
        decoder: See `read_image`.
        layout: How they are kept, for the summary.
    """

    def __init__(
        self,
        members: Members,
        labels: NDArray[np.int64],
        classes: tuple[str, ...],
        *,
        decoder: Decoder,
        layout: str,
    ) -> None:
        super().__init__(labels, classes, layout)
        self._members = members
        self._decoder: Decoder = decoder

    def read(self, index: int) -> Image:
        """Read an image, see `LabelledImages`."""
        path = self._members.files[self._members.file[index]]
        name = f"{path}: {self.name(index)}"
        return decode_image(self._members.read(index), name, decoder=self._decoder)

    def name(self, index: int) -> str:
        """Return class folder and name of an image, as in a tree of folders."""
        return str(self._members.names[index].decode())


def list_tars(path: Path) -> Members:
    """List the images of a tar file, or of a folder of tar files, by class folder and name.

    Raises:
        ValueError: If one is not a tar file, is damaged, or holds an image without a class.
        OSError: If one cannot be read.
    """
    files = tuple(sorted(path.glob(f"*{TAR}"))) if path.is_dir() else (path,)
    stamps = tuple((file.stat().st_size, file.stat().st_mtime_ns) for file in files)
    return _listed(path, files, stamps)


@lru_cache(maxsize=2)  # Opening the test images asks for the classes of the training images again.
def _listed(path: Path, files: tuple[Path, ...], _stamps: tuple[tuple[int, int], ...]) -> Members:
    rows = []
    for number, file in enumerate(files):
        within = file.stem if path.is_dir() else ""
        for name, offset, size in walk_tar(file):
            if is_image(name.rpartition("/")[2]):
                rows.append((_class_and_name(file, within, name), number, offset, size))
    if not rows:
        raise ValueError(f"{path}: no image in {len(files)} tar files; set data.root to others")
    return members_of(files, sorted(rows))


def members_of(files: tuple[Path, ...], rows: list[tuple[str, int, int, int]]) -> Members:
    """Return members from rows of name, index of the file, offset and size."""
    names, *numbers = zip(*rows, strict=True)
    encoded = np.array([name.encode() for name in names], dtype=np.bytes_)
    return Members(files, encoded, *(np.array(column, dtype=np.int64) for column in numbers))


def _class_and_name(file: Path, within: str, name: str) -> str:
    *folders, image = name.split("/")
    folder = folders[-1] if folders else within
    if not folder or folder == ".":
        raise ValueError(
            f"{file}: {name} lies in no folder, so its class is unknown; pack class folders, or "
            "put one tar file for each class into a folder"
        )
    return f"{folder}/{image}"


def walk_tar(path: Path) -> Iterator[tuple[str, int, int]]:
    """Yield name, offset and size of each member of a tar file, and of tar files in it.

    The members of an inner tar file begin with its name, without suffix.

    Raises:
        ValueError: If it is not a tar file (compressed ones are not), or is damaged.
        OSError: If it cannot be read.
    """
    try:
        with tarfile.open(path, "r:") as outer:
            for member in outer:
                if not member.isfile():
                    continue
                if not member.name.endswith(TAR):
                    yield member.name, member.offset_data, member.size
                    continue
                with tarfile.open(fileobj=outer.extractfile(member), mode="r:") as inner:
                    for one in inner:
                        name = f"{member.name.removesuffix(TAR)}/{one.name}"
                        if one.isfile():
                            yield name, member.offset_data + one.offset_data, one.size
                        inner.members = []  # type: ignore[attr-defined] # A million take gigabytes.
                outer.members = []  # type: ignore[attr-defined]
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(
            f"{path}: not a tar file, or damaged ({error}); compressed ones are not read: unpack it"
        ) from error
