"""Lists of images and classes: a text, or a table of comma or tab separated values.

A line holds the path of an image and its class, a name or a number. Nothing is guessed: columns are
taken by their names, or there are just two; what numbers count from, their values prove.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from datasets.imagenet.labels import HEADERS, is_image, read_lines
from rsseg.common.messages import counted, listed

SUFFIXES: Final = (".csv", ".tsv", ".txt", ".lst")
_CLASSES: Final = (
    *("label", "labels", "class", "classes", "category", "target", "class_id", "label_id"),
    *("class_name", "classname", "species", "y"),
)


class LabelList(NamedTuple):
    """The lines of a list.

    Attributes:
        files: Path of each image, with "/".
        names: Name or number of its class.
    """

    files: list[str]
    names: list[str]


def read_label_list(path: Path, key: str) -> LabelList:
    """Read a list of images and classes.

    Args:
        path: Lines of "PATH CLASS", with tab, comma or blanks between them; a first line may name
            the columns, of which there may then be more.
        key: The setting that names the list, for messages.

    Raises:
        FileNotFoundError: If it is missing.
        ValueError: If a line is of another form, or an image has two classes.
    """
    rows = _rows(read_lines(path, key))
    image, label = _columns(path, rows)
    pairs = []
    for row in rows:
        if len(row) <= max(image, label) or not row[label] or not is_image(_name(row[image])):
            raise ValueError(
                f"{path}: line {' '.join(row)[:80]!r} is not an image and its class; expected "
                "PATH CLASS, with tab, comma or blanks between them"
            )
        pairs.append((row[image].replace("\\", "/"), row[label]))
    _check_unique(path, pairs)
    return LabelList([file for file, _ in pairs], [name for _, name in pairs])


def read_image_list(path: Path, key: str) -> list[str]:
    """Read the images of a list, in its order; what else is in its lines is not looked at.

    Args:
        path: Lines that begin with the path of an image, or of which one column holds them.
        key: The setting that names the list, for messages.

    Raises:
        FileNotFoundError: If it is missing.
        ValueError: If a line names no image, or two lines name the same.
    """
    lines = read_lines(path, key)
    rows = [[line] for line in lines] if all(map(_is_path, lines[1:] or lines)) else _rows(lines)
    place = next((i for i, cell in enumerate(rows[-1]) if _is_path(cell)), 0)
    if not _is_path(rows[0][min(place, len(rows[0]) - 1)]):
        del rows[0]
    wrong = [row for row in rows if len(row) <= place or not _is_path(row[place])]
    if wrong or not rows:
        text = " ".join(wrong[0])[:80] if wrong else ""
        raise ValueError(f"{path}: no image in line {text!r}; expected a path in every line")
    files = [row[place].replace("\\", "/") for row in rows]
    twice = [file for file, count in Counter(files).items() if count > 1]
    if twice:
        raise ValueError(f"{path}: names {twice[0]} twice; expected each image once")
    return files


def _is_path(cell: str) -> bool:
    return is_image(_name(cell))


def _rows(lines: list[str]) -> list[list[str]]:
    """Split lines at tabs, else at commas, else at the last blank."""
    for delimiter in "\t,":
        if all(delimiter in line for line in lines):
            return [
                [cell.strip() for cell in row] for row in csv.reader(lines, delimiter=delimiter)
            ]
    return [line.rsplit(maxsplit=1) for line in lines]


def _columns(path: Path, rows: list[list[str]]) -> tuple[int, int]:
    """Return the places of the image and of the class; remove a line that names the columns."""
    first = [cell.lower() for cell in rows[0]]
    if any(is_image(_name(cell)) for cell in rows[0]):
        if len(first) == 2:
            return (0, 1) if is_image(_name(rows[0][0])) else (1, 0)
        raise ValueError(
            f"{path}: {len(first)} columns and no line that names them; write a first line such as "
            "path,label, or keep the two columns"
        )
    header = rows.pop(0)
    images = [place for place, name in enumerate(first) if name in HEADERS]
    labels = [place for place, name in enumerate(first) if name in _CLASSES]
    if len(first) == 2 and len(images) == 1:
        labels = [1 - images[0]]
    if len(images) != 1 or len(labels) != 1 or not rows:
        raise ValueError(
            f"{path}: its first line, {', '.join(header)[:200]!r}, does not name one column of "
            "images and one of classes; call them path and label"
        )
    return images[0], labels[0]


def _check_unique(path: Path, pairs: Sequence[tuple[str, str]]) -> None:
    classes = dict(pairs)
    different = {file for file, name in pairs if classes[file] != name}
    if different:
        raise ValueError(
            f"{path}: {counted(len(different), 'image')} with two classes "
            f"({listed(different, 3)}); give each image one"
        )


def _name(path: str) -> str:
    return path.replace("\\", "/").rpartition("/")[2]
