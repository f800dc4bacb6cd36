"""Packed files: the same samples, in any process, and an error for every damage."""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from datasets.nyudv2.packed import HEAD, MAGIC, PackedFile, write_packed
from datasets.samples import Reader, Sample
from tests.helpers.processes import forkserver
from tests.helpers.small_reader import SmallReader, noise, noisy_reader

SIZES = ((3, 4), (5, 2), (1, 1))


def odd_reader() -> SmallReader:
    images = [noise(*size, seed) for seed, size in enumerate(SIZES)]
    return SmallReader(images, [np.ascontiguousarray(image[..., 1]) for image in images])


def packed(folder: Path, reader: Reader | None = None) -> PackedFile:
    write_packed(folder / "train.packed", reader or odd_reader(), "state")
    return PackedFile(folder / "train.packed")


def assert_same(first: Sample, second: Sample) -> None:
    assert first.name == second.name
    np.testing.assert_array_equal(first.image, second.image, strict=True)
    np.testing.assert_array_equal(first.labels, second.labels, strict=True)


def test_samples_of_any_size_come_back(tmp_path: Path) -> None:
    file = packed(tmp_path)
    assert (file.names, file.state) == (odd_reader().names, "state")
    for index in (2, 0, 1):
        assert_same(file.read(index), odd_reader().read(index))


def test_layout_is_the_described_one(tmp_path: Path) -> None:
    content = packed(tmp_path).path.read_bytes()
    magic, start, length, checksum = struct.unpack("<8sQQI", content[:28])
    samples = b"".join(s.image.tobytes() + s.labels.tobytes() for s in odd_reader())
    assert (magic, content[28:start]) == (b"RSSEGPK1", samples)
    assert (len(content[start:]), zlib.crc32(content[start:])) == (length, checksum)
    name, height, width, crc = json.loads(content[start:])["samples"][0]
    assert (name, height, width, crc) == ("picture0", 3, 4, zlib.crc32(samples[: 3 * 4 * 4]))


def test_samples_may_be_written_into(tmp_path: Path) -> None:
    file = packed(tmp_path)
    for _ in range(2):
        image, labels, _ = sample = file.read(0)
        assert_same(sample, odd_reader().read(0))
        image[:], labels[:] = 7, 7


class Listed:
    """A packed file as a sequence."""

    def __init__(self, file: PackedFile) -> None:
        self.file = file

    def __len__(self) -> int:
        return len(self.file.names)

    def __getitem__(self, index: int) -> Sample:
        return self.file.read(index)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("context", [get_context("fork"), forkserver()], ids=["fork", "new"])
def test_worker_processes_read_what_the_parent_reads(tmp_path: Path, context: BaseContext) -> None:
    reader = noisy_reader(5, 4, 6)
    file = packed(tmp_path, reader)
    file.read(0)
    loader: DataLoader[Sample] = DataLoader(
        Listed(file),  # type: ignore[arg-type]  # any sequence will do
        num_workers=2,
        multiprocessing_context=context,
    )
    images = torch.cat([batch.image for batch in loader])
    np.testing.assert_array_equal(images, np.stack(reader.images))


Damage = Callable[[bytes], bytes]


@st.composite
def damages(draw: st.DrawFn) -> Damage:
    """Overwrite some bytes, cut the end off, or insert something."""
    place, patch = draw(st.integers(0, 260)), draw(st.binary(min_size=1, max_size=9))
    kinds: list[Damage] = [
        lambda content: content[:place] + patch + content[place + len(patch) :],
        lambda content: content[:place],
        lambda content: content[:place] + patch + content[place:],
    ]
    return kinds[draw(st.integers(0, 2))]


def complaint(path: Path) -> str:
    """Read all samples and compare them; what the error says, if there is one."""
    try:
        file = PackedFile(path)
        assert file.names == odd_reader().names
        for index in range(len(SIZES)):
            assert_same(file.read(index), odd_reader().read(index))
    except ValueError as error:
        return str(error)
    return ""


