"""Surfaces of the drawn rooms: small tiles of wood, carpet, books, blinds and their like.

A tile is multiplied by the colour of a face, so most are close to white. All tiles are computed
once, from a fixed seed; what differs from room to room is which variant and colour is chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

SIDE = 64  # texels
VARIANTS = 4  # of each texture

Floats = NDArray[np.float32]


def floats(values: ArrayLike) -> Floats:
    """Return values as an array of float32."""
    return np.asarray(values, np.float32)


def smooth_noise(rng: Generator, cells: tuple[int, int], size: tuple[int, int]) -> Floats:
    """Draw noise in 0..1 that varies over `cells` (rows, columns), shape `size`."""
    noise = rng.random(cells, np.float32)
    return floats(cv2.resize(noise, size[::-1], interpolation=cv2.INTER_CUBIC))


def _noise(rng: Generator, rows: int, columns: int) -> Floats:
    return smooth_noise(rng, (rows, columns), (SIDE, SIDE))


def _grid() -> tuple[Floats, Floats]:
    """Return x to the right and y downwards, 0..1, shapes (1, SIDE) and (SIDE, 1)."""
    steps = floats(np.arange(SIDE) / SIDE)
    return steps[None], steps[:, None]


def _grey(value: ArrayLike) -> Floats:
    return np.repeat(floats(value)[..., None], 3, axis=2)


def _plain(rng: Generator) -> Floats:
    return _grey(0.95 + 0.08 * _noise(rng, 6, 6))


def _wood(rng: Generator) -> Floats:
    return _grey(0.72 + 0.3 * _noise(rng, 22, 2) + 0.08 * _noise(rng, 60, 4))


def _planks(rng: Generator) -> Floats:
    tile = 0.75 + 0.25 * _noise(rng, 30, 3) + np.repeat(rng.uniform(-0.15, 0.1, 4), 16)[:, None]
    tile[::16] -= 0.3
    tile[:, 0] -= 0.15
    return _grey(tile.astype(np.float32))


def _carpet(rng: Generator) -> Floats:
    return _grey(0.75 + 0.15 * _noise(rng, 5, 5) + 0.25 * rng.random((SIDE, SIDE), np.float32))


def _tiles(rng: Generator) -> Floats:
    tile = 0.85 + 0.15 * _noise(rng, 4, 4)
    for start in (0, 1, 32, 33):
        tile[start] = tile[:, start] = 0.6
    return _grey(tile)


def _marble(rng: Generator) -> Floats:
    return _grey(0.6 + 0.3 * _noise(rng, 9, 9) + 0.3 * rng.random((SIDE, SIDE), np.float32) ** 2)


def _fabric(rng: Generator) -> Floats:
    x, y = _grid()
    return _grey(0.8 + 0.08 * np.sin(100 * x) * np.sin(100 * y) + 0.2 * _noise(rng, 7, 7))


def _quilt(rng: Generator) -> Floats:
    cells = 0.55 + 0.45 * rng.random((8, 8, 3), np.float32)
    cells[rng.random((8, 8)) < 0.5] = 1
    patches = cells.repeat(8, 0).repeat(8, 1)
    return patches * (0.8 + 0.25 * _grey(_noise(rng, 6, 6)))


def _stripes(rng: Generator) -> Floats:
    columns = np.ones((16, 3), np.float32)
    columns[::2] = rng.uniform(0.7, 0.95, 3)
    return np.broadcast_to(columns.repeat(4, 0), (SIDE, SIDE, 3)).copy()


def _checks(rng: Generator) -> Floats:
    return (0.15 + 0.85 * rng.random((4, 4, 3), np.float32)).repeat(16, 0).repeat(16, 1)


def _folds(rng: Generator) -> Floats:
    x, y = _grid()
    waves = np.sin(2 * np.pi * (4 * x + 0.06 * y) + 3 * rng.random())
    return _grey((0.75 + 0.25 * waves).astype(np.float32))


def _slats(rng: Generator) -> Floats:
    _, y = _grid()
    ramp = rng.uniform(0.5, 0.6) + 0.45 * (y * 12 % 1)
    return _grey(floats(np.repeat(ramp, SIDE, axis=1)))


def _books(rng: Generator) -> Floats:
    tile = np.full((SIDE, SIDE, 3), 0.12, np.float32)
    left = 0
    while left < SIDE:
        width, top = int(rng.integers(3, 8)), int(rng.integers(2, 20))
        tile[top:, left : left + width - 1] = 0.15 + 0.8 * rng.random(3)
        tile[top + 8 : top + 12, left : left + width - 1] *= 1.3
        left += width
    return tile


def _scenery(rng: Generator) -> Floats:
    colours = 0.3 + 0.5 * rng.random((4, 4, 1)) + 0.15 * rng.standard_normal((4, 4, 3))
    tile = cv2.resize(colours.clip(0.1, 0.95).astype(np.float32), (SIDE, SIDE))
    return floats(tile * (0.7 + 0.4 * _grey(_noise(rng, 20, 20))))


def _view(rng: Generator) -> Floats:
    """Sky over trees behind the bars of a window."""
    _, y = _grid()
    trees = y + 0.25 * _noise(rng, 5, 7) > rng.uniform(0.6, 1.0)
    green = _grey(_noise(rng, 16, 16)) * floats([0.5, 0.65, 0.4]) + 0.15
    tile = np.where(trees[..., None], green, floats([0.85, 0.95, 1.0])).astype(np.float32)
    for bar in (slice(0, 3), slice(31, 33), slice(61, 64)):
        tile[bar] = tile[:, bar] = 0.8
    return tile


def _text(rng: Generator) -> Floats:
    tile = np.ones((SIDE, SIDE, 3), np.float32)
    for row in range(6, 58, 6):
        start, stop = rng.integers(4, 20), rng.integers(30, 60)
        tile[row : row + 2, start:stop] = 0.35 + 0.2 * rng.random(3)
    return tile


def _scribble(rng: Generator) -> Floats:
    tile = np.ones((SIDE, SIDE, 3), np.float32)
    for _ in range(6):
        points = rng.integers(6, 58, (5, 1, 2)).astype(np.int32)
        colour = (0.7 * rng.random(3)).tolist()
        cv2.polylines(tile, [points], False, colour, 1)
    return tile


def _screen(rng: Generator) -> Floats:
    x, y = _grid()
    return _grey(0.5 + 0.5 * (x + y > rng.uniform(0.7, 1.3)) + 0.2 * _noise(rng, 3, 3))


def _panels(rng: Generator) -> Floats:
    tile = 0.8 + 0.2 * _noise(rng, 3, 20)
    cv2.rectangle(tile, (0, 0), (SIDE - 1, SIDE - 1), 0.35, 2)
    cv2.rectangle(tile, (10, 10), (SIDE - 11, SIDE - 11), 0.6, 2)
    cv2.rectangle(tile, (54, 26), (57, 38), 0.25, -1)
    return _grey(tile)


def _drawers(rng: Generator) -> Floats:
    tile = 0.8 + 0.2 * _noise(rng, 30, 3)
    for top in (0, 21, 42):
        cv2.rectangle(tile, (0, top), (SIDE - 1, top + 20), 0.4, 1)
        for middle in (16, 48):
            cv2.circle(tile, (middle, top + 10), 2, 0.2, -1)
    return _grey(tile)


def _leaves(rng: Generator) -> Floats:
    return _grey(0.35 + 0.8 * _noise(rng, 14, 14))


def _brushed(rng: Generator) -> Floats:
    tile = 0.85 + 0.15 * _noise(rng, 2, 40)
    tile[20:22] = 0.3
    tile[8:18, 5:8] = tile[26:44, 5:8] = 0.45
    return _grey(tile)


def _mirror(rng: Generator) -> Floats:
    x, y = _grid()
    slope = 0.75 + 0.3 * np.sin(5 * (x + y) + 6 * rng.random()) * (x - 0.3)
    blur = cv2.resize(rng.random((3, 3, 3), np.float32), (SIDE, SIDE))
    return floats(_grey(floats(slope)) + 0.15 * blur)


def _mess(rng: Generator) -> Floats:
    tile = np.full((SIDE, SIDE, 3), 0.2, np.float32)
    for _ in range(40):
        x, y = rng.integers(0, SIDE, 2)
        width, height = rng.integers(5, 16, 2)
        tile[y : y + height, x : x + width] = 0.1 + 0.85 * rng.random(3)
    return tile


TEXTURES: dict[str, Callable[[Generator], Floats]] = {
    "plain": _plain,
    "wood": _wood,
    "planks": _planks,
    "carpet": _carpet,
    "tiles": _tiles,
    "marble": _marble,
    "fabric": _fabric,
    "quilt": _quilt,
    "stripes": _stripes,
    "checks": _checks,
    "folds": _folds,
    "slats": _slats,
    "books": _books,
    "scenery": _scenery,
    "view": _view,
    "text": _text,
    "scribble": _scribble,
    "screen": _screen,
    "panels": _panels,
    "drawers": _drawers,
    "leaves": _leaves,
    "brushed": _brushed,
    "mirror": _mirror,
    "mess": _mess,
}


@lru_cache(maxsize=1)
def texture_means() -> Floats:
    """Return the mean colour of every tile, shape (textures * VARIANTS, 3)."""
    return floats(texture_tiles().mean((1, 2)))


@lru_cache(maxsize=1)
def texture_tiles() -> Floats:
    """Return all tiles, RGB 0..1; variant v of texture number t is tile t * VARIANTS + v.

    Returns:
        The tiles, shape (textures * VARIANTS, SIDE, SIDE, 3). Shared: not to be written to.
    """
    rng = np.random.default_rng(40)  # Any seed would do, but it has to stay.
    tiles = np.stack([draw(rng) for draw in TEXTURES.values() for _ in range(VARIANTS)])
    tiles.flags.writeable = False
    return tiles
