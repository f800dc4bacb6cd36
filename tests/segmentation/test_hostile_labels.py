"""Labels from anywhere: the right classes, or refused by name; never wrong ones in silence.

Files with checksums are damaged byte by byte and must give the same labels or none; of the others
every value must be a class or void, and each fault that can be seen is named.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as Pictures

from datasets.nyudv2.folder import FolderReader
from datasets.nyudv2.reader import open_nyudv2
from datasets.samples import Sample
from rsseg.segmentation.label_files import read_label_values
from rsseg.segmentation.labels import LabelDecoder, LabelReading
from tests.helpers.hostile import Edit, answer, attempts, damaged, edits, instead
from tests.helpers.small_folder import write_folder

VALUES = np.random.default_rng(0).integers(0, 5, (6, 9), dtype=np.uint8)
WAYS: dict[str, Callable[[Path], None]] = {
    "stored": lambda path: Pictures.fromarray(VALUES).save(path, compress_level=0),
    "packed": lambda path: Pictures.fromarray(VALUES).save(path, compress_level=9),
    "palette": lambda path: coloured(VALUES).save(path, bits=8, compress_level=1),
}


def coloured(values: NDArray[np.uint8]) -> Pictures.Image:
    picture = Pictures.fromarray(values, "P")
    picture.putpalette([value for index in range(256) for value in (index, 7, 255 - index)])
    return picture


@pytest.mark.parametrize("way", WAYS)
@attempts(150)
@given(changes=edits())
def test_damaged_label_file_gives_its_labels_or_none(
    tmp_path: Path, way: str, changes: list[Edit]
) -> None:
    path = tmp_path / "label.png"
    WAYS[way](path)
    path.write_bytes(damaged(path.read_bytes(), changes))
    values = answer(lambda: read_label_values(path), path)
    assert values is None or (values.tobytes() == VALUES.tobytes() and values.shape == (6, 9))


def test_no_flipped_bit_of_a_label_file_is_read_as_another_class(tmp_path: Path) -> None:
    path = tmp_path / "label.png"
    WAYS["stored"](path)
    whole = path.read_bytes()
    for bit in range(8 * len(whole)):
        path.write_bytes(damaged(whole, [("flip", bit // 8, bytes([bit % 8]))]))
        values = answer(lambda: read_label_values(path), path)
        assert values is None or values.tobytes() == VALUES.tobytes()


@attempts(200)
@given(
    st.lists(st.integers(0, 255), min_size=1, max_size=30),
    *(st.integers(1, 255), st.integers(-1, 2), st.sampled_from([0, 255]) | st.integers(-1, 256)),
)
def test_values_become_classes_by_the_reading_or_are_named(
    values: list[int], classes: int, offset: int, void: int
) -> None:
    def decoded() -> list[int]:
        decoder = LabelDecoder(LabelReading(offset=offset, void=(void,)), classes)
        found = decoder.decode(np.array([values], dtype=np.uint8), where="label.png")
        return [int(value) for value in found[0]]

    try:
        LabelDecoder(LabelReading(offset=offset, void=(void,)), classes)
    except ValueError:
        taken = {offset + index for index in range(classes)}
        assert not taken | {void} <= {*range(2**16)} or void in taken
        return
    found = answer(decoded, Path("label.png"))
    fitting = all(value == void or 0 <= value - offset < classes for value in values)
    assert (found is not None) == fitting
    if found is not None:
        assert found == [255 if value == void else value - offset for value in values]


def png(
    width: int, height: int, depth: int, colour: int, content: bytes = b"", *, interlaced: int = 0
) -> bytes:
    """Write a PNG whose header may claim anything."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(content)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (png(60_000, 60_000, 8, 0), "label file of more than"),
        (png(2**31 - 1, 2**31 - 1, 8, 0), "label file of more than"),
        (png(0, 5, 8, 0), "label file"),
        (png(3, 2, 8, 0, b"\0\1\2\3"), "rows are missing"),
        (png(3, 2, 8, 3, b"\0\1\2\3\0\1\2"), "label file"),
        (png(9, 9, 8, 0, bytes(80), interlaced=1), "rows are missing"),
        (png(1, 1, 16, 0, b"\0\0"), "unreadable label file"),
        (png(1, 1, 8, 2, b"\0\0\1\2"), r"holds colours \(1 different, such as \[0, 1, 2\]\)"),
        (png(1, 1, 16, 2, b"\0\0\1\0\1\0\1"), "mode RGB with 16 bits"),
        (png(1, 1, 8, 6, b"\0\1\1\1\7"), "100% of the pixels are transparent"),
        (b"P5 1 1 255\n\0", "this is PPM of mode L"),
    ],
)
def test_label_file_of_another_kind_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "label.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"label\.png.*{reason}"):
        read_label_values(path)


