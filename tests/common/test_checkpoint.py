"""Checkpoint files: written whole or not at all, and no other file is taken for one."""

from __future__ import annotations

import errno
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rsseg.common.checkpoint import (
    FORMAT,
    CheckpointError,
    differences,
    load_weights,
    read_checkpoint,
    write_checkpoint,
)

CONTENT: dict[str, Any] = {
    "metadata": {"classes": ["wall", "floor"], "epoch": 3, "chosen": None},
    "net": {"weight": torch.arange(6.0).view(2, 3)},
}


def fault(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    return str(caught.value)


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    write_checkpoint(path, CONTENT)
    content = read_checkpoint(path)
    assert torch.equal(content["net"]["weight"], CONTENT["net"]["weight"])
    assert content["metadata"] == CONTENT["metadata"]
    assert content["format"] == FORMAT
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]


@pytest.mark.parametrize(
    "reason",
    [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("unexpected pos 64 vs 0")],
)
def test_write_that_fails_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: Exception
) -> None:
    path = tmp_path / "last.pt"
    write_checkpoint(path, CONTENT)
    old = path.read_bytes()

    def save(content: object, file: Any) -> None:
        file.write(b"half of it")
        raise reason

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(CheckpointError) as caught:
        write_checkpoint(path, {"net": {}})
    message = str(caught.value)
    assert message.startswith(f"cannot write {path}: {reason}")
    assert "MiB free on this disk" in message
    assert message.endswith(f"the one written before is kept: {path}")
    assert path.read_bytes() == old
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("count", [1, 1_000_000])
def test_full_disk_is_named_and_leaves_nothing_behind(tmp_path: Path, count: int) -> None:
    path = tmp_path / "last.pt"
    path.with_name("last.pt.part").symlink_to("/dev/full")
    with pytest.raises(CheckpointError, match=r"cannot write .*last\.pt: ") as caught:
        write_checkpoint(path, {"net": torch.zeros(count)})
    assert "kept" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot write .*gone/last\.pt: .*No such file"):
        write_checkpoint(tmp_path / "gone" / "last.pt", CONTENT)


def test_missing_file_is_named(tmp_path: Path) -> None:
    assert fault(tmp_path / "last.pt") == f"there is no checkpoint {tmp_path / 'last.pt'}"


def test_file_cut_off_anywhere_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    write_checkpoint(path, CONTENT)
    whole = path.read_bytes()
    for length in [0, 1, 10, *range(64, len(whole), len(whole) // 40), len(whole) - 1]:
        path.write_bytes(whole[:length])
        message = fault(path)
        assert message.startswith(f"{path} is not an rsseg checkpoint, or is damaged (")
        assert message.endswith("use another checkpoint of the run, such as previous.pt or best.pt")
        assert "\n" not in message


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=60), st.sampled_from([b"", b"\x80\x02", b"\x80\x04", b"PK\x03\x04"]))
def test_arbitrary_bytes_are_refused_and_never_crash(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, head: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "noise.pt"
    path.write_bytes(head + noise)
    assert str(path) in fault(path)


class Trap:
    """Unpickled carelessly, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("plain", [True, False])
def test_code_in_a_file_is_refused_and_not_run(tmp_path: Path, plain: bool) -> None:
    path, trace = tmp_path / "last.pt", tmp_path / "trace"
    if plain:
        path.write_bytes(pickle.dumps(Trap(trace)))
    else:
        torch.save({"format": FORMAT, "metadata": Trap(trace)}, path)
    assert "is not an rsseg checkpoint, or is damaged" in fault(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("content", "held"),
    [
        ({"state_dict": {}, "epoch": 3}, "['epoch', 'state_dict']"),
        ({"format": "rsseg 0"}, "['format']"),
        (torch.zeros(3), "Tensor"),
    ],
)
def test_file_of_another_format_says_what_it_holds(
    tmp_path: Path, content: object, held: str
) -> None:
    path = tmp_path / "other.pt"
    torch.save(content, path)
    expected = f"{path} is not an rsseg checkpoint (format 'rsseg 1'); it holds {held}"
    assert fault(path) == expected


def test_another_network_is_refused_with_sorted_lists() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4), nn.Linear(4, 1))
    other = nn.Sequential(nn.Linear(2, 3), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 1))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_weights(network, other.state_dict(), "last.pt")
    assert str(caught.value).splitlines() == [
        "last.pt does not fit this Sequential:",
        "  missing: 2.bias, 2.weight",
        "  not in the network: 3.bias, 3.weight",
        "  of another shape: 1.weight (4, 5) instead of (4, 3)",
    ]
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_long_lists_are_sorted_and_cut() -> None:
    network = nn.ModuleDict({letter: nn.Linear(1, 1, bias=False) for letter in "jihgfedcba"})
    (line,) = differences(network, {})
    names = ", ".join(f"{letter}.weight" for letter in "abcdefgh")
    assert line == f"missing: {names} and 2 more"


def test_weights_that_fit_are_loaded() -> None:
    network, other = nn.Linear(2, 3), nn.Linear(2, 3)
    load_weights(network, other.state_dict(), "last.pt")
    assert torch.equal(network.weight, other.weight)