@settings(deadline=None)
@given(st.lists(damages(), max_size=3))
def test_damaged_file_gives_the_right_samples_or_our_error(
    tmp_path_factory: pytest.TempPathFactory, chain: list[Damage]
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.packed"
    write_packed(path, odd_reader(), "state")
    whole = content = path.read_bytes()
    for damage in chain:
        content = damage(content)
    path.write_bytes(content)
    said = complaint(path)
    assert (said == "") == (content == whole)
    assert not said or (str(path) in said and "remove it" in said)


def test_a_flipped_bit_in_any_byte_is_found(tmp_path: Path) -> None:
    path = packed(tmp_path).path
    whole = path.read_bytes()
    for place in range(len(whole)):
        content = bytearray(whole)
        content[place] ^= 1 << place % 8
        path.write_bytes(content)
        assert complaint(path)


def write_header(path: Path, header: str, **head: int) -> None:
    """Write a packed file of 16 bytes of samples, with any header."""
    text = header.encode()
    facts = {"start": HEAD.size + 16, "length": len(text)} | head
    start, length = facts["start"], facts["length"]
    content = HEAD.pack(MAGIC, start, length, zlib.crc32(text)) + bytes(16) + text
    path.write_bytes(content)


def listing(*rows: Any) -> str:
    return json.dumps({"state": "s", "samples": rows})


@pytest.mark.parametrize(
    "header",
    [
        listing(["a", 2**40, 2**40, 0]),
        listing(["a", 2, 2, 0], ["b", 1, 1, 0]),
        listing(["a", -2, -2, 0]),
        listing(["a", 0, 2, 0], ["a", 2, 2, 0]),
        listing(["a", 2.0, 2, 0]),
        listing(["a", True, 4, 0]),
        listing([7, 2, 2, 0]),
        listing(["a", 2, 2]),
        listing(),
        '{"samples": [["a", 2, 2, 0]]}',
        "nothing",
        "[" * 100_000,
        '{"state": "s", "samples": [["a", 1e999, NaN, 0]]}',
        '{"state": "s", "samples": [["a", ' + "9" * 5000 + ", 1, 0]]}",
    ],
)
def test_absurd_header_is_refused(tmp_path: Path, header: str) -> None:
    write_header(tmp_path / "x.packed", header)
    with pytest.raises(ValueError, match=r"x\.packed: not a packed file, or damaged .*remove it"):
        PackedFile(tmp_path / "x.packed")


@pytest.mark.parametrize("head", [{"start": 2**63}, {"length": 2**62}, {"start": 0, "length": 0}])
def test_absurd_head_is_refused(tmp_path: Path, head: dict[str, int]) -> None:
    write_header(tmp_path / "x.packed", listing(["a", 2, 2, 0]), **head)
    with pytest.raises(ValueError, match=r"not a packed file, or damaged .it has "):
        PackedFile(tmp_path / "x.packed")


def test_header_too_long_for_memory_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.packed"
    path.write_bytes(HEAD.pack(MAGIC, HEAD.size, 2**40, 0))
    os.truncate(path, HEAD.size + 2**40)  # takes no room on the disk
    with pytest.raises(ValueError, match=f"a header of {2**40} bytes"):
        PackedFile(path)


def test_image_too_large_for_memory_is_refused(tmp_path: Path) -> None:
    path, text = tmp_path / "x.packed", listing(["a", 2**15, 2**14, 0]).encode()
    path.write_bytes(HEAD.pack(MAGIC, HEAD.size + 2**31, len(text), zlib.crc32(text)))
    with path.open("ab") as file:
        file.truncate(HEAD.size + 2**31)  # takes no room either
        file.write(text)
    with pytest.raises(ValueError, match="a would have 16384x32768 pixels"):
        PackedFile(path)


def test_file_cut_short_while_it_is_used_is_an_error_and_not_a_crash(tmp_path: Path) -> None:
    file = packed(tmp_path)
    file.read(2)
    os.truncate(file.path, 40)
    with pytest.raises(ValueError, match=r"train\.packed: not a packed file, or damaged"):
        file.read(2)


def test_file_written_anew_while_it_is_used_is_read_anew(tmp_path: Path) -> None:
    file, other = packed(tmp_path), noisy_reader(3, 6, 8)
    file.read(0)
    packed(tmp_path, other)
    assert_same(file.read(0), other.read(0))
    packed(tmp_path, noisy_reader(4, 6, 8))
    with pytest.raises(ValueError, match=r"train\.packed: holds other samples than before"):
        file.read(0)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("damaged"), OSError("gone")])
def test_interruption_and_errors_keep_the_file_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    before, reader = packed(tmp_path).path.read_bytes(), odd_reader()
    monkeypatch.setattr(reader, "read", Mock(side_effect=[reader.read(0), error]))
    with pytest.raises(type(error)):
        packed(tmp_path, reader)
    assert [path.name for path in tmp_path.iterdir()] == ["train.packed"]
    assert (tmp_path / "train.packed").read_bytes() == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_full_disk_names_the_file_and_keeps_the_one_before(tmp_path: Path) -> None:
    before = packed(tmp_path).path.read_bytes()
    (tmp_path / ".train.part.packed").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"cannot write .*train\.packed: No space left"):
        packed(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["train.packed"]
    assert (tmp_path / "train.packed").read_bytes() == before
