"""The text files beside labelled images: ground truth of a flat folder, names of the classes.

Ground truth comes as lines that name a file and its class, or as the official list of numbers,
whose meaning the meta.mat of its development kit holds (`synsets`). The images
themselves are listed in `reader`.

Source: Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge", IJCV 2015, and
the readme of its development kit, ILSVRC2012_devkit_t12.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from datasets.imagenet.synsets import read_synsets
from rsseg.common.files import read_text
from rsseg.common.messages import counted, listed
from rsseg.images.reading import IMAGE_SUFFIXES

# First words of a line that names the columns.
HEADERS: Final = (
    *("imageid", "image_id", "image", "image_path", "file", "filename", "file_name", "filepath"),
    *("path", "img", "name"),
)


def read_flat_labels(
    path: Path,
    files: Sequence[str],
    folders: tuple[str, ...],
    classes: int,
    *,
    offset: int | None = None,
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Read the classes of images that lie in one folder.

    Args:
        path: Lines of a file's name, with or without suffix, and the name of its class folder or
            the number of its class, with tab, comma or blanks between them; or ILSVRC2012's
            numbers, the i-th for the i-th file, with meta.mat beside.
        files: Names of the images, sorted.
        folders: Names of the class folders in the order of the classes; empty if there are none,
            then the file tells them.
        classes: Number of classes.
        offset: Number of the first class, where classes are numbers; None if they prove it.

    Returns:
        Labels, shape (N,), 0..K-1, and the names of the class folders, or the classes' numbers.

    Raises:
        ValueError: If lines and images do not fit one to one, or name unknown classes, or if the
            numbers could be counted from 0 as well as from 1.
        FileNotFoundError: If the file or its meta.mat is missing.
    """
    lines = read_lines(path, "data.val_labels")
    if all(_is_number(line) for line in lines):
        names, order = _from_numbers(path, lines, files)
    else:
        names = _from_pairs(path, lines, files, folders)
        check_offset(path, names, folders, offset)
        if are_numbers(names, folders):
            numbers = class_numbers(path, names, folders, classes, offset=offset)
            return places(path, [str(int(name)) for name in names], numbers), folders or numbers
        order = tuple(sorted(set(names)))
    if not folders and len(order) != classes:
        raise ValueError(
            f"{path} tells {counted(len(order), 'class')} ({listed(order)}) and model.classes "
            f"is {classes}; "
            f"set model.classes to {len(order)}, or add the folders of the training images, which "
            "tell all classes"
        )
    return places(path, names, folders or order), folders or order


def are_numbers(names: Sequence[str], folders: Collection[str]) -> bool:
    """Return whether classes are given as numbers, not as names of class folders."""
    return all(_is_number(name) and name not in folders for name in set(names))


def check_offset(
    path: Path, names: Sequence[str], folders: Collection[str], offset: int | None
) -> None:
    """Raise ValueError if numbers are to count from an offset, but are names of class folders."""
    shared = sorted({name for name in names if name in folders}, key=int) if _numeric(names) else []
    if shared and offset is not None:
        raise ValueError(
            f"{path}: data.label_offset is {offset}, but class folders have the numbers of the "
            f"list as names ({listed(shared)}); leave out data.label_offset if the numbers name "
            "folders, or else give the folders other names"
        )


def _numeric(names: Iterable[str]) -> bool:
    return all(_is_number(name) for name in set(names))


def class_numbers(
    path: Path,
    names: Iterable[str],
    folders: Sequence[str],
    classes: int,
    *,
    offset: int | None = None,
) -> tuple[str, ...]:
    """Return the number of each class, "0" or "1" first, as the values in a list prove it.

    A 0 proves that the classes are counted from 0, a K that they are counted from 1.

    Args:
        path: The list, for messages.
        names: The numbers that occur.
        folders: Names of the class folders in the order of the classes, for messages; may be empty.
        classes: Number of classes K.
        offset: Number of the first class, if it is given.

    Raises:
        ValueError: If neither occurs and `offset` is None.
    """
    values = {int(name) for name in names}
    lowest, highest = min(values), max(values)
    proven = 0 if lowest == 0 or highest > classes else 1 if highest == classes else None
    first = proven if offset is None else offset
    if first is None:
        what = ["first", "second"]
        if folders:
            what = [f"class {folder!r}" for folder in folders[:2]]
        raise ValueError(
            f"{path}: classes are numbers from {lowest} to {highest}, and model.classes is "
            f"{classes}: neither 0 nor {classes} occurs, so 1 may be the {what[1]} or the "
            f"{what[0]}. Say which, one of:\n"
            f"  data: {{label_offset: 0}}   # counted from 0: 1 is the {what[1]}\n"
            f"  data: {{label_offset: 1}}   # counted from 1: 1 is the {what[0]}"
        )
    return tuple(str(first + index) for index in range(classes))


