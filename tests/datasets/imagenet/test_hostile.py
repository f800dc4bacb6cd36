"""ImageNet's lists and the key of its numbers: every image has a class, or the file is named."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.io import loadmat

from datasets.imagenet.labels import read_class_names, read_flat_labels
from datasets.imagenet.synsets import read_synsets
from tests.datasets.imagenet.test_labels import write_meta
from tests.helpers.hostile import Edit, answer, attempts, damaged, edits, instead

FILES = [f"{name}.jpg" for name in "abcd"]
FOLDERS = ("n01", "n02", "n10")
LINES = b"a.jpg n10\nb n01\nc.jpg,n02\nd\tn10\n"


@attempts(200)
@given(edits(), st.sampled_from([FOLDERS, ()]))
@example(instead(b"a n10\nb n01\nc n02\nd " + b"9" * 5000), FOLDERS)
@example(instead(b"a 1\nb 2\nc 0\nd " + b"9" * 5000), FOLDERS)
@example(instead(b"\n".join([b"9" * 5000] * 4)), FOLDERS)
def test_damaged_list_of_labels_names_classes_or_is_named(
    tmp_path: Path, changes: list[Edit], folders: tuple[str, ...]
) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(damaged(LINES, changes))
    read = answer(lambda: read_flat_labels(path, FILES, folders, 3), path)
    if read is not None:
        labels, told = read
        assert (labels.shape, len(told)) == ((4,), 3)
        assert set(labels.tolist()) <= {0, 1, 2}


@attempts(100)
@given(edits())
def test_damaged_names_are_as_many_as_the_classes(tmp_path: Path, changes: list[Edit]) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes(damaged("n01 tench\nn02 tête\nn10 ray\n".encode(), changes))
    names = answer(lambda: read_class_names(path, FOLDERS), path)
    assert names is None or len(names) == 3


def check_key(path: Path) -> None:
    synsets = answer(lambda: read_synsets(path), path)
    if synsets is not None:
        assert sorted(synsets) == [*range(1, len(synsets) + 1)]
        assert len(set(synsets.values())) == len(synsets)
        assert all(name[0] == "n" and name[1:].isdecimal() for name in synsets.values())


@pytest.mark.parametrize("packed", [False, True])
@attempts(250)
@given(changes=edits())
def test_damaged_key_of_the_numbers_has_them_all_or_is_named(
    tmp_path: Path, packed: bool, changes: list[Edit]
) -> None:
    path = write_meta(tmp_path, "n10", "n01", "n02", packed=packed)
    path.write_bytes(damaged(path.read_bytes(), changes))
    check_key(path)


def test_flipped_bit_of_the_key_does_not_exchange_numbers(tmp_path: Path) -> None:
    path = write_meta(tmp_path, "n10", "n01")
    whole = path.read_bytes()
    for bit in range(8 * 128, 8 * len(whole), 7):
        path.write_bytes(damaged(whole, [("flip", bit // 8, bytes([bit % 8]))]))
        check_key(path)


def test_flipped_bit_of_a_packed_key_changes_nothing_or_is_found(tmp_path: Path) -> None:
    path = write_meta(tmp_path, "n10", "n01", packed=True)
    whole = path.read_bytes()
    for place in range(128, len(whole)):
        path.write_bytes(damaged(whole, [("flip", place, bytes([place % 8]))]))
        assert answer(lambda: read_synsets(path), path) in (None, {1: "n10", 2: "n01"})


def test_key_that_unpacks_without_end_is_refused(tmp_path: Path) -> None:
    path = write_meta(tmp_path, "n10")
    bomb = zlib.compress(bytes(2**26), 9)
    path.write_bytes(path.read_bytes()[:128] + struct.pack("<II", 15, len(bomb)) + bomb)
    with pytest.raises(ValueError, match=r"meta\.mat: .*unpacks to more than 16777216 bytes"):
        read_synsets(path)
    os.truncate(path, 2**40)  # takes no room on the disk
    with pytest.raises(ValueError, match="in at most 16777216 bytes"):
        read_synsets(path)


@pytest.mark.parametrize("packed", [False, True])
def test_key_that_is_cut_off_says_so(tmp_path: Path, packed: bool) -> None:
    path = write_meta(tmp_path, "n10", packed=packed)
    os.truncate(path, path.stat().st_size - 20)
    with pytest.raises(ValueError, match=r"meta\.mat: .*\(it is cut off\); copy it anew"):
        read_synsets(path)


@pytest.mark.parametrize(
    "wnids", [("n10", "n10"), ("n10", "10"), ("n10", "n\u0664"), ("n10", "n1\n2")]
)
def test_key_with_names_that_are_none_is_refused(tmp_path: Path, wnids: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"meta\.mat: not the meta\.mat"):
        read_synsets(write_meta(tmp_path, *wnids))


def test_key_is_read_as_scipy_reads_it(tmp_path: Path) -> None:
    path = write_meta(tmp_path, *(f"n{number:08}" for number in range(300)), packed=True)
    rows = loadmat(path, squeeze_me=True)["synsets"]
    expected = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in rows[:-1]}
    assert read_synsets(path) == expected
