"""Write a data set as a folder of images and label PNGs, which reads faster than the .mat file.

The folder has the layout of datasets/nyudv2_folder.py with classes 0..39 and void 255, and
gives the samples of its source pixel by pixel: images of a .mat file become PNGs, image files
are copied as they are. It appears under its name only when it is complete.
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
from numpy.typing import NDArray
from tqdm import tqdm

from datasets.nyudv2 import open_nyudv2
from datasets.nyudv2_folder import FolderReader
from datasets.nyudv2_mat import MatReader
from datasets.samples import Reader, Split
from rsseg.images import read_image
from rsseg.listing import listed
from rsseg.preprocessing import VOID, Image
from rsseg.segmentation.label_files import read_label_values
from rsseg.writing import written_whole

_SPLITS: Final[tuple[Split, ...]] = ("train", "test")


def prepare(
    source: Path,
    target: Path,
    *,
    label_offset: int | None = None,
    void_value: int | None = None,
    classes: int = 40,
) -> bool:
    """Write the prepared folder of a source, unless it is there already.

    Args:
        source: What open_nyudv2 opens.
        target: The folder to write.
        label_offset: As for open_nyudv2, for the labels of the source.
        void_value: As for open_nyudv2.
        classes: Number of classes.

    Returns:
        Whether the folder was written now; False if it was complete and of this source.

    Raises:
        FileExistsError: If the target is something else; it is left as it is.
        ValueError: If the source is faulty; nothing is left behind.
        OSError: If reading or writing fails; nothing is left behind.
    """
    readers = {
        split: open_nyudv2(
            source, split, label_offset=label_offset, void_value=void_value, classes=classes
        )
        for split in _SPLITS
    }
    facts = _facts(source, readers)
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        _check_same(target, facts)
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as temporary:
        work = Path(temporary) / target.name
        work.mkdir()
        for split, reader in readers.items():
            _write_split(work, split, reader)
        _write_lines(work / "classes.txt", readers["train"].classes)
        _write_lines(work / "dataset.json", [json.dumps(facts, indent=2)])
        if target.exists():
            target.rmdir()  # empty, or _check_same had spoken
        work.rename(target)
    return True


def write_samples(reader: Reader, target: Path, count: int) -> list[str]:
    """Write a few samples, spread over a reader, as images/NAME.png and labels/NAME.png.

    Files that hold the same already are left as they are. Label maps hold classes 0..39, and 255
    for void.

    Returns:
        Names of the samples.

    Raises:
        ValueError: If the reader holds fewer samples than `count`, or `count` is below 1.
        FileExistsError: If the folders hold any other file; nothing is written then.
        OSError: If a file cannot be written.
    """
    if not 1 <= count <= len(reader):
        raise ValueError(f"count must be in 1..{len(reader)}, the samples there are, got {count}")
    indices = np.linspace(0, len(reader) - 1, count).round().astype(int).tolist()
    there = {path for folder in ("images", "labels") for path in (target / folder).glob("*")}
    _check_foreign(there, {f"{reader.names[index]}.png" for index in indices})
    for index in indices:
        _check_kept(reader, index, target, there)
    for sample in (reader[index] for index in indices):
        image, label = _sample_files(target, sample.name)
        if image not in there:
            _write_image(image, sample.image)
        if label not in there:
            _write_png(label, sample.labels)
    return [reader.names[index] for index in indices]


def _sample_files(target: Path, name: str) -> tuple[Path, Path]:
    return target / "images" / f"{name}.png", target / "labels" / f"{name}.png"


def _check_foreign(there: set[Path], names: set[str]) -> None:
    """Raise FileExistsError if a folder of samples holds a file of no sample."""
    # Whoever shows the folder would show what was left there by another data set.
    foreign = sorted(path for path in there if path.name not in names)
    if foreign:
        raise FileExistsError(
            f"{foreign[0]}: is none of the samples that are to be written "
            f"({listed(names)}); remove it or choose another target"
        )


def _check_kept(reader: Reader, index: int, target: Path, there: set[Path]) -> None:
    """Raise FileExistsError if a file of a sample exists and does not hold that sample."""
    image, label = _sample_files(target, reader.names[index])
    for path, read in ((image, read_image), (label, read_label_values)):
        if path not in there:
            continue
        sample = reader[index]
        try:
            same = np.array_equal(read(path), sample.image if path == image else sample.labels)
        except ValueError:
            same = False
        if not same:
            raise FileExistsError(
                f"{path}: exists and is not {reader.where(index)}; remove it or choose another "
                "target"
            )


def _facts(source: Path, readers: dict[Split, Reader]) -> dict[str, Any]:
    """Give the content of dataset.json: the convention, the counts, and what the source was."""
    digest = hashlib.sha256()
    files: set[Path] = set()
    for reader in readers.values():
        if isinstance(reader, FolderReader):
            files |= {*reader.image_paths, *reader.label_paths}
            digest.update(f"{reader.convention}\n".encode())
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


def _check_same(target: Path, facts: dict[str, Any]) -> None:
    """Raise FileExistsError if a target is not what would be written now."""
    remedy = "remove it or choose another target"
    record = target / "dataset.json"
    try:
        recorded = json.loads(record.read_text(encoding="utf-8"))
        for split in _SPLITS:
            open_nyudv2(target, split, classes=facts["classes"])
    except (OSError, ValueError) as error:
        raise FileExistsError(
            f"{target}: exists and is no complete prepared folder ({error}); {remedy}"
        ) from error
    if recorded != facts:
        raise FileExistsError(
            f"{target}: was prepared from another source, or the source has changed since "
            f"({record} says {recorded.get('source')}, now it is {facts['source']}); {remedy}"
        )


def _write_split(work: Path, split: Split, reader: Reader) -> None:
    _write_lines(work / f"{split}.txt", reader.names)
    for index, name in enumerate(tqdm(reader.names, desc=f"preparing {split}", unit="image")):
        sample = reader.read(index)
        _write_png(work / "labels" / f"{name}.png", sample.labels)
        if isinstance(reader, FolderReader):
            copy = work / "images" / f"{name}{reader.image_paths[index].suffix}"
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(reader.image_paths[index], copy)
        else:
            _write_image(work / "images" / f"{name}.png", sample.image)


def _write_image(path: Path, image: Image) -> None:
    _write_png(path, np.ascontiguousarray(image[..., ::-1]))  # the order OpenCV writes


def _write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Encoded in memory: cv2.imwrite reports a full disk by False alone.
    encoded = cv2.imencode(".png", pixels)[1]
    with written_whole(path) as temporary:
        temporary.write_bytes(encoded.tobytes())


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    with written_whole(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
