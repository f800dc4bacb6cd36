"""Light, sensor and annotator of the drawn rooms: from a map of faces to a picture and labels.

Lambert's law with point lights, a highlight, dark corners, a soft shadow on the floor and a glow
around lamps; then what a cheap camera adds, and what people leave unlabelled. No cast shadows and
no mirror images. The factors are choices for the look; no measurement stands behind them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from datasets.rooms.raster import Camera, Faces, Integers, Skin, Solid, Vector
from datasets.rooms.textures import SIDE, Floats, floats, smooth_noise, texture_means, texture_tiles

SHADOW_CELLS = 64  # of the map of shadows, along each side of the room


class Light(NamedTuple):
    """A point that shines: position in metres, colour times strength."""

    position: Vector
    colour: Vector


class View(NamedTuple):
    """What the pixels show, flattened to N of them: face, point, and direction to the camera."""

    face: Integers  # (N,)
    points: Floats  # (N, 3), in the world
    towards: Floats  # (N, 3), unit length
    depth: Floats  # (H, W), metres along the optical axis


def view_of(index: Integers, inverse: Floats, camera: Camera) -> View:
    """Locate every pixel in the room, from the result of `rasterise`."""
    height, width = index.shape
    xs = floats(np.arange(width) - (width - 1) / 2) / (camera.focal * width)
    ys = floats(np.arange(height) - (height - 1) / 2) / (camera.focal * width)
    right, down, forward = camera.axes()
    rays = (xs[None, :, None] * right + (ys[:, None, None] * down + forward)).reshape(-1, 3)
    depth = floats(1 / np.maximum(inverse, 0.02))
    points = rays * depth.reshape(-1, 1) + floats(camera.position)
    towards = rays / -np.sqrt(np.einsum("nc,nc->n", rays, rays))[:, None]
    return View(index.ravel(), floats(points), floats(towards), depth)


def _surface(faces: Faces, skins: Sequence[Skin], view: View, focal: float) -> Floats:
    """Return the colour of the surfaces, (N, 3); of tiles far away only the mean remains."""
    columns, rows = (_steps(faces, view, axis) for axis in (faces.across, faces.upwards))
    tile = np.array([skin.tile for skin in skins])[faces.owner]
    colour = floats([skin.colour for skin in skins])[faces.owner]
    density = SIDE * np.linalg.norm(faces.across, axis=1) / focal  # texels per pixel at 1 m
    weight = np.minimum(1, 1.5 / (density[view.face] * view.depth.ravel() + 1e-6))
    # Rows of a tile run downwards.
    place = ((tile[view.face] + 1) * SIDE - 1 - rows) * SIDE + columns
    mean = np.take(texture_means()[tile], view.face, axis=0)
    texel = np.take(texture_tiles().reshape(-1, 3), place, axis=0)
    texel -= mean
    return floats((mean + weight[:, None] * texel) * np.take(colour, view.face, axis=0))


def _steps(faces: Faces, view: View, axis: Floats) -> Integers:
    """Count texels from a face's origin along an axis of its tile, modulo SIDE, shape (N,)."""
    origin = np.sum(faces.corners[:, 0] * axis, 1)
    along = np.einsum("nc,nc->n", view.points, np.take(axis, view.face, axis=0))
    along -= origin[view.face]
    texels: Integers = np.floor(along * SIDE).astype(np.int32)
    return texels & (SIDE - 1)  # SIDE is a power of two


def _illumination(
    faces: Faces, skins: Sequence[Skin], view: View, lights: Sequence[Light]
) -> tuple[Floats, Floats]:
    """Return light that the surfaces scatter, and their highlights; (N, 3) each."""
    gloss = np.array([skin.gloss for skin in skins], np.float32)[faces.owner]
    glow = np.array([skin.glow for skin in skins], np.float32)[faces.owner]
    ambient = 0.42 + 0.08 * faces.normals[:, 1] + glow
    scattered = np.repeat(ambient[view.face, None], 3, axis=1)
    shine = np.zeros_like(scattered)
    shiny = np.flatnonzero(gloss[view.face])
    for light in lights:
        way = floats(light.position) - view.points
        squared = np.einsum("nc,nc->n", way, way)
        # How high the light stands above a face is the same for all points of the face.
        above = np.sum((floats(light.position) - faces.corners[:, 0]) * faces.normals, 1)
        slant = np.maximum(0, above)[view.face] / (np.sqrt(squared) * (1 + 0.22 * squared))
        scattered += slant[:, None] * floats(light.colour)
        half = way[shiny] / np.sqrt(squared[shiny, None]) + view.towards[shiny]
        cosine = np.einsum("nc,nc->n", faces.normals[view.face[shiny]], half)
        cosine = np.maximum(0, cosine / np.sqrt(np.einsum("nc,nc->n", half, half) + 1e-6))
        highlight = gloss[view.face[shiny]] * cosine**40
        shine[shiny] += highlight[:, None] * floats(light.colour)
    return scattered, shine


