"""What a file is: a checkpoint, a packed network, an exported file, or something else.

The answer comes from the first bytes of a file (of an ONNX file from the names of its parts), not
from its suffix, and nothing in it is run. Whether a file is whole, its readers check.

Source of the layouts: https://pytorch.org/docs/stable/notes/serialization.html,
https://huggingface.co/docs/safetensors, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from enum import Enum
from pathlib import Path
from typing import BinaryIO, Final

CHECKPOINT_FORMAT: Final = "rsseg 1"
PACKED_FORMAT: Final = "rsseg packed 1"
FOLDER_FORMAT: Final = "rsseg folder 1"
FOLDER_CONFIG, FOLDER_WEIGHTS = "config.json", "model.safetensors"  # names of huggingface_hub
EXPORT_KEY: Final = "rsseg"  # of the description among the metadata of an exported file
OPENVINO_WEIGHTS: Final = "weights.bin"  # of all models in a folder, which are named R.xml


class FileKind(Enum):
    """A kind of file; the value completes the sentence "FILE ..."."""

    MISSING = "is missing"
    FOLDER = "is a folder"
    PRETRAINED = "is a folder of save_pretrained"
    EMPTY = "is empty"
    CHECKPOINT = "is a checkpoint"
    PACKED = "is a packed network"
    EXPORTED = "is an exported file"
    EXECUTORCH = "is an ExecuTorch program (.pte)"
    OPENVINO = "is a folder of OpenVINO models"
    PROGRAM = "is an exported program (.pt2)"
    PUBLISHED = "is a published checkpoint"
    WEIGHTS = "holds tensors or values of another program"
    OTHER_ONNX = "is an ONNX file that `rsseg export` did not write"
    OTHER = "is not an rsseg checkpoint, or is damaged"


CHECKPOINTS: Final = (FileKind.CHECKPOINT, FileKind.PACKED, FileKind.PRETRAINED)
NETWORKS: Final = (*CHECKPOINTS, FileKind.EXPORTED, FileKind.EXECUTORCH, FileKind.OPENVINO)

_START: Final = 2**20  # bytes that are looked at: the names of all tensors, in files of torch
_ZIP, _LEGACY = b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # of torch.save
_LARGEST_HEADER: Final = 100 * 2**20  # bytes, the limit of safetensors
_EXECUTORCH: Final = slice(4, 6), b"ET"  # where flatbuffers name their format, without its version
_GRAPH, _METADATA = 7, 14  # numbers of fields in the ModelProto of ONNX
_VARINT, _EIGHT, _LENGTH, _FOUR = 0, 1, 2, 5  # wire types of protobuf

_TEXT: Final = 4096  # bytes that show whether a file is text
_CONTROLS: Final = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")  # as no text has them
_ZIP_END: Final = (b"PK\x05\x06", 2**16 + 22)  # how the last record begins, and its largest size
_FOREIGN: Final = {  # by their first bytes
    b"\xff\xd8\xff": "a JPEG",
    b"\x89PNG": "a PNG",
    b"GIF8": "a GIF",
    b"II*\x00": "a TIFF",
    b"MM\x00*": "a TIFF",
    b"RIFF": "a RIFF file (WebP, AVI or WAV)",
    b"%PDF": "a PDF",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "an array of numpy (.npy)",
    b"\x1f\x8b": "compressed by gzip",
    b"version https://git-lfs": "a pointer of Git LFS; fetch the file itself with `git lfs pull`",
}


def file_kind(path: Path) -> FileKind:
    """Return what a file is.

    Raises:
        OSError: If it exists and cannot be read.
    """
    if not path.exists():
        return FileKind.MISSING
    if path.is_dir():
        return _folder_kind(path)
    if not path.is_file():  # A pipe or a device has no beginning that can be read twice.
        return FileKind.OTHER
    with path.open("rb") as stream:
        return _content_kind(stream, path.stat().st_size)


def foreign_kind(path: Path) -> str:
    """Return what a file is that no reader of weights could read, empty if that is not known.

    Raises:
        OSError: If it cannot be read.

    Example:
        >>> foreign_kind(Path(__file__))
        'a text file'
    """
    with path.open("rb") as stream:
        start = stream.read(_TEXT)
        if start.startswith(_ZIP):
            mark, length = _ZIP_END
            stream.seek(max(0, path.stat().st_size - length))
            return "" if mark in stream.read() else "cut short"
    names = (name for first, name in _FOREIGN.items() if start.startswith(first))
    return next(names, "a text file" if _is_text(start) else "")


def _is_text(start: bytes) -> bool:
    try:
        start[: _TEXT - 4].decode()
    except UnicodeDecodeError as error:  # The last letter may be cut.
        return error.start >= _TEXT - 8
    return bool(start) and _CONTROLS.search(start) is None


def wrong_kind_message(path: Path, expected: Collection[FileKind]) -> str:
    """Return what a file is and which file to give instead.

    Args:
        path: A file of another kind than expected, or a damaged one.
        expected: Kinds that would do, of `NETWORKS`.

    Example:
        >>> wrong_kind_message(Path("nowhere.pt"), CHECKPOINTS)
        'there is no file nowhere.pt; give a checkpoint (.pt or packed .safetensors)'
    """
    kind = file_kind(path)
    if kind in expected:
        return f"{path} {kind.value}, but is damaged; write it again"
    if kind is FileKind.OTHER and path.suffix == ".onnx":
        return f"{path} is not an ONNX file, or is damaged; export it again"
    is_kind = f"there is no file {path}" if kind is FileKind.MISSING else f"{path} {kind.value}"
    return f"{is_kind}; {_remedy(path, kind, expected)}"


def _remedy(path: Path, kind: FileKind, expected: Collection[FileKind]) -> str:
    if kind is FileKind.PUBLISHED:
        return f"make it a checkpoint with `rsseg import {path} --out NAME.pt`"
    written = (FileKind.EXPORTED, FileKind.EXECUTORCH, FileKind.OPENVINO, FileKind.PROGRAM)
    if kind in written and FileKind.CHECKPOINT in expected:
        return "give the checkpoint (.pt or packed .safetensors) that it was made from"
    kinds = []
    if FileKind.CHECKPOINT in expected:
        kinds.append("a checkpoint (.pt or packed .safetensors)")
    if FileKind.EXPORTED in expected:
        kinds.append("an ONNX file of `rsseg export`")
    if FileKind.EXECUTORCH in expected:
        kinds.append("an ExecuTorch program (.pte)")
    if FileKind.OPENVINO in expected:
        kinds.append("a folder of OpenVINO models")
    *others, last = kinds
    place = f" in it, such as {path / 'last.pt'}" if kind is FileKind.FOLDER else ""
    return f"give {', '.join(others)}{' or ' if others else ''}{last}{place}"


def _content_kind(stream: BinaryIO, size: int) -> FileKind:
    start = stream.read(_START)
    if not start:
        return FileKind.EMPTY
    if start.startswith((_ZIP, _LEGACY)):
        return _torch_kind(start)
    place, mark = _EXECUTORCH
    if start[place] == mark:
        return FileKind.EXECUTORCH
    if _is_safetensors(start):
        packed = f'"format":"{PACKED_FORMAT}"'.encode() in start
        return FileKind.PACKED if packed else FileKind.WEIGHTS
    return _onnx_kind(stream, size)


def _folder_kind(folder: Path) -> FileKind:
    if (folder / OPENVINO_WEIGHTS).is_file() and any(folder.glob("[0-9]*.xml")):
        return FileKind.OPENVINO
    return FileKind.PRETRAINED if _is_pretrained(folder) else FileKind.FOLDER


def _is_pretrained(folder: Path) -> bool:
    """Return whether a folder holds a configuration of ours, and weights of any kind."""
    config = folder / FOLDER_CONFIG
    if not (config.is_file() and (folder / FOLDER_WEIGHTS).is_file()):
        return False
    with config.open("rb") as stream:
        return (
            re.search(rb'"format"\s*:\s*"%b"' % FOLDER_FORMAT.encode(), stream.read(_START))
            is not None
        )


def _torch_kind(start: bytes) -> FileKind:
    # The first record of torch.save is the pickle, whose first entry is the format.
    if CHECKPOINT_FORMAT.encode() in start[:256] and b"data.pkl" in start[:64]:
        return FileKind.CHECKPOINT
    if b".bn_0." in start:
        return FileKind.PUBLISHED
    return FileKind.PROGRAM if b"/data/weights/" in start[:256] else FileKind.WEIGHTS


def _is_safetensors(start: bytes) -> bool:
    """Return whether a file begins with the length of a JSON mapping and its bracket."""
    return start[8:9] == b"{" and 2 <= int.from_bytes(start[:8], "little") <= _LARGEST_HEADER


def _onnx_kind(stream: BinaryIO, size: int) -> FileKind:
    try:
        parts = dict(_parts_of_model(stream, size))
    except ValueError:
        return FileKind.OTHER
    if _GRAPH not in parts:
        return FileKind.OTHER
    return FileKind.EXPORTED if parts.get(_METADATA) else FileKind.OTHER_ONNX


def _parts_of_model(stream: BinaryIO, size: int) -> Iterator[tuple[int, bool]]:
    """Yield the number of each field of a protobuf message, and whether our key has come by then.

    Raises:
        ValueError: If the file is not one message from its beginning to its end.
    """
    has_key = False
    stream.seek(0)
    while stream.tell() < size:
        number, wire = divmod(_varint(stream), 8)
        if wire == _LENGTH:
            length = _varint(stream)
            end = stream.tell() + length
            if number == _METADATA:
                key = EXPORT_KEY.encode()
                has_key |= stream.read(2 + len(key)) == bytes([0x0A, len(key)]) + key
            stream.seek(end)
        elif wire in (_EIGHT, _FOUR):
            stream.seek(8 if wire == _EIGHT else 4, 1)
        elif wire == _VARINT:
            _varint(stream)
        else:
            raise ValueError(f"no wire type {wire}")
        yield number, has_key
    if stream.tell() != size:
        raise ValueError("the last field is cut off")


def _varint(stream: BinaryIO) -> int:
    """Read a whole number of protobuf: seven bits a byte, the lowest first."""
    number = 0
    for shift in range(0, 70, 7):
        (byte,) = stream.read(1) or (0x80,)
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number
    raise ValueError("a number without an end")
