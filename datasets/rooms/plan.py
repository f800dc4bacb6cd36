"""Furnish a room: choose its kind, place the camera, and place things where the camera sees them.

Which things a kind of room has stands in rooms.yaml; this file places them: along walls, in the
room, beside each other, never inside one another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator

from datasets.rooms.raster import Camera, Skin, Solid, Vector
from datasets.rooms.shade import Light
from datasets.rooms.things import (
    Placement,
    Point,
    between,
    build,
    catalogue,
    label_numbers,
    measure,
    skin_of,
    times,
)

TRIES = 25  # spots that are tried for a thing before it is left out
WALL_TURNS = (np.pi, np.pi / 2, -np.pi / 2)  # yaw of things at the back, left and right wall


class Plan(NamedTuple):
    """A furnished room: its solids and lights, the camera, width and depth, and its kind."""

    solids: list[Solid]
    lights: list[Light]
    camera: Camera
    room: tuple[float, float]
    scene: str


class Furnisher:
    """Fills one room.

    Args:
        size: Width, height and depth of the room in metres.
        camera: Where it is seen from.
        rng: Source of every choice.

    Attributes:
        solids: The solids of the room so far.
    """

    def __init__(self, size: Vector, camera: Camera, rng: Generator) -> None:
        self.size, self.camera, self.rng = np.array(size), camera, rng
        self.solids: list[Solid] = []
        self._axes = camera.axes()
        # Nothing may stand within arm's reach of the camera.
        eye = np.array([camera.position[0], 0, camera.position[2]])
        self._placements = [Placement("camera", eye, np.array([1.3, size[1], 1.3]), 0.0)]
        self._boxes = np.array([self._placements[0].box()])  # (things, 2, 3)

    def shell(self, floor: str, wall: str) -> None:
        """Build floor, ceiling, walls and skirting."""
        w, h, d = self.size.tolist()
        paint = skin_of(wall, self.rng)
        self._slab("floor", skin_of(floor, self.rng), (w / 2, -0.1, d / 2), (w, 0.2, d))
        ceiling = skin_of("ceiling_paint|ceiling_tiles", self.rng)
        self._slab("ceiling", ceiling, (w / 2, h + 0.1, d / 2), (w, 0.2, d))
        self._slab("wall", paint, (w / 2, h / 2, d + 0.1), (w, h, 0.2))
        self._slab("wall", paint, (w / 2, h / 2, -0.1), (w, h, 0.2))
        accent = paint if self.rng.random() < 0.8 else skin_of(wall, self.rng)
        for x, skin in ((-0.1, paint), (w + 0.1, accent)):
            self._slab("wall", skin, (x, h / 2, d / 2), (0.2, h, d))
        if self.rng.random() < 0.5:
            trim = skin_of("trim", self.rng)
            self._slab("floor trim", trim, (w / 2, 0.05, d), (w, 0.1, 0.04))
            self._slab("floor trim", trim, (0, 0.05, d / 2), (0.04, 0.1, d))
            self._slab("floor trim", trim, (w, 0.05, d / 2), (0.04, 0.1, d))

    def _slab(self, label: str, skin: Skin, centre: Vector, size: Vector) -> None:
        self.solids.append(Solid(label_numbers()[label], skin, centre, size))

    def place(self, name: str) -> bool:
        """Place a thing where it fits and is visible; return False if no such spot is found."""
        thing = catalogue()["things"][name]
        flat = thing.get("at") == "flat"
        for _ in range(TRIES):
            placement = self._spot(name, thing)
            if self._is_visible(placement) and self._fits(placement, flat):
                if not flat:
                    self._placements.append(placement)
                    self._boxes = np.append(self._boxes, [placement.box()], axis=0)
                self.solids += build(placement, self.rng)
                return True
        return False

    def _spot(self, name: str, thing: dict[str, Any]) -> Placement:
        size, at = measure(thing, self.rng), thing.get("at", "wall")
        anchors = [p for p in self._placements if p.name.endswith(thing.get("near", "-"))]
        if anchors:
            anchor = anchors[int(self.rng.integers(len(anchors)))]
            return self._beside(name, size, anchor, at)
        if at == "wall":
            return self._at_wall(name, size, between(thing.get("y", 0), self.rng))
        x, z = self.rng.uniform(0.2, self.size[0] - 0.2), self.rng.uniform(0.8, self.size[2] - 0.2)
        y = self.size[1] - size[1] if at == "ceiling" else 0.0
        yaw = self.rng.integers(4) * np.pi / 2 + self.rng.normal(0, 0.2)
        return Placement(name, np.array([x, y, z]), size, float(yaw))

    def _at_wall(self, name: str, size: Point, height: float) -> Placement:
        yaw = WALL_TURNS[int(self.rng.choice(3, p=(0.5, 0.25, 0.25)))]
        width, _, depth = self.size
        gap = size[2] / 2 + 0.005
        if yaw == np.pi:
            base = [self.rng.uniform(0, width), height, depth - gap]
        else:
            base = [gap if yaw > 0 else width - gap, height, self.rng.uniform(0.5, depth)]
        return Placement(name, np.array(base), size, yaw)

    def _beside(self, name: str, size: Point, anchor: Placement, at: str) -> Placement:
        """Return a place at the same wall, left or right, or around and facing the anchor."""
        if at == "wall":
            gap = (anchor.size[0] + size[0]) / 2 + 0.06
            across = gap * self.rng.choice((-1, 1)) / anchor.size[0] + 0.5
            back = size[2] / 2 / anchor.size[2]
            return Placement(name, anchor.point(across, 0, back), size, anchor.yaw)
        side = int(self.rng.integers(4))
        turn = side * np.pi / 2
        slide = self.rng.uniform(-0.3, 0.3)
        reach = 0.5 + (size[2] / 2 + self.rng.uniform(-0.1, 0.15)) / anchor.size[2 - side % 2 * 2]
        x, z = [(slide, -reach), (-reach, slide), (slide, reach), (reach, slide)][side]
        base = anchor.point(0.5 + x, 0, 0.5 + z)
        base[1] = 0
        return Placement(name, base, size, anchor.yaw + turn + float(self.rng.normal(0, 0.15)))

    def _fits(self, placement: Placement, flat: bool) -> bool:
        """Return whether a thing is inside the room and, unless flat, overlaps no other."""
        low, high = placement.box()
        if (low < -0.001).any() or (high > self.size + 0.001).any():
            return False
        hits = (low < self._boxes[:, 1]) & (self._boxes[:, 0] < high)
        return flat or not hits.all(axis=1).any()

    def _is_visible(self, placement: Placement) -> bool:
        middle = placement.point(0.5, 0.5, 0.5)
        x, y, z = self._axes @ (middle - self.camera.position)
        reach = 0.5 / self.camera.focal
        # What is tall and near would hide the room.
        least = 1.5 if placement.size[1] > 1.5 else 0.7
        return bool(z > least and abs(x) < 0.95 * reach * z and abs(y) < 1.1 * 0.75 * reach * z)


def _camera(width: float, depth: float, rng: Generator) -> Camera:
    """Draw a camera near the front wall or in a front corner that looks to the back, a bit down."""
    x = rng.uniform(0.12, 0.88) * width
    aim = rng.uniform(0.25, 0.75) * width
    yaw = np.arctan2(aim - x, depth - 0.3)
    return Camera(
        position=(float(x), float(rng.uniform(1.25, 1.65)), float(rng.uniform(0.15, 0.5))),
        yaw=float(yaw + rng.normal(0, 0.1)),
        pitch=float(np.radians(rng.uniform(2, 22))),
        roll=float(np.radians(rng.normal(0, 1.5))),
    )


def _lights(solids: Sequence[Solid], size: Vector, rng: Generator) -> list[Light]:
    """Return the light of the room, and of at most two things that glow."""
    width, height, depth = size
    place = (rng.uniform(0.2, 0.8) * width, height - 0.25, rng.uniform(0.1, 0.7) * depth)
    warm = rng.uniform(0.75, 1.0)
    strength = rng.uniform(0.9, 1.7)
    lights = [Light(place, (strength, strength * (1 + warm) / 2, strength * warm))]
    glowing = [s for s in solids if s.skin.glow >= 0.7]
    for solid in glowing[:2]:
        inwards = np.array([width / 2, height / 2, depth / 2]) - solid.centre
        away = np.array(solid.centre) + 0.3 * inwards / (np.linalg.norm(inwards) + 1e-6)
        red, green, blue = (np.array(solid.skin.colour) * 0.7 * solid.skin.glow).tolist()
        lights.append(Light(tuple(away.tolist()), (red, green, blue)))
    return lights


def plan_room(rng: Generator) -> Plan:
    """Draw a room with its furniture, lights and camera."""
    rooms = catalogue()["rooms"]
    shares = np.array([room["share"] for room in rooms.values()], float)
    scene = str(rng.choice(list(rooms), p=shares / shares.sum()))
    room = rooms[scene]
    width, depth = between(room["width"], rng), between(room["depth"], rng)
    size = (width, float(rng.uniform(2.3, 2.65)), depth)
    camera = _camera(width, depth, rng)
    furnisher = Furnisher(size, camera, rng)
    furnisher.shell(room["floor"], room["wall"])
    for name, mean in room["things"].items():
        for _ in range(times(mean, rng)):
            furnisher.place(name)
    return Plan(furnisher.solids, _lights(furnisher.solids, size, rng), camera, size[::2], scene)
