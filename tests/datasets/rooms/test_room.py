"""The drawn rooms: what they show, and that labels fit the picture."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets.rooms import room as rooms
from datasets.rooms.raster import Camera, Skin, Solid, Vector, faces_of, rasterise
from datasets.rooms.room import Room, draw_room
from datasets.rooms.shade import view_of
from datasets.rooms.textures import TEXTURES
from datasets.rooms.things import catalogue

SIZE = (48, 64)
TABLES: dict[str, Any] = json.loads(
    (Path(rooms.__file__).parents[1] / "nyudv2" / "tables.json").read_text(encoding="utf-8")
)
SKIN = Skin(tile=0, span=1, colour=(1, 1, 1), gloss=0, glow=0)


@pytest.fixture(scope="module")
def many() -> list[Room]:
    return [draw_room(seed, SIZE) for seed in range(130)]


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