def read_class_names(path: Path, folders: tuple[str, ...]) -> tuple[str, ...]:
    """Read the readable names of the classes.

    Args:
        path: Lines of a class folder and its name, with a tab or blanks between them, in any
            order; or, if no line begins with a class folder, one name a line in the order of
            the folders.
        folders: Names of the class folders, in the order of the classes.

    Raises:
        ValueError: If the file does not name each class once.
        FileNotFoundError: If it is missing.
    """
    lines = read_lines(path, "data.names")
    pairs = [_folder_and_name(line, folders) for line in lines]
    names = dict(pairs)
    if not names.keys() & set(folders):
        if len(lines) != len(folders):
            raise ValueError(
                f"{path}: {counted(len(lines), 'name')} for {counted(len(folders), 'class')}, "
                "and no line begins with "
                f"a class folder ({listed(folders, 3)}); give each class one line"
            )
        return tuple(lines)
    counts = Counter(folder for folder, _ in pairs)
    faults = {
        "unknown": counts.keys() - set(folders),
        "missing": set(folders) - counts.keys(),
        "named twice": {folder for folder, count in counts.items() if count > 1},
    }
    parts = [f"{len(some)} {fault} ({listed(some)})" for fault, some in faults.items() if some]
    if parts:
        raise ValueError(
            f"{path}: of the {len(folders)} class folders {', '.join(parts)}; give each one line"
        )
    return tuple(names[folder] for folder in folders)


def places(path: Path, names: Sequence[str], order: tuple[str, ...]) -> NDArray[np.int64]:
    """Return the place of each name in an order, shape (N,).

    Raises:
        ValueError: If a name is not in it; names the file.
    """
    indices = {name: index for index, name in enumerate(order)}
    unknown = set(names) - indices.keys()
    if unknown:
        raise ValueError(
            f"{path}: {counted(len(unknown), 'unknown class')} ({listed(unknown)}); the "
            f"{len(order)} known ones are {listed(order)}"
        )
    return np.array([indices[name] for name in names], dtype=np.int64)


def is_image(name: str) -> bool:
    """Return whether a name is that of an image, by its suffix; hidden files are none."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")


def read_lines(path: Path, key: str) -> list[str]:
    """Read the lines of a text file that are not blank; `key` is the setting that names it.

    Raises:
        FileNotFoundError: If it is missing.
        ValueError: If it is empty, too large or no UTF-8 text.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; set {key} to one that exists")
    lines = [line.strip() for line in read_text(path).split("\n") if line.strip()]
    if not lines:
        raise ValueError(f"{path}: empty; fill it, or set {key} to another file")
    return lines


def _from_numbers(
    path: Path, lines: list[str], files: Sequence[str]
) -> tuple[list[str], tuple[str, ...]]:
    """Return the class folder of each image by ILSVRC2012_ID, and those of all classes."""
    if len(lines) != len(files):
        raise ValueError(
            f"{path}: {counted(len(lines), 'line')} for {counted(len(files), 'image')}; line i "
            "is for image i in the order of the names, so there must be as many"
        )
    synsets = read_synsets(path.with_name("meta.mat"))
    unknown = {line for line in lines if int(line) not in synsets}
    if unknown:
        raise ValueError(
            f"{path}: {listed(unknown)} is not the ILSVRC2012_ID of a class in meta.mat, which "
            f"holds {min(synsets, default=0)} to {max(synsets, default=0)}; class indices need "
            "lines of FILE INDEX"
        )
    return [synsets[int(line)] for line in lines], tuple(sorted(synsets.values()))


def _from_pairs(
    path: Path, lines: list[str], files: Sequence[str], folders: tuple[str, ...]
) -> list[str]:
    """Return the class folder or class index of each image."""
    indices = {_stem(file): place for place, file in enumerate(files)}
    indices |= {file: place for place, file in enumerate(files)}
    folder_set = frozenset(folders)
    pairs = [_pair(path, line, folder_set) for line in lines]
    if pairs[0][0].lower() in HEADERS and pairs[0][0] not in indices:
        del pairs[0]
    names: dict[int, str] = {}
    absent, twice = [], []
    for file, folder in pairs:
        place = indices.get(file, indices.get(_stem(file)))
        if place is None:
            absent.append(file)
        elif place in names:
            twice.append(file)
        else:
            names[place] = folder
    bare = [file for place, file in enumerate(files) if place not in names]
    cases = {"images without a line": bare, "lines without an image": absent, "repeated": twice}
    parts = [f"{len(some)} {case} ({listed(some)})" for case, some in cases.items() if some]
    if parts:
        raise ValueError(
            f"{path}: {counted(len(pairs), 'line')} for {counted(len(files), 'image')}: "
            f"{', '.join(parts)}; give each image one line of FILE FOLDER"
        )
    return [names[place] for place in range(len(files))]


def _pair(path: Path, line: str, folders: frozenset[str]) -> tuple[str, str]:
    """Split a line into the file's name and its class."""
    separator = next((mark for mark in "\t," if mark in line), None)
    parts = line.split(separator) if separator else line.split(maxsplit=1)
    file, *columns = [part.strip() for part in parts]
    if not file or not columns or not columns[0]:
        raise ValueError(
            f"{path}: line {line!r} lacks file or class; expected lines of FILE FOLDER, or of one "
            "ILSVRC2012_ID"
        )
    # Kaggle's list has boxes behind the folder; other folders' names may have blanks in them.
    folder = columns[0] if columns[0] in folders else columns[0].split()[0]
    return file.rsplit("/", 1)[-1], folder


def _folder_and_name(line: str, folders: tuple[str, ...]) -> tuple[str, str]:
    if line in folders:
        return line, line
    folder, _, name = line.partition("\t" if "\t" in line else " ")
    return folder.strip(), name.strip()


def _is_number(text: str) -> bool:
    return text.isdecimal() and len(text) < 10  # Python refuses those of thousands of digits.


def _stem(name: str) -> str:
    return name.rpartition(".")[0] if is_image(name) else name
