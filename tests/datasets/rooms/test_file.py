"""The file of drawn rooms: its layout, what it never overwrites, and its command line."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from datasets.rooms import room as rooms
from datasets.rooms.__main__ import main
from datasets.rooms.room import Room, draw_room, room_seed, write_rooms

SIZE = (48, 64)
TABLES: dict[str, Any] = json.loads(
    (Path(rooms.__file__).parents[1] / "nyudv2" / "tables.json").read_text(encoding="utf-8")
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rooms.mat"
    write_rooms(path, 6, seed=3, size=SIZE)
    return path


def test_file_stores_rooms_with_matlabs_reversed_axes(file: Path) -> None:
    height, width = SIZE
    with h5py.File(file) as stored:
        assert (stored["images"].shape, stored["images"].dtype) == ((6, 3, width, height), np.uint8)
        assert (stored["labels"].shape, stored["labels"].dtype) == ((6, width, height), np.uint16)
        assert stored["depths"].dtype == np.float32
        for i in range(6):
            room = draw_room(room_seed(3, i), SIZE)
            np.testing.assert_array_equal(stored["images"][i].transpose(2, 1, 0), room.image)
            np.testing.assert_array_equal(stored["labels"][i].T, room.labels)
            np.testing.assert_array_equal(stored["depths"][i].T, room.depth)


def test_file_names_the_894_labels_through_references(file: Path) -> None:
    with h5py.File(file) as stored:
        assert stored["names"].shape == (1, 894)
        assert stored["scenes"].shape == (1, 6)
        names = ["".join(map(chr, stored[ref][:].ravel())) for ref in stored["names"][0]]
    assert names == TABLES["label_names"]


def test_every_fifth_room_is_for_testing(file: Path) -> None:
    with h5py.File(file) as stored:
        assert stored["rsseg_test"][:].tolist() == [5]
        assert stored["rsseg_train"][:].tolist() == [1, 2, 3, 4, 6]
        assert stored["rsseg_train"].dtype == np.uint16


def test_the_same_rooms_are_not_written_twice(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(rooms, "draw_room")  # it would be missed
    write_rooms(file, 6, seed=3, size=SIZE)


@pytest.mark.parametrize("other", [{"count": 5}, {"seed": 4}, {"size": (48, 80)}])
def test_other_rooms_do_not_overwrite_a_file(file: Path, other: dict[str, Any]) -> None:
    before = file.read_bytes()
    with pytest.raises(FileExistsError, match="not overwritten"):
        write_rooms(file, **{"count": 6, "seed": 3, "size": SIZE, **other})
    assert file.read_bytes() == before


def test_a_foreign_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(FileExistsError, match="not an HDF5 file"):
        write_rooms(path, 1, size=SIZE)
    assert path.read_text(encoding="utf-8") == "mine"


def test_an_interrupted_run_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(seed: int, size: tuple[int, int]) -> Room:
        raise KeyboardInterrupt

    monkeypatch.setattr(rooms, "draw_room", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_rooms(tmp_path / "rooms.mat", 2, size=SIZE)
    assert list(tmp_path.iterdir()) == []


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="at least 32 pixels, got seed 0 and a size of 16 x 64"):
        draw_room(0, (16, 64))
    with pytest.raises(ValueError, match="seed -1"):
        draw_room(-1, SIZE)
    with pytest.raises(ValueError, match=r"count must be in 1\.\.65535, got 0"):
        write_rooms("unused", 0)


def test_command_line_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new" / "rooms.mat"
    command = [str(path), "--count", "2", "--seed", "1", "--height", "32", "--width", "40"]
    main(command)
    assert "now holds 2 rooms of 40 x 32 pixels, seed 1" in capsys.readouterr().out
    main(command)
    assert "already holds 2 rooms" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*command, "--seed", "2"])
    assert "not overwritten" in capsys.readouterr().err


def test_error_of_writing_is_one_line_and_leaves_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path, limits = tmp_path / "rooms.mat", resource.getrlimit(resource.RLIMIT_FSIZE)
    # A largest size of files stands in for a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        status = main([str(path), "--count", "2", "--height", "60", "--width", "80"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert status == 1
    lines = [line for line in capfd.readouterr().err.splitlines() if "drawing" not in line]
    assert lines == [f"error: cannot write {path}: File too large"]
    assert list(tmp_path.iterdir()) == []


def test_interruption_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(rooms, "draw_room", interrupted)
    assert main([str(tmp_path / "rooms.mat"), "--count", "2"]) == 130
    assert "interrupted; nothing is written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
