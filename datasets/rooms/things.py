"""Things of the drawn rooms: from their description in rooms.yaml to solids.

A thing is a handful of prisms whose sizes, colours and labels vary, with smaller things on top.
Where things go in a room is decided elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from numpy.random import Generator
from numpy.typing import NDArray

from datasets.rooms.raster import ROUND, Skin, Solid
from datasets.rooms.textures import TEXTURES, VARIANTS

Point = NDArray[np.float64]  # (3,), metres

HERE = Path(__file__).parent
UNLABELLED_THINGS = 0.06  # share of small things without a label
NO_SKIN = Skin(tile=0, span=1, colour=(1, 1, 1), gloss=0, glow=0)
PIECEMEAL = ("book_cover", "books", "clothing")  # materials with a new colour for each part


class Placement(NamedTuple):
    """A thing in the room: middle of its lower side, size (w, h, d), and turn about the y axis."""

    name: str
    base: Point
    size: Point
    yaw: float

    def box(self) -> tuple[Point, Point]:
        """Return the corners with the least and the largest coordinates."""
        s, c = abs(np.sin(self.yaw)), abs(np.cos(self.yaw))
        w, h, d = self.size
        reach = np.array([c * w + s * d, 0, s * w + c * d]) / 2
        return self.base - reach, self.base + reach + [0, h, 0]

    def point(self, x: float, y: float, z: float) -> Point:
        """Return the point in the room at shares of the size, from the left lower back."""
        across, off = (x - 0.5) * self.size[0], (z - 0.5) * self.size[2]
        s, c = np.sin(self.yaw), np.cos(self.yaw)
        x, y, z = c * across + s * off, y * self.size[1], c * off - s * across
        return np.add(self.base, [x, y, z])


@lru_cache(maxsize=1)
def catalogue() -> dict[str, Any]:
    """Return rooms.yaml: materials, things and rooms."""
    content: dict[str, Any] = yaml.safe_load((HERE / "rooms.yaml").read_text(encoding="utf-8"))
    return content


@lru_cache(maxsize=1)
def label_numbers() -> dict[str, int]:
    """Return the number, 1 to 894, of every label of NYU Depth V2."""
    tables = json.loads((HERE.parent / "nyudv2" / "tables.json").read_text(encoding="utf-8"))
    return {name: i for i, name in enumerate(tables["label_names"], start=1)}


def _one_of(names: str, rng: Generator) -> str:
    options = names.split("|")
    return options[int(rng.integers(len(options)))]


def between(value: float | Sequence[float], rng: Generator) -> float:
    """Return a number, or draw one from [least, most]."""
    return rng.uniform(value[0], value[1]) if isinstance(value, Sequence) else float(value)


def times(mean: float, rng: Generator) -> int:
    """Draw a whole number with the given mean: `mean` rounded down or up."""
    return int(mean + rng.random())


def skin_of(names: str, rng: Generator) -> Skin:
    """Draw the surface of something made of one of the materials that | separates."""
    material = catalogue()["materials"][_one_of(names, rng)]
    texture = list(TEXTURES).index(_one_of(material["texture"], rng))
    palette = np.array(material["colours"]) / 255
    colour = palette[rng.integers(len(palette))] * rng.uniform(0.85, 1.1) * rng.normal(1, 0.04, 3)
    red, green, blue = colour.clip(0, 1).tolist()
    return Skin(
        tile=texture * VARIANTS + int(rng.integers(VARIANTS)),
        span=float(material["span"]),
        colour=(red, green, blue),
        gloss=float(material.get("gloss", 0)),
        glow=float(material.get("glow", 0)),
    )


def measure(thing: dict[str, Any], rng: Generator) -> Point:
    """Draw width, height and depth of a thing."""
    return np.array([between(side, rng) for side in thing["size"]])


def build(placement: Placement, rng: Generator) -> list[Solid]:
    """Return the solids of a thing and of the things on it."""
    thing, mirrored = catalogue()["things"][placement.name], rng.random() < 0.5
    has_label = placement.size.max() > 0.8 or rng.random() > UNLABELLED_THINGS
    skins: dict[str, Skin] = {}
    solids = []
    for label, material, *numbers in thing["parts"]:
        options = dict(f"{option} 0".split()[:2] for option in numbers[6:])
        if rng.random() > float(options.get("chance", 1)):
            continue
        if material not in skins or material in PIECEMEAL:
            skins[material] = skin_of(material, rng)
        label_number = label_numbers()[_one_of(label, rng)] if has_label else 0
        solid = _part(placement, numbers[:6], mirrored)._replace(
            label=label_number,
            skin=skins[material],
            sides=ROUND if "round" in options else 4,
            taper=float(options.get("taper", 1)),
        )
        solids.append(solid)
    for height, least, most, names in thing.get("holds", ()):
        for _ in range(times(rng.uniform(least, most), rng)):
            solids += _on_top(placement, height, names[int(rng.integers(len(names)))], rng)
    return solids


def _part(placement: Placement, shares: Sequence[float], mirrored: bool) -> Solid:
    """Return a box in the room from shares of a thing's size, without label and skin."""
    x0, x1, y0, y1, z0, z1 = shares
    if mirrored:
        x0, x1 = 1 - x1, 1 - x0
    centre = placement.point((x0 + x1) / 2, (y0 + y1) / 2, (z0 + z1) / 2).tolist()
    width, height, depth = (placement.size * [x1 - x0, y1 - y0, z1 - z0]).tolist()
    return Solid(
        0, NO_SKIN, (centre[0], centre[1], centre[2]), (width, height, depth), placement.yaw
    )


def _on_top(below: Placement, height: float, name: str, rng: Generator) -> list[Solid]:
    """Return the solids of a small thing on top of another, at a share of its height.

    The list is empty if the other is not wide enough.
    """
    size = measure(catalogue()["things"][name], rng)
    room = 1 - size[[0, 2]] / below.size[[0, 2]]
    if (room < 0).any():
        return []
    x, z = 0.5 + room * rng.uniform(-0.5, 0.5, 2)
    turn = float(rng.normal(0, 0.25))
    return build(Placement(name, below.point(x, height, z), size, below.yaw + turn), rng)
