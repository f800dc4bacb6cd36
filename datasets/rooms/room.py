"""Small drawn rooms with the 40 NYU classes, for demonstrations and tests that need no download.

A room is drawn from a seed alone and its labels are those of NYU Depth V2 (1..894, 0 unlabelled).
`write_rooms` stores rooms in the layout of the official nyu_depth_v2_labeled.mat, so that whatever
reads that file reads rooms too; it leaves out instances, raw depths and file names.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from datasets.rooms.hdf5_output import HDF5Output
from datasets.rooms.plan import plan_room
from datasets.rooms.raster import faces_of, rasterise
from datasets.rooms.shade import frame_of, paint, photograph, unlabelled, view_of
from datasets.rooms.things import label_numbers

SMALLEST_SIDE = 32
MOST_ROOMS = 65_535  # the split is stored as uint16
TEST_EVERY = 5


class Room(NamedTuple):
    """A drawn room; H and W are the requested size."""

    image: NDArray[np.uint8]  # (H, W, 3), RGB
    labels: NDArray[np.uint16]  # (H, W), 1..894, 0 where there is none
    depth: NDArray[np.float32]  # (H, W), metres along the optical axis, to 1 mm
    scene: str


def draw_room(seed: int, size: tuple[int, int] = (480, 640)) -> Room:
    """Draw the room of a seed; at another size it is the same room.

    Args:
        seed: Any whole number from 0.
        size: Height and width in pixels, 32 or more each.

    Returns:
        Image, labels, depth and the kind of the room.

    Raises:
        ValueError: If a side is smaller than 32 pixels or the seed is negative.

    Example:
        >>> room = draw_room(7, size=(60, 80))
        >>> room.image.shape, room.labels.dtype
        ((60, 80, 3), dtype('uint16'))
    """
    _check(seed, size)
    # Own sources of randomness, so that pixels drawn for one size do not change the room.
    furniture, pixels = (np.random.default_rng([seed, part]) for part in range(2))
    plan = plan_room(furniture)
    faces = faces_of(plan.solids)
    index, inverse = rasterise(faces, plan.camera, size)
    view = view_of(index, inverse, plan.camera)
    focal = plan.camera.focal * size[1]
    colours = paint(faces, plan.solids, view, plan.lights, room=plan.room, focal=focal)
    image = photograph(colours, pixels)
    numbers = np.array([solid.label for solid in plan.solids], np.uint16)
    labels = numbers[faces.owner][index]
    frame = frame_of(size, furniture)
    labels[frame | unlabelled(labels, furniture)] = 0
    image[frame] = 255
    return Room(image, labels, np.round(view.depth, 3), plan.scene)


def _check(seed: int, size: tuple[int, int]) -> None:
    if min(size) < SMALLEST_SIDE or seed < 0:
        raise ValueError(
            f"rooms have a seed from 0 and sides of at least {SMALLEST_SIDE} pixels, "
            f"got seed {seed} and a size of {size[0]} x {size[1]}"
        )


def is_written(path: str | Path, count: int, *, seed: int, size: tuple[int, int]) -> bool:
    """Return whether a file holds exactly these rooms already.

    Raises:
        FileExistsError: If the path holds anything else.
    """
    path = Path(path)
    if not path.exists():
        return False
    expected = {"rsseg_source": "rooms", "count": count, "seed": seed, "size": list(size)}
    try:
        with h5py.File(path) as file:
            attributes = {key: np.asarray(file.attrs.get(key)).tolist() for key in expected}
    except OSError:
        attributes = {"rsseg_source": "not an HDF5 file"}
    if attributes == expected:
        return True
    raise FileExistsError(
        f"{path} exists and is not overwritten: expected {expected}, found {attributes}; "
        "give another path or remove the file"
    )


def write_rooms(
    path: str | Path, count: int, *, seed: int = 0, size: tuple[int, int] = (480, 640)
) -> None:
    """Draw rooms into a file with the layout of the official nyu_depth_v2_labeled.mat.

    Room i, from 0, is that of `draw_room(room_seed(seed, i), size)`. Root datasets `rsseg_train`
    and `rsseg_test` (1-based indices, uint16, shape (n,)) split the rooms: every fifth is for
    testing. A file that holds these rooms already is left as it is.

    Args:
        path: File to write; it appears under this name only when it is complete.
        count: Number of rooms.
        seed: Rooms of different seeds differ.
        size: Height and width in pixels, 32 or more each.

    Raises:
        FileExistsError: If the path holds anything but these rooms.
        ValueError: If the count is not in 1..65535, or the size or seed cannot be drawn.
        OSError: If the file cannot be written; nothing is left behind.
    """
    path = Path(path)
    if not 1 <= count <= MOST_ROOMS:
        raise ValueError(f"count must be in 1..{MOST_ROOMS}, got {count}")
    _check(seed, size)
    if is_written(path, count, seed=seed, size=size):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        with HDF5Output(partial, "w+") as output:
            with h5py.File(output, "w") as file:
                _write(file, count, seed, size, output)
            output.check()
        partial.replace(path)
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


def room_seed(seed: int, index: int) -> int:
    """Return the seed of the room at an index, from 0, of the file written with a seed."""
    return seed * (MOST_ROOMS + 1) + index


def _write(
    file: h5py.File, count: int, seed: int, size: tuple[int, int], output: HDF5Output
) -> None:
    height, width = size
    # MATLAB counts axes from the other end: an image (H, W, 3) is stored as (3, W, H).
    images = _frames(file, "images", (count, 3, width, height), np.uint8)
    labels = _frames(file, "labels", (count, width, height), np.uint16)
    depths = _frames(file, "depths", (count, width, height), np.float32)
    scenes = []
    for i in tqdm(range(count), desc="drawing rooms", unit="room", disable=None):
        room = draw_room(room_seed(seed, i), size)
        images[i] = room.image.transpose(2, 1, 0)
        labels[i], depths[i] = room.labels.T, room.depth.T
        scenes.append(room.scene)
        output.check()
    _texts(file, "names", list(label_numbers()))
    _texts(file, "scenes", scenes)
    indices = np.arange(1, count + 1, dtype=np.uint16)
    file["rsseg_train"] = indices[indices % TEST_EVERY != 0]
    file["rsseg_test"] = indices[indices % TEST_EVERY == 0]
    file.attrs.update(rsseg_source="rooms", count=count, seed=seed, size=size)


def _frames(file: h5py.File, name: str, shape: tuple[int, ...], dtype: type) -> h5py.Dataset:
    """Create a data set that is read frame by frame."""
    # The noise of a camera does not shrink: compressing images would only cost time.
    options = {} if dtype is np.uint8 else {"compression": 1, "shuffle": True}
    return file.create_dataset(name, shape, dtype, chunks=(1, *shape[1:]), **options)


def _texts(file: h5py.File, name: str, texts: Sequence[str]) -> None:
    """Store texts as MATLAB does: (1, n) references to columns of characters."""
    references = file.create_dataset(name, (1, len(texts)), h5py.ref_dtype)
    for i, text in enumerate(texts):
        characters = np.array([[ord(letter)] for letter in text], np.uint16)
        letters = file.create_dataset(f"#refs#/{name}{i}", data=characters)
        references[0, i] = letters.ref
