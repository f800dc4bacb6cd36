"""The drawn rooms: what they show, that labels fit the picture, and the file they are in."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from datasets import rooms
from datasets.rooms import Room, draw_room, main, room_seed, write_rooms
from datasets.rooms_raster import Camera, Skin, Solid, Vector, faces_of, rasterise
from datasets.rooms_shade import view_of
from datasets.rooms_textures import TEXTURES
from datasets.rooms_things import catalogue

SIZE = (48, 64)
TABLES: dict[str, Any] = json.loads(
    (Path(rooms.__file__).parent / "nyudv2_tables.json").read_text(encoding="utf-8")
)
SKIN = Skin(tile=0, span=1, colour=(1, 1, 1), gloss=0, glow=0)


@pytest.fixture(scope="module")
def many() -> list[Room]:
    return [draw_room(seed, SIZE) for seed in range(130)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rooms.mat"
    write_rooms(path, 6, seed=3, size=SIZE)
    return path


def to_classes(labels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.array([0, *TABLES["label_to_class"]]).take(labels)


def test_a_seed_gives_the_same_room_again() -> None:
    first, again = draw_room(11, SIZE), draw_room(11, SIZE)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_different_seeds_give_different_rooms(many: list[Room]) -> None:
    assert len({room.labels.tobytes() for room in many}) == len(many)


def test_another_size_shows_the_same_room() -> None:
    small, large = draw_room(5, (60, 80)).labels, draw_room(5, (180, 240)).labels[1::3, 1::3]
    labelled = (small > 0) & (large > 0)
    assert (small == large)[labelled].mean() > 0.9


def test_image_labels_and_depth_have_the_size_asked_for() -> None:
    room = draw_room(0, (40, 70))
    assert [array.shape for array in room[:3]] == [(40, 70, 3), (40, 70), (40, 70)]
    assert [array.dtype for array in room[:3]] == [np.uint8, np.uint16, np.float32]
    assert 0.1 < room.depth.min() <= room.depth.max() < 10


def test_every_class_occurs_and_the_last_three_under_many_labels(many: list[Room]) -> None:
    used = np.unique(np.concatenate([room.labels.ravel() for room in many]))
    assert used.max() <= 894
    classes = Counter(to_classes(used[used > 0]).tolist())
    assert sorted(classes) == list(range(1, 41))
    assert all(classes[c] == 1 for c in range(1, 38))
    assert all(classes[c] >= 5 for c in (38, 39, 40))


def test_shares_of_common_classes_are_near_those_of_the_real_images(many: list[Room]) -> None:
    shares = np.bincount(to_classes(np.stack([r.labels for r in many])).ravel(), minlength=41)
    percent = dict(zip(["void", *TABLES["classes"]], 100 * shares / shares.sum(), strict=True))
    real = {"wall": 21.6, "floor": 9.2, "cabinet": 6.5, "bed": 3.5, "otherprop": 4.6}
    for name, expected in real.items():
        assert 0.6 * expected < percent[name] < 1.6 * expected, name


def test_a_tenth_to_a_fifth_of_the_pixels_is_unlabelled(many: list[Room]) -> None:
    shares = [float((room.labels == 0).mean()) for room in many]
    assert 0.10 < np.mean(shares) < 0.20
    assert min(shares) > 0.08


def test_border_is_white_and_unlabelled_and_4_to_7_pixels_wide() -> None:
    for seed in range(3):
        room = draw_room(seed, (480, 640))
        for side in range(4):
            labels, image = np.rot90(room.labels, side), np.rot90(room.image, side)
            assert (labels[:4] == 0).all()
            assert (image[:4] == 255).all()
            assert (image[8] < 255).any()


def test_floor_lies_below_the_walls_and_the_ceiling_above(many: list[Room]) -> None:
    classes = to_classes(np.stack([room.labels for room in many]))
    floor, wall, ceiling = (np.nonzero(classes == c)[1].mean() for c in (2, 1, 22))
    assert floor > wall + 10
    assert wall > ceiling + 10


def test_windows_are_brighter_than_walls_and_televisions_darker(many: list[Room]) -> None:
    images = np.stack([room.image for room in many])
    classes = to_classes(np.stack([room.labels for room in many]))
    window, wall, television = (images[classes == c].mean() for c in (9, 1, 25))
    assert window > wall + 30
    assert television < wall - 50


def nearest_box(
    origin: np.ndarray[Any, Any], ray: np.ndarray[Any, Any], boxes: list[tuple[Vector, Vector]]
) -> tuple[int, float]:
    """Intersect a ray with axis-aligned boxes (centre, size) by their slabs: index and depth."""
    best, depth = -1, np.inf
    for i, (centre, size) in enumerate(boxes):
        low, high = np.array(centre) - np.array(size) / 2, np.array(centre) + np.array(size) / 2
        near, far = np.sort([(low - origin) / ray, (high - origin) / ray], axis=0)
        if max(near.max(), 0) < far.min() and near.max() < depth:
            best, depth = i, near.max()
    return best, float(depth)


def test_nearer_solids_hide_farther_ones_as_ray_casting_says() -> None:
    rng = np.random.default_rng(0)
    boxes: list[tuple[Vector, Vector]] = [((0, 0, 9), (30, 30, 1))]
    for _ in range(12):
        x, y, z = rng.uniform((-2, -1, 2), (2, 1, 6)).tolist()
        w, h, d = rng.uniform(0.2, 1.5, 3).tolist()
        boxes.append(((x, y, z), (w, h, d)))
    camera = Camera((0.1, 0.3, -0.2), yaw=0.15, pitch=0.1, roll=0.05)
    solids = [Solid(i, SKIN, centre, size) for i, (centre, size) in enumerate(boxes)]
    faces = faces_of(solids)
    index, inverse = rasterise(faces, camera, (30, 40))
    right, down, forward = camera.axes().astype(float)
    focal = camera.focal * 40
    for row in range(30):
        for column in range(40):
            ray = forward + right * (column - 19.5) / focal + down * (row - 14.5) / focal
            solid, depth = nearest_box(np.array(camera.position), ray, boxes)
            assert faces.owner[index[row, column]] == solid
            assert 1 / inverse[row, column] == pytest.approx(depth, rel=1e-4)


def test_pixels_of_a_floor_around_the_camera_lie_on_it() -> None:
    camera = Camera((0.4, 1.5, 0.0), yaw=-0.3, pitch=0.6)
    # The slab reaches behind the camera, so it is cut at the near plane.
    faces = faces_of([Solid(1, SKIN, (0, -0.1, 0), (40, 0.2, 40))])
    index, inverse = rasterise(faces, camera, SIZE)
    points = view_of(index, inverse, camera).points.reshape(*SIZE, 3)
    np.testing.assert_allclose(points[20:, :, 1], 0, atol=1e-4)


def test_the_catalogue_names_only_what_exists() -> None:
    materials, things = catalogue()["materials"], catalogue()["things"]
    for material in materials.values():
        assert set(material["texture"].split("|")) <= set(TEXTURES)
    held = set()
    for name, thing in things.items():
        for label, material, *_ in thing["parts"]:
            assert set(label.split("|")) <= set(TABLES["label_names"]), name
            assert set(material.split("|")) <= set(materials), name
        held |= {top for *_, names in thing.get("holds", ()) for top in names}
    placed = {name for room in catalogue()["rooms"].values() for name in room["things"]}
    assert held | placed == set(things)


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
    with pytest.raises(FileExistsError, match="no HDF5 file"):
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
