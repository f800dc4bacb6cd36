"""Solids seen by a pinhole camera: which face does every pixel show, and how far is it.

A room is a list of upright prisms. Every pixel first learns which face it shows; colour, label
and depth are looked up from that one map, so they agree to the pixel. Knows neither light nor
furniture.

World: x to the right, y up, z forward, in metres.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from datasets.rooms.textures import Floats, floats

Vector = tuple[float, float, float]
Integers = NDArray[np.int32]

NEAR = 0.1  # metres in front of the camera where faces are cut off
ROUND = 10  # sides of a round prism, and corners that every face is padded to


class Skin(NamedTuple):
    """Surface of a solid: tile, metres it spans (0: the whole face), colour 0..1, shine, glow."""

    tile: int
    span: float
    colour: Vector
    gloss: float
    glow: float


class Solid(NamedTuple):
    """An upright prism: a box (4 sides) or round (10), its top scaled by `taper`."""

    label: int
    skin: Skin
    centre: Vector
    size: Vector
    yaw: float = 0.0
    sides: int = 4
    taper: float = 1.0


class Camera(NamedTuple):
    """A pinhole camera: position in metres, angles in radians (pitch: downwards)."""

    position: Vector
    yaw: float
    pitch: float
    roll: float = 0.0
    focal: float = 0.81  # in image widths, as the Kinect's

    def axes(self) -> Floats:
        """Return the directions right, down and forward in the world, one per row."""
        sy, cy, sp, cp = *_sin_cos(self.yaw), *_sin_cos(self.pitch)
        sr, cr = _sin_cos(self.roll)
        right, down = np.array([cy, 0, -sy]), np.array([-sy * sp, -cp, -cy * sp])
        forward = [sy * cp, -sp, cy * cp]
        rows = [cr * right + sr * down, cr * down - sr * right, forward]
        return np.array(rows, np.float32)


class Faces(NamedTuple):
    """All faces of all solids, F of them."""

    corners: Floats  # (F, ROUND, 3), the last corner repeated
    normals: Floats  # (F, 3), outwards
    across: Floats  # (F, 3), turns a point into the tile's x
    upwards: Floats  # (F, 3), turns a point into the tile's y
    owner: Integers  # (F,), index of the solid


def _sin_cos(angle: float) -> tuple[float, float]:
    return float(np.sin(angle)), float(np.cos(angle))


def _ring(sides: int) -> Floats:
    turn = 2 * np.pi * (np.arange(sides) + 0.5) / sides
    radius = np.sqrt(0.5) if sides == 4 else 0.5
    return radius * np.stack([np.cos(turn), np.sin(turn)], 1).astype(np.float32)


def _corners(solids: Sequence[Solid], sides: int) -> Floats:
    """Return the faces of prisms with equal sides, shape (P, sides + 2, ROUND, 3)."""
    centre = np.array([s.centre for s in solids], np.float32)[:, None, None]
    size = np.array([s.size for s in solids], np.float32)[:, None]
    yaw = np.array([s.yaw for s in solids], np.float32)[:, None]
    scale = np.array([[1, s.taper] for s in solids], np.float32)[:, :, None]
    ring = _ring(sides)
    x, z = size[..., :1] * scale * ring[:, 0], size[..., 2:] * scale * ring[:, 1]
    y = np.broadcast_to(size[..., 1:2] * floats([[-0.5], [0.5]]), x.shape)
    s, c = np.sin(yaw)[..., None], np.cos(yaw)[..., None]
    rings = np.stack([c * x + s * z, y, c * z - s * x], -1) + centre  # (P, 2, sides, 3)
    low, high = rings[:, 0], rings[:, 1]
    walls = np.stack([low, np.roll(low, -1, 1), np.roll(high, -1, 1), high], 2)
    walls = np.concatenate([walls, np.repeat(walls[:, :, -1:], ROUND - 4, 2)], 2)
    caps = np.concatenate([rings, np.repeat(rings[:, :, -1:], ROUND - sides, 2)], 2)
    return np.concatenate([walls, caps], 1)


def faces_of(solids: Sequence[Solid]) -> Faces:
    """Return the faces of all solids, boxes first."""
    corners, owner = [], []
    for sides in (4, ROUND):
        indices = [i for i, solid in enumerate(solids) if solid.sides == sides]
        if indices:
            corners.append(_corners([solids[i] for i in indices], sides).reshape(-1, ROUND, 3))
            owner.append(np.repeat(np.array(indices, np.int32), sides + 2))
    points, owners = np.concatenate(corners), np.concatenate(owner)
    across, upwards = points[:, 1] - points[:, 0], points[:, -1] - points[:, 0]
    normals = np.cross(across, upwards)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-9
    middle = np.array([s.centre for s in solids], np.float32)[owners]
    inward = np.sum((points.mean(1) - middle) * normals, 1) < 0
    normals[inward] *= -1
    spans = np.array([s.skin.span for s in solids], np.float32)[owners, None]
    return Faces(points, normals, _per_tile(across, spans), _per_tile(upwards, spans), owners)


def _per_tile(edge: Floats, span: Floats) -> Floats:
    length = np.linalg.norm(edge, axis=1, keepdims=True) + 1e-6
    return np.asarray(edge / length / np.where(span > 0, span, length), np.float32)


def _clip(polygon: Floats) -> Floats:
    """Return a polygon in camera coordinates without what is nearer than NEAR."""
    corners = []
    for a, b in zip(polygon, np.roll(polygon, -1, 0), strict=True):
        if a[2] >= NEAR:
            corners.append(a)
        if (a[2] >= NEAR) != (b[2] >= NEAR):
            corners.append(a + (b - a) * (NEAR - a[2]) / (b[2] - a[2]))
    return np.array(corners, np.float32).reshape(-1, 3)


def _inside(
    polygon: Floats, columns: NDArray[np.int64], rows: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return which pixel centres lie in a convex polygon (n, 2), shape (rows, columns).

    Exact, unlike cv2.fillConvexPoly, which adds a rim: faces that share an edge would tear it.
    """
    following = np.concatenate((polygon[1:], polygon[:1]))
    edges = following - polygon
    # The camera sees some faces clockwise and others not.
    if polygon[:, 0] @ following[:, 1] < polygon[:, 1] @ following[:, 0]:
        edges = -edges
    inside = np.ones((len(rows), len(columns)), bool)
    for (dx, dy), (x, y) in zip(edges.tolist(), polygon.tolist(), strict=True):
        if dx or dy:  # padded corners repeat
            inside &= (dx * (rows - y))[:, None] >= dy * (columns - x)
    return inside


