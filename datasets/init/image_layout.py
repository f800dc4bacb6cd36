"""How a folder keeps images of which each has a class: what every layout of them says."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from datasets.imagenet.labels import is_image
from datasets.imagenet.lists import SUFFIXES
from datasets.init.numbers import Classes
from datasets.init.splits import split_word

SHARE: Final = {"test_share": 0.2}


@dataclass(frozen=True)
class ImageLayout:
    """Where the images are and what is known about their classes.

    Args:
        root: `data.root`.
        data: What stands below it, beside label_offset.
        text: What was recognised, in words.
        classes: The classes.
        folders: The names of the class folders, if there are any.
        question: What has to be answered about the splits; None if nothing.
        offers: Settings below `data:` that may answer it, each a line.
        notes: What else there is, in words.
    """

    root: str
    data: Mapping[str, Any]
    text: str
    classes: Classes
    folders: tuple[str, ...] = ()
    question: str | None = None
    offers: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()


def subfolders(root: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted, none hidden."""
    with os.scandir(root) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def image_names(folder: Path) -> list[str]:
    """Return the names of the images in a folder, sorted."""
    return sorted(name for name in (entry.name for entry in folder.iterdir()) if is_image(name))


def sure_names(names: Sequence[str], split: str) -> list[str]:
    """Return the names that state a split beyond doubt; of val and test, val."""
    words = [(name, word) for name in names if (word := split_word(name))]
    own = [(name, word) for name, word in words if word.split == split and not word.doubt]
    val = [name for name, word in own if word.is_val]
    return val or [name for name, _ in own]


def list_files(root: Path) -> list[Path]:
    """Return the texts and tables in a folder and its folders."""
    places = [root, *(root / name for name in subfolders(root))]
    files = [p for place in places for p in place.iterdir() if p.suffix.lower() in SUFFIXES]
    return sorted(p for p in files if p.is_file())


def known_classes(folders: Sequence[str]) -> Classes:
    """Return the classes of as many folders."""
    return Classes(len(folders), is_known=True)
