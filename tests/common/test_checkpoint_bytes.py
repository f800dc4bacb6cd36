"""No changed byte of a checkpoint is taken for what was saved, and no byte is run."""

from __future__ import annotations

import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rsseg.common.checkpoint import CheckpointError, check_bytes, read_checkpoint, write_checkpoint
from tests.helpers.small_runs import assert_equal

CONTENT: dict[str, Any] = {
    "metadata": {"classes": ["wall", "floor"], "epoch": 3, "chosen": None, "miou": 0.25},
    "net": {"weight": torch.arange(6.0).view(2, 3), "seen": torch.tensor(7)},
    "rng": {"cpu": torch.arange(40, dtype=torch.uint8)},
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that the tests may change."""
    return tmp_path_factory.mktemp("bytes") / "last.pt"


@pytest.fixture(scope="module")
def whole(path: Path) -> bytes:
    """The bytes of a whole checkpoint."""
    write_checkpoint(path, CONTENT)
    return path.read_bytes()


def assert_refused_or_equal(path: Path, content: bytes) -> bool:
    """Check a changed file; tell whether it was refused."""
    path.write_bytes(content)
    try:
        read = read_checkpoint(path)
    except CheckpointError as error:
        message = str(error)
        assert message.startswith(str(path))
        return True
    read.pop("format")
    assert_equal(read, CONTENT)
    return False


# Places and lengths are drawn as shares of the file, so that they fit any.
SHARE = st.floats(0, 1)
LENGTH = st.sampled_from([1, 2, 4, 8, 30, 46, 64, 200])
CHANGE = st.tuples(
    st.sampled_from(["flip", "truncate", "insert", "repeat", "overwrite", "delete", "swap"]),
    *(SHARE, SHARE, LENGTH, st.binary(min_size=1, max_size=64), st.integers(0, 7)),
)


Change = tuple[str, float, float, int, bytes, int]


def changed(content: bytes, change: Change) -> bytes:
    """Change a file in one way."""
    kind, first, second, length, noise, bit = change
    start, other = (int(share * (len(content) - 1)) for share in sorted((first, second)))
    head, tail = content[:start], content[start:]
    block = content[other : other + length]
    if kind == "flip":
        return head + bytes([tail[0] ^ 1 << bit]) + tail[1:]
    if kind == "swap":
        other = max(other, start + length)
        between, behind = content[start + length : other], content[other + length :]
        return head + content[other : other + length] + between + tail[:length] + behind
    if kind == "overwrite":
        return head + block + tail[len(block) :]
    return {
        "truncate": head,
        "insert": head + noise + tail,
        "repeat": head + block + tail,
        "delete": head + tail[length:],
    }[kind]


@settings(deadline=None, max_examples=1500)
@given(changes=st.lists(CHANGE, min_size=1, max_size=3))
def test_changed_file_is_refused_or_holds_what_was_saved(
    path: Path, whole: bytes, changes: list[Change]
) -> None:
    content = whole
    for change in changes:
        content = changed(content, change) if content else content
    assert_refused_or_equal(path, content)


def test_every_changed_byte_of_the_weights_is_noticed(path: Path, whole: bytes) -> None:
    for tensor in (CONTENT["net"]["weight"], CONTENT["rng"]["cpu"]):
        values = tensor.numpy().tobytes()
        start = whole.index(values)
        for place in range(start, start + len(values)):
            assert assert_refused_or_equal(path, changed_at(whole, place, 1))


def changed_at(content: bytes, place: int, mask: int) -> bytes:
    return content[:place] + bytes([content[place] ^ mask]) + content[place + 1 :]


@pytest.mark.slow
def test_every_changed_bit_of_a_file_is_noticed_or_means_nothing(path: Path, whole: bytes) -> None:
    refused = [
        assert_refused_or_equal(path, changed_at(whole, place, 1 << bit))
        for place in range(len(whole))
        for bit in range(8)
    ]
    print(f"{sum(refused)} of {len(refused)} changed bits are refused, the others mean nothing")


def test_weights_marked_as_a_folder_are_refused(path: Path, whole: bytes) -> None:
    # Torch reads such a record without an error, and gives what happens to lie in memory.
    entry = whole.index(b"PK\x01\x02", whole.index(b"data/1", whole.index(b"PK\x01\x02")) - 46)
    attributes = entry + 38
    path.write_bytes(changed_at(whole, attributes, 0x10))
    torch.load(path, weights_only=True)
    with pytest.raises(CheckpointError, match="its records are marked as folders"):
        read_checkpoint(path)


def test_two_files_in_one_are_not_taken_for_the_second(path: Path, whole: bytes) -> None:
    weights = CONTENT["net"]["weight"].numpy().tobytes()
    damaged = changed_at(whole, whole.index(weights) + 1, 1)
    assert assert_refused_or_equal(path, damaged + whole)


class Trap:
    """Unpickled carelessly, it makes a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


def rewritten(source: bytes, path: Path, records: dict[str, bytes], how: int) -> None:
    """Write the records of a checkpoint anew, some of them with another content."""
    path.write_bytes(source)
    with zipfile.ZipFile(path) as archive:
        held = {record.filename: archive.read(record) for record in archive.infolist()}
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, content in held.items():
            archive.writestr(name, records.get(name.partition("/")[2], content))


def test_code_with_right_checksums_is_refused_and_not_run(
    path: Path, whole: bytes, tmp_path: Path
) -> None:
    trap = pickle.dumps({"format": "rsseg 1", "net": Trap(tmp_path / "trace")}, protocol=2)
    rewritten(whole, path, {"data.pkl": trap}, zipfile.ZIP_STORED)
    check_bytes(path)
    with pytest.raises(CheckpointError, match="plain values, and none of it was run"):
        read_checkpoint(path)
    path.write_bytes(trap)
    with pytest.raises(CheckpointError, match=f"{path} is not an rsseg checkpoint, or is damaged"):
        read_checkpoint(path)
    assert list(tmp_path.iterdir()) == []


def test_packed_records_are_refused_unread(
    path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewritten(whole, path, {"data/0": bytes(50_000_000)}, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    monkeypatch.setattr(torch, "load", None)
    monkeypatch.setattr(zipfile.ZipFile, "open", None)
    with pytest.raises(CheckpointError, match="its records are compressed"):
        read_checkpoint(path)


def test_records_larger_than_the_file_are_refused_unread(
    path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewritten(whole, path, {}, zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    sizes = content.index(b"PK\x01\x02") + 20
    content[sizes : sizes + 8] = struct.pack("<II", 2**31, 2**31)
    path.write_bytes(content)
    monkeypatch.setattr(torch, "load", None)
    monkeypatch.setattr(zipfile.ZipFile, "open", None)
    with pytest.raises(CheckpointError, match=r"its records claim 21474\d+ bytes, more than the"):
        read_checkpoint(path)


def test_tensor_larger_than_its_record_is_refused(path: Path, whole: bytes) -> None:
    path.write_bytes(whole)
    with zipfile.ZipFile(path) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("data.pkl"))
        pickled = archive.read(name)
    # A storage of 40 bytes on the CPU, and then one of 2 ** 40 bytes.
    small, large = b"K\x28t", b"\x8a\x06" + (2**40).to_bytes(6, "little") + b"t"
    assert pickled.count(small) == 1
    changed = {"data.pkl": pickled.replace(small, large)}
    rewritten(whole, path, changed, zipfile.ZIP_STORED)
    check_bytes(path)
    with pytest.raises(CheckpointError, match=r"record size .* does not match"):
        read_checkpoint(path)