def _floor_shadow(solids: Sequence[Solid], view: View, room: tuple[float, float]) -> Floats:
    """Return how bright the floor is under and around what stands on it, 0..1, shape (N,)."""
    cells = SHADOW_CELLS / np.array(room)
    shadow = np.zeros((SHADOW_CELLS, SHADOW_CELLS), np.float32)
    for solid in solids:
        lowest = solid.centre[1] - solid.size[1] / 2
        if lowest < 0.6 and 0.05 < lowest + solid.size[1] < 1.9:
            centre = (np.array(solid.centre)[[0, 2]] * cells).tolist()
            size = (np.array(solid.size)[[0, 2]] * cells).tolist()
            corners = cv2.boxPoints((centre, size, -np.degrees(solid.yaw)))
            cv2.fillConvexPoly(shadow, np.rint(corners).astype(np.int32), 1.0 - lowest)
    shadow = floats(cv2.GaussianBlur(shadow, (0, 0), SHADOW_CELLS * 0.12 / min(room)))
    x, z = (view.points[:, [0, 2]] * cells).astype(np.int32).clip(0, SHADOW_CELLS - 1).T
    return np.asarray(1 - 0.5 * shadow[z, x] * (view.points[:, 1] < 0.03), np.float32)


def paint(
    faces: Faces,
    solids: Sequence[Solid],
    view: View,
    lights: Sequence[Light],
    *,
    room: tuple[float, float],
    focal: float,
) -> Floats:
    """Compute the colour of every pixel.

    Args:
        faces: The faces that `view` points into.
        solids: Owners of the faces.
        view: What the pixels show.
        lights: What shines, besides the light from everywhere.
        room: Width and depth of the room in metres.
        focal: Focal length in pixels.

    Returns:
        RGB, about 0..1 and above in highlights, shape (H, W, 3).
    """
    skins = [solid.skin for solid in solids]
    shape = view.depth.shape
    scattered, shine = _illumination(faces, skins, view, lights)
    dark = _floor_shadow(solids, view, room)
    colour = _surface(faces, skins, view, focal) * scattered * dark[:, None] + shine
    image = colour.reshape(*shape, 3)
    # What lies deeper than its surroundings gets less light: edges and corners become visible.
    reach = max(3, shape[1] // 14)
    behind = 1 - cv2.blur(view.depth, (reach, reach)) / view.depth
    image *= 1 - np.clip(2.0 * behind, 0, 0.45)[..., None]
    bright = cv2.resize(np.maximum(image - 1, 0), (64, 48), interpolation=cv2.INTER_AREA)
    halo = cv2.resize(cv2.GaussianBlur(bright, (0, 0), 3), shape[::-1])
    return np.asarray(image + 0.6 * halo, np.float32)


def photograph(image: Floats, rng: Generator) -> NDArray[np.uint8]:
    """Turn colours (H, W, 3) into what a cheap camera stores: blur, cast, vignette, noise."""
    height, width = image.shape[:2]
    exposure = rng.uniform(0.36, 0.5) / float(image.clip(0, 1).mean())
    gain = floats(exposure * rng.normal(1, 0.04, 3))
    noise = floats(rng.uniform(0.008, 0.025))
    x, y = floats(np.linspace(-0.35, 0.35, width)), floats(np.linspace(-0.35, 0.35, height))
    vignette = 1 - (x * x + (y * y)[:, None])[..., None]
    light = floats(cv2.GaussianBlur(image, (0, 0), 0.55 * width / 320)) * (vignette * gain)
    root = np.sqrt(light.clip(0, 1))
    light = 0.3 * root + 0.7 * light  # a mild gamma curve
    light += noise * (0.4 + root) * rng.standard_normal(image.shape, np.float32)
    pixels: NDArray[np.uint8] = np.rint(light.clip(0, 1) * 255).astype(np.uint8)
    return pixels


def frame_of(size: tuple[int, int], rng: Generator) -> NDArray[np.bool_]:
    """Draw the white border that the official images have: 4 to 7 pixels of 480, a bit slanted."""
    height, width = size
    left, top, right, bottom = rng.uniform(4, 7, (4, 2)) / 480 * height
    corners = [
        (left[0], top[0]),
        (width - 1 - right[0], top[1]),
        (width - 1 - right[1], height - 1 - bottom[1]),
        (left[1], height - 1 - bottom[0]),
    ]
    inside = np.zeros(size, np.uint8)
    cv2.fillConvexPoly(inside, np.rint(corners).astype(np.int32), 1)
    return np.asarray(inside == 0)


def unlabelled(labels: NDArray[np.uint16], rng: Generator) -> NDArray[np.bool_]:
    """Choose 8 to 15 % of the pixels that stay unlabelled, mostly slivers along outlines."""
    edges = np.zeros(labels.shape, np.float32)
    edges[:, 1:] += labels[:, 1:] != labels[:, :-1]
    edges[1:] += labels[1:] != labels[:-1]
    reach = max(3, labels.shape[1] // 64)
    near = cv2.blur(np.minimum(edges, 1), (reach, reach))
    score = 1.4 * near + smooth_noise(rng, (7, 9), labels.shape)
    score += 0.4 * smooth_noise(rng, (30, 40), labels.shape)
    share = rng.uniform(0.08, 0.15)
    return np.asarray(score > np.quantile(score[::2, ::2], 1 - share))