BESIDE = {
    "dataset.json": b'{"label_offset": 0, "void_value": 255}',
    "train.txt": b"b\na\n",
    "classes.txt": b"wall\nfloor\nbed\nsofa\nlamp\n",
}
LABELS = {"a": VALUES, "b": VALUES[::-1]}


def labelled(root: Path) -> Path:
    return root if root.exists() else write_folder(root, np.stack([*LABELS.values()]))


# The pass that brings each pixel of a block of 8x8 pixels, as the PNG specification shows it.
ADAM7 = (
    *("16462646", "77777777", "56565656", "77777777"),
    *("36463646", "77777777", "56565656", "77777777"),
)


def rows_of(values: NDArray[np.uint8], interlaced: int) -> list[bytes]:
    """Give the rows of a PNG without filters, pass by pass."""
    height, width = values.shape
    if not interlaced:
        return [b"\0" + row.tobytes() for row in values]
    order = np.array([[int(number) for number in line] for line in ADAM7])
    order = np.tile(order, (-(-height // 8), -(-width // 8)))[:height, :width]
    rows = [values[y][order[y] == number] for number in range(1, 8) for y in range(height)]
    return [b"\0" + row.tobytes() for row in rows if row.size]


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 4), (9, 17)])
@pytest.mark.parametrize("interlaced", [0, 1])
def test_file_is_read_with_all_its_rows_only(
    tmp_path: Path, size: tuple[int, int], interlaced: int
) -> None:
    path, (height, width) = tmp_path / "label.png", size
    values = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    rows = rows_of(values, interlaced)
    path.write_bytes(png(width, height, 8, 0, b"".join(rows), interlaced=interlaced))
    np.testing.assert_array_equal(read_label_values(path), values)
    path.write_bytes(png(width, height, 8, 0, b"".join(rows)[:-1], interlaced=interlaced))
    with pytest.raises(ValueError, match=r"label\.png: unreadable label file"):
        read_label_values(path)


@pytest.mark.parametrize("name", BESIDE)
@attempts(80)
@given(changes=edits())
@example(instead(b"[" * 100_000))
@example(instead(b'{"void_value": 300, "label_offset": 0}'))
@example(instead(b"\xff\xfe"))
@example(instead(b"a" * 300))
@example(instead(b"../a\n" * 3))
def test_damage_beside_the_labels_is_named_or_leaves_them_right(
    tmp_path: Path, name: str, changes: list[Edit]
) -> None:
    root = labelled(tmp_path / "some_rooms")
    for beside, content in BESIDE.items():
        (root / beside).write_bytes(damaged(content, changes) if beside == name else content)
    for sample in answer(lambda: [*FolderReader(root, "train", classes=5)], root) or []:
        np.testing.assert_array_equal(sample.labels, LABELS[sample.name])


@attempts(60)
@given(st.integers(28, 2**16), st.integers(0, 7))
def test_flipped_bit_of_a_packed_file_is_found(tmp_path: Path, place: int, bit: int) -> None:
    root = labelled(tmp_path / "some_rooms")
    (root / "dataset.json").write_bytes(BESIDE["dataset.json"])
    (root / "train.packed").unlink(missing_ok=True)
    reader = FolderReader(root, "train", classes=5)
    reader.pack()
    path = reader.packed_path
    whole = path.read_bytes()
    path.write_bytes(damaged(whole, [("flip", place % len(whole), bytes([bit]))]))
    with pytest.raises(ValueError, match=r"train\.packed.*remove it"):
        _ = [*FolderReader(root, "train", classes=5)]


class Above(FolderReader):
    """Gives a class that there is not."""

    def read(self, index: int) -> Sample:
        sample = super().read(index)
        return sample._replace(labels=np.full_like(sample.labels, 5))


def test_packed_labels_above_the_classes_are_refused(tmp_path: Path) -> None:
    root = labelled(tmp_path / "rooms")
    (root / "dataset.json").write_bytes(BESIDE["dataset.json"])
    Above(root, "train", classes=5).pack()
    with pytest.raises(ValueError, match=r"train\.packed: a has labels above the 5 classes"):
        _ = open_nyudv2(root, "train", classes=5)[0]
