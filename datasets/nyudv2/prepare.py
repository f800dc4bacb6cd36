"""Write a data set as a folder of images and label PNGs, which reads faster than the .mat file.

The folder has the layout of datasets/nyudv2/folder.py with classes 0..39 and void 255, and
gives the samples of its source pixel by pixel: images of a .mat file become PNGs, image files
are copied as they are. Beside them lie the samples of each split in one packed file, which is what
a training reads. The folder appears under its name only when it is complete.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from tqdm import tqdm

from datasets.nyudv2.folder import FolderReader
from datasets.nyudv2.mat import MatReader
from datasets.nyudv2.packed import files_state
from datasets.nyudv2.reader import open_nyudv2
from datasets.samples import Reader, Split
from rsseg.common.files import read_json, written_whole
from rsseg.images.preprocessing import VOID, Image, LabelMap
from rsseg.segmentation.palette import label_png

_SPLITS: Final[tuple[Split, ...]] = ("train", "test")


def prepare(
    source: Path,
    target: Path,
    *,
    label_offset: int | None = None,
    void_value: int | None = None,
    classes: int = 40,
    packed: bool = True,
) -> bool:
    """Write the prepared folder of a source, unless it is there already.

    Packed files that are missing or stale are written. If the source has changed since, and
    nothing in the folder has, the folder is written anew beside itself and takes its place.

    Args:
        source: What open_nyudv2 opens.
        target: The folder to write.
        label_offset: As for open_nyudv2, for the labels of the source.
        void_value: As for open_nyudv2.
        classes: Number of classes.
        packed: Whether to write packed files, 1.2 MB for each image of 640x480 pixels.

    Returns:
        Whether anything was written; False if all was there, and of this source.

    Raises:
        FileExistsError: If the target is something else, or has been changed by hand and is not of
            this source as it is now; it is left as it is.
        ValueError: If the source is faulty; what was there before is left as it was.
        OSError: If reading or writing fails; what was there before is left as it was.
    """
    readers = {
        split: open_nyudv2(
            source,
            split,
            label_offset=label_offset,
            void_value=void_value,
            classes=classes,
            packed=False,  # The files themselves are copied, and looked at on the way.
        )
        for split in _SPLITS
    }
    target = target.resolve()  # Behind a link the folder itself is exchanged, and not the link.
    facts = _facts(source, readers)
    if _holds_files(target) and _is_current(target, facts, source):
        return packed and _pack(target, classes)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as temporary:
        work = Path(temporary) / target.name
        _write_folder(work, readers, facts)
        if packed:
            _pack(work, classes)
        if _holds_files(target):
            _is_current(target, facts, source)  # Nobody has changed it in the meantime.
        _exchange(work, target, aside=Path(temporary) / "before")
    return True


def _facts(source: Path, readers: dict[Split, Reader]) -> dict[str, Any]:
    """Return the content of dataset.json: label convention, counts and source."""
    digest = hashlib.sha256()
    files: set[Path] = set()
    for reader in readers.values():
        if isinstance(reader, FolderReader):
            files |= {*reader.image_paths, *reader.label_paths}
            digest.update(f"{reader.decoder}\n".encode())
        elif isinstance(reader, MatReader):
            files.add(reader.path)
        digest.update("".join(f"{name}\n" for name in reader.names).encode())
    for path in sorted(files):
        state = path.stat()
        digest.update(f"{path.name} {state.st_size} {state.st_mtime_ns}\n".encode())
    size = sum(path.stat().st_size for path in files)
    return {
        "label_offset": 0,
        "void_value": VOID,
        "classes": len(readers["train"].classes),
        **{split: len(reader) for split, reader in readers.items()},
        "source": {"name": source.resolve().name, "bytes": size, "state": digest.hexdigest()},
    }


def _holds_files(target: Path) -> bool:
    return target.exists() and not (target.is_dir() and not any(target.iterdir()))


def _is_current(target: Path, facts: dict[str, Any], source: Path) -> bool:
    """Return whether a target is what would be written now; False if it may be written anew.

    Raises:
        FileExistsError: If it must be left as it is.
    """
    remedy = "remove it or choose another target"
    record = target / "dataset.json"
    try:
        recorded = read_json(record)
        for split in _SPLITS:
            open_nyudv2(target, split, classes=facts["classes"], packed=False)
        untouched = recorded.get("written") == _written(target)
        came_from = recorded.get("source", {})
        name = came_from.get("name")
    except (OSError, ValueError, AttributeError) as error:
        raise FileExistsError(
            f"{target}: exists and is not a complete prepared folder ({error}); {remedy}"
        ) from error
    if {key: recorded.get(key) for key in facts} == facts:
        return True
    here = source.resolve()
    if untouched and name == here.name and target not in (here, *here.parents):
        return False
    raise FileExistsError(
        f"{target}: was prepared from another source, or the source has changed since and so has "
        f"the folder ({record} says {came_from}, now it is {facts['source']}); {remedy}"
    )


def _written(target: Path) -> str:
    """Hash all files of a prepared folder but the record, and the packed files made from them."""
    derived = {"dataset.json", *(f"{split}.packed" for split in _SPLITS)}
    paths = sorted(path for path in target.rglob("*") if not path.is_dir())
    return files_state(target, (p for p in paths if str(p.relative_to(target)) not in derived))


def _pack(target: Path, classes: int) -> bool:
    """Write the packed files that are missing, stale or damaged; return whether there were any."""
    readers = [FolderReader(target, split, classes=classes, packed=False) for split in _SPLITS]
    # A list: `any` alone would stop at the first.
    is_new = [reader.pack() for reader in readers]
    return any(is_new)


def _exchange(new: Path, target: Path, *, aside: Path) -> None:
    """Move a folder to a name; one that has the name is moved aside, or back if that fails."""
    try:
        if target.exists():
            target.rename(aside)
        new.rename(target)
    except BaseException:  # an interruption too
        if aside.exists() and not target.exists():
            aside.rename(target)
        raise


def _write_folder(work: Path, readers: dict[Split, Reader], facts: dict[str, Any]) -> None:
    work.mkdir()
    for split, reader in readers.items():
        _write_split(work, split, reader)
    _write_lines(work / "classes.txt", readers["train"].classes)
    # Shows later whether somebody has changed anything.
    record = {**facts, "written": _written(work)}
    _write_lines(work / "dataset.json", [json.dumps(record, indent=2)])


def _write_split(work: Path, split: Split, reader: Reader) -> None:
    _write_lines(work / f"{split}.txt", reader.names)
    for index, name in enumerate(tqdm(reader.names, desc=f"preparing {split}", unit="image")):
        sample = reader.read(index)
        write_label_map(work / "labels" / f"{name}.png", sample.labels, len(reader.classes))
        if isinstance(reader, FolderReader):
            copy = work / "images" / f"{name}{reader.image_paths[index].suffix}"
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(reader.image_paths[index], copy)
        else:
            write_image(work / "images" / f"{name}.png", sample.image)


def write_label_map(path: Path, labels: LabelMap, classes: int) -> None:
    """Write a label map, shape (H, W), as a PNG with a palette, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as temporary:
        temporary.write_bytes(label_png(labels, classes))


def write_image(path: Path, image: Image) -> None:
    """Write an image, RGB, shape (H, W, 3), as a PNG, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the order of OpenCV, and in memory: cv2.imwrite reports a full disk by False alone.
    encoded = cv2.imencode(".png", np.ascontiguousarray(image[..., ::-1]))[1]
    with written_whole(path) as temporary:
        temporary.write_bytes(encoded.tobytes())


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    with written_whole(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
