"""The meta.mat of ILSVRC2012's development kit: which class each number of its ground truth means.

The file is of the MATLAB 5 format, of which this reads the little that is needed. The general
reader, scipy.io.loadmat, ends the process with a segmentation fault at some damaged files (scipy
1.17.1: at a single flipped bit), which no `except` can turn into an error that names the file.

An element is a tag, kind and number of bytes, and its content; an array is an element of elements:
flags, shape, name and content.

Sources: the readme of the development kit, ILSVRC2012_devkit_t12; MathWorks, "MAT-File Format",
chapter 1.
"""

from __future__ import annotations

import math
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

_LARGEST: Final = 2**24  # bytes, packed and unpacked
_HEADER: Final = 128  # bytes, the last two of which tell the order of bytes: the low ones first
_ARRAY, _PACKED = 14, 15  # kinds of elements, besides the numbers and characters of:
_WHOLE: Final = {1: "<i1", 2: "<u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 12: "<i8", 13: "<u8"}
_NUMBERS: Final = {**_WHOLE, 7: "<f4", 9: "<f8"}
_CHARACTERS: Final = {1: "ascii", 2: "ascii", 4: "utf-16-le", 16: "utf-8"}
_STRUCT: Final = 2  # class of an array


class _Element(NamedTuple):
    kind: int
    content: bytes


def read_synsets(path: Path) -> dict[int, str]:
    """Read the WordNet ID of each ILSVRC2012_ID from the development kit's meta.mat.

    Only the leaves are classes; the other synsets group them.

    Raises:
        FileNotFoundError: If it is missing.
        ValueError: If it is not that file, or damaged.
        OSError: If it cannot be read.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: missing; the numbers of ILSVRC's ground truth mean nothing without it. Both "
            "lie in ILSVRC2012_devkit_t12/data: copy meta.mat, or give lines of FILE FOLDER"
        )
    with path.open("rb") as stream:
        content = stream.read(_LARGEST + 1)
    try:
        return _leaves(content)
    except Exception as error:  # Damage may show in any step.
        reason = str(error) or type(error).__name__
        raise ValueError(
            f"{path}: not the meta.mat of ILSVRC2012_devkit_t12/data ({reason}); copy it anew"
        ) from error


def _leaves(content: bytes) -> dict[int, str]:
    start = content[:_HEADER]
    if not (start.startswith(b"MATLAB 5.0 ") and start.endswith(b"IM")) or len(content) > _LARGEST:
        raise ValueError(f"expected MATLAB 5.0 in at most {_LARGEST} bytes, the low ones first")
    rows = _rows(_array_named(b"synsets", content[_HEADER:]))
    leaves = [row for row in rows if _number(row[b"num_children"]) == 0]
    numbers = [_number(row[b"ILSVRC2012_ID"]) for row in leaves]
    names = [_text(row[b"WNID"]) for row in leaves]
    if sorted(numbers) != list(range(1, len(leaves) + 1)) or len(set(names)) < len(names):
        raise ValueError("its classes do not have the numbers from 1 on and a name each")
    foreign = [name for name in names if not re.fullmatch(r"n\d+", name, re.ASCII)]
    if foreign:
        raise ValueError(f"{foreign[0][:40]!r} is not a WordNet ID")
    return dict(zip(numbers, names, strict=True))


def _elements(content: bytes) -> Iterator[_Element]:
    """Split bytes into the elements that they are a sequence of."""
    place = 0
    while place < len(content):
        kind, size = struct.unpack_from("<II", content, place)
        start, end = place + 8, place + 8 + size
        place = end if kind == _PACKED else end + -size % 8
        if kind >> 16:  # At most 4 bytes stand in the tag itself, behind a shorter one.
            kind, size = kind & 0xFFFF, kind >> 16
            place, start, end = start, start - 4, start - 4 + size
            if size > 4:
                raise ValueError(f"an element has {size} bytes, where 4 fit")
        if end > len(content):
            raise ValueError("it is cut off")
        yield _Element(kind, content[start:end])


def _array_named(name: bytes, content: bytes) -> list[_Element]:
    """Return the elements of an array at the top level."""
    for element in _elements(content):
        array = element
        if element.kind == _PACKED:
            array = next(_elements(_unpacked(element.content)))
        parts = list(_elements(array.content)) if array.kind == _ARRAY else []
        if len(parts) > 2 and parts[2].content == name:
            return parts
    raise ValueError(f"it has no array {name.decode()}")


def _unpacked(content: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    unpacked = unpacker.decompress(content, _LARGEST)
    if not unpacker.eof:
        raise ValueError(f"it is damaged, or unpacks to more than {_LARGEST} bytes")
    return unpacked


def _rows(parts: list[_Element]) -> list[dict[bytes, _Element]]:
    """Return the fields of each struct of an array of structs."""
    flags, shape, _, length, fields, *values = parts
    if flags.content[0] != _STRUCT:
        raise ValueError("it is not an array of structs")
    size = int(_values(length)[0])
    names = [fields.content[at : at + size] for at in range(0, len(fields.content), size)]
    names = [name.rstrip(b"\0") for name in names]
    count = math.prod(int(side) for side in _values(shape))
    if len(values) != count * len(names) or len(set(names)) < len(names):
        raise ValueError(f"{count} structs of {len(names)} fields have {len(values)} values")
    starts = range(0, len(values), len(names))
    return [dict(zip(names, values[at : at + len(names)], strict=True)) for at in starts]


def _values(element: _Element) -> list[float]:
    values: list[float] = np.frombuffer(element.content, _NUMBERS[element.kind]).tolist()
    return values


def _number(array: _Element) -> int:
    """Read an array of one whole number."""
    _, _, _, content = _elements(array.content)
    (value,) = _values(content)
    if value != int(value):
        raise ValueError(f"{value} is not a whole number")
    return int(value)


def _text(array: _Element) -> str:
    _, _, _, (kind, content) = _elements(array.content)
    return content.decode(_CHARACTERS[kind])