def rasterise(faces: Faces, camera: Camera, size: tuple[int, int]) -> tuple[Integers, Floats]:
    """Find the nearest face of every pixel.

    Returns:
        Index of the face, and one over its depth in 1/m; both of shape `size`.
    """
    height, width = size
    focal, middle = camera.focal * width, floats([(width - 1) / 2, (height - 1) / 2])
    axes, position = camera.axes(), floats(camera.position)
    points = (faces.corners - position) @ axes.T
    normals = faces.normals @ axes.T
    offset = np.sum(normals * points[:, 0], 1)  # negative where the face looks at the camera
    visible = np.flatnonzero((offset < -1e-4) & (points[..., 2].max(1) > NEAR))
    xs = (np.arange(width, dtype=np.float32) - middle[0]) / focal
    ys = (np.arange(height, dtype=np.float32) - middle[1]) / focal
    nearest, index = np.zeros(size, np.float32), np.zeros(size, np.int32)
    for k in visible:
        polygon = points[k] if points[k, :, 2].min() >= NEAR else _clip(points[k])
        inverse = 1 / polygon[:, 2]
        pixels = polygon[:, :2] * inverse[:, None] * focal + middle
        left, top = np.maximum(np.floor(pixels.min(0)), 0).astype(int)
        right, bottom = np.minimum(np.ceil(pixels.max(0)) + 1, (width, height)).astype(int)
        if left >= right or top >= bottom:
            continue
        a, b, c = normals[k] / offset[k]
        plane = (b * ys[top:bottom, None] + c) + a * xs[left:right]
        window = np.s_[top:bottom, left:right]
        is_nearer = plane > nearest[window]
        is_nearer &= _inside(floats(pixels), np.arange(left, right), np.arange(top, bottom))
        np.copyto(nearest[window], plane, where=is_nearer)
        np.copyto(index[window], k, where=is_nearer)
    return index, nearest
