"""Files in the layout of the official .mat file: frames with labels that exist, or the file named.

HDF5 keeps an open file in mind by its place on the disk: each damaged file has a name of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given

from datasets.nyudv2.reader import open_nyudv2
from datasets.samples import Sample
from tests.helpers.hostile import Edit, answer, attempts, damaged, edits

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (3, 3, 7, 5), dtype=np.uint8)
LABELS = RNG.integers(0, 895, (3, 7, 5), dtype=np.uint16)
SPLIT = {"rsseg_train": np.arange(1, 3), "rsseg_test": np.array([3])}
NUMBERS: Iterator[int] = itertools.count()


def write(path: Path, fill: Callable[[h5py.File], object], **options: Any) -> Path:
    """Write a valid file, and what is to be wrong with it in place of what it has."""
    with h5py.File(path, "w", **options) as file:
        fill(file)
        for name, values in {"images": IMAGES, "labels": LABELS, **SPLIT}.items():
            if name not in file:
                file[name] = values
    return path


def packed(file: h5py.File) -> None:
    file.create_dataset("images", data=IMAGES, chunks=(1, 3, 7, 5), compression="gzip")
    file.create_dataset("labels", data=LABELS, chunks=(1, 7, 5), compression="gzip")


KINDS: dict[str, Callable[[Path], Path]] = {
    "plain": lambda path: write(path, lambda file: None),
    "packed": lambda path: write(path, packed),
    "newer": lambda path: write(path, lambda file: None, libver="latest"),
    "newer and packed": lambda path: write(path, packed, libver="latest"),
    "behind a block of the user's, as MATLAB writes": lambda path: write(
        path, packed, userblock_size=512
    ),
}


def samples(path: Path) -> list[Sample]:
    return [sample for split in ("train", "test") for sample in open_nyudv2(path, split)]


@pytest.mark.parametrize("kind", KINDS)
@attempts(120)
@given(changes=edits())
def test_damaged_file_gives_labels_that_exist_or_is_named(
    tmp_path: Path, kind: str, changes: list[Edit]
) -> None:
    whole = KINDS[kind](tmp_path / f"{next(NUMBERS)}.mat")
    path = tmp_path / f"{next(NUMBERS)}.mat"
    path.write_bytes(damaged(whole.read_bytes(), changes))
    for sample in answer(lambda: samples(path), path) or []:
        assert sample.image.shape == (*sample.labels.shape, 3)
        assert ((sample.labels < 40) | (sample.labels == 255)).all()
    for used in (whole, path):
        used.unlink()


def test_flipped_bit_of_packed_frames_is_found(tmp_path: Path) -> None:
    whole = KINDS["packed"](tmp_path / "whole.mat")
    expected = samples(whole)
    with h5py.File(whole) as file:
        chunks = [file[name].id.get_chunk_info(2) for name in ("images", "labels")]
    for chunk, place in itertools.product(chunks, range(0, 60, 3)):
        path = tmp_path / f"{chunk.byte_offset + place}.mat"
        edit = ("flip", chunk.byte_offset + place % chunk.size, b"\3")
        path.write_bytes(damaged(whole.read_bytes(), [edit]))
        for sample in answer(partial(samples, path), path) or []:
            same = expected[int(sample.name) - 1]
            np.testing.assert_array_equal(sample.labels, same.labels)
            np.testing.assert_array_equal(sample.image, same.image)


def absurd(**shapes: tuple[int, ...]) -> Callable[[h5py.File], None]:
    """Claim shapes of any size, of which nothing is written."""

    def fill(file: h5py.File) -> None:
        for name, shape in shapes.items():
            kind = {"images": np.uint8, "labels": np.uint16}.get(name, np.int64)
            chunks = tuple(min(side, 64) for side in shape)
            file.create_dataset(name, shape, kind, chunks=chunks)

    return fill


def holding(**values: Any) -> Callable[[h5py.File], None]:
    def fill(file: h5py.File) -> None:
        for name, value in values.items():
            file[name] = value

    return fill


def groups(name: str) -> Callable[[h5py.File], None]:
    def fill(file: h5py.File) -> None:
        file.create_group(name)

    return fill


def linked(file: h5py.File) -> None:
    file["images"] = h5py.ExternalLink("elsewhere.mat", "/images")


def soft(file: h5py.File) -> None:
    file["images"] = h5py.SoftLink("/nowhere")


def outside(file: h5py.File) -> None:
    file.create_dataset("labels", LABELS.shape, np.uint16, external=[("/dev/zero", 0, 210)])


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout(LABELS.shape, np.uint16)
    layout[:] = h5py.VirtualSource("elsewhere.mat", "labels", LABELS.shape)
    file.create_virtual_dataset("labels", layout)


def one_large_chunk(file: h5py.File) -> None:
    shape = (3, 2**14, 2**14)
    file.create_dataset("labels", shape, np.uint16, chunks=shape, compression="gzip")
    file.create_dataset("images", (3, 3, 2**14, 2**14), np.uint8, chunks=(1, 3, 64, 64))


@pytest.mark.parametrize(
    ("fill", "reason"),
    [
        (absurd(images=(3, 3, 10**6, 10**6), labels=(3, 10**6, 10**6)), "at most 268435456 pixels"),
        (absurd(images=(10**12, 3, 7, 5)), "images of shape"),
        (absurd(labels=(3, 10**6, 10**6)), "labels of shape"),
        (absurd(rsseg_train=(10**12,)), "rsseg_train: 1000000000000 indices for 3 images"),
        (absurd(rsseg_train=(10**6, 10**6)), "rsseg_train: 1000000000000 indices"),
        (one_large_chunk, "at most 268435456 pixels and 1073741824 bytes"),
        (linked, "no dataset images"),
        (soft, "no dataset images"),
        (outside, "no dataset labels"),
        (virtual, "no dataset labels"),
        (groups("labels"), "no dataset labels"),
        (groups("rsseg_train"), "no split is known"),
        (holding(labels=h5py.Empty("u2")), "labels of shape"),
        (holding(labels="text"), "labels of shape"),
        (holding(labels=LABELS.astype(">u2")), "labels >u2"),
        (holding(labels=np.full(LABELS.shape, b"x")), "labels [|]S1"),
        (holding(rsseg_train="one"), "whole numbers in 1..3"),
        (holding(rsseg_train=[np.nan]), "whole numbers in 1..3"),
        (holding(rsseg_train=np.array([2**63], dtype=np.uint64)), "whole numbers in 1..3"),
        (holding(rsseg_train=h5py.Empty("i8")), "rsseg_train"),
    ],
)
def test_absurd_claim_is_named_before_anything_is_read(
    tmp_path: Path, fill: Callable[[h5py.File], object], reason: str
) -> None:
    path = write(tmp_path / "absurd.mat", fill)
    with pytest.raises(ValueError, match=rf"absurd\.mat.*{reason}"):
        samples(path)


def test_label_that_does_not_exist_is_named_with_its_frame(tmp_path: Path) -> None:
    labels = LABELS.copy()
    labels[2, 3, 3] = 895
    path = write(tmp_path / "n.mat", lambda file: file.create_dataset("labels", data=labels))
    with pytest.raises(ValueError, match=r"n\.mat, frame 3: holds the labels \[895\]"):
        samples(path)


def test_file_that_ends_while_it_is_used_is_named(tmp_path: Path) -> None:
    path = KINDS["packed"](tmp_path / "n.mat")
    reader = open_nyudv2(path, "train")
    content = path.read_bytes()
    path.write_bytes(content[:2048] + bytes(len(content) - 2048))
    with pytest.raises(ValueError, match=r"n\.mat, frame 1: unreadable .*fetch it again"):
        _ = reader[0]
