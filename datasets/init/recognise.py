"""Recognise what a folder is: images with label maps, or images with a class each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from datasets.init.archives import find_parquet, find_shards, find_tars
from datasets.init.class_folders import find_class_folders
from datasets.init.class_lists import find_lists
from datasets.init.groups import LABEL_NAMES
from datasets.init.image_layout import ImageLayout, image_names
from datasets.init.known import find_preset, preset_layout
from datasets.init.layout import Layout, NoLabelMapsError, find_layout

SEGMENTATION: Final = "segmentation"
CLASSIFICATION: Final = "classification"
_NO_CLASSES: Final = "no images with a class each"


def recognise(root: Path, task: str | None, classes: int | None) -> Layout | ImageLayout:
    """Recognise a folder of label maps, or of images with a class.

    Args:
        root: The folder.
        task: SEGMENTATION or CLASSIFICATION, where it is known.
        classes: Number of classes, where it is known.

    Raises:
        ValueError: If it is neither, or may be both; says why.
        OSError: If a file cannot be read.
        ImportError: If it needs a library that is not installed.
    """
    if task == SEGMENTATION:
        return _segmentation(root)
    if task == CLASSIFICATION:
        return find_image_layout(root, classes)
    try:
        layout = _segmentation(root)
    except NoLabelMapsError as error:
        return _without_label_maps(root, classes, error)
    except (ValueError, OSError) as error:
        return _without_layout(root, classes, error)
    try:
        other = find_image_layout(root, classes)
    except (ValueError, OSError, ImportError):
        return layout  # The label maps are recognised: nothing speaks for the other task.
    if find_preset(root) or any(LABEL_NAMES.search(name) for name in other.folders):
        return layout
    raise ValueError(
        f"{root} may be images with label maps ({layout.text}) or with a class each "
        f"({other.text}); say which: --task segmentation, or --task classification"
    )


def _segmentation(root: Path) -> Layout:
    preset = find_preset(root)
    return preset_layout(root, preset) if preset else find_layout(root)


def _without_label_maps(root: Path, classes: int | None, reason: ValueError) -> ImageLayout:
    try:
        return find_image_layout(root, classes)
    except ValueError as error:
        text = f"{root}: neither images with label maps nor images with a class each"
        raise ValueError(
            "\n  ".join([text, *_reasons(reason, root), *_reasons(error, root)])
        ) from error


def _reasons(error: Exception, root: Path) -> list[str]:
    """Return the reasons of an error, one each line, without the folder that all begin with."""
    lines = [line.strip().removeprefix(f"{root}: ") for line in str(error).splitlines()]
    return [line for line in lines if line != _NO_CLASSES]


def _without_layout(root: Path, classes: int | None, reason: Exception) -> ImageLayout:
    """Raise why a folder with label maps is not understood, and what else it may be."""
    try:
        other = find_image_layout(root, classes)
    except (ValueError, OSError, ImportError):
        raise reason from None
    raise ValueError(
        f"{reason}\nBut it may be images with a class each ({other.text}); if so, add --task "
        "classification"
    ) from reason


def find_image_layout(root: Path, count: int | None) -> ImageLayout:
    """Recognise the layout of images with a class each.

    Args:
        root: The folder.
        count: Number of classes, where it is known.

    Raises:
        ValueError: If there is none; says why for each that was looked for.
    """
    inner = _inner(root)
    finders: tuple[Callable[[Path, int | None], ImageLayout], ...]
    finders = (find_class_folders, find_lists, find_shards, find_tars, find_parquet)
    layouts, reasons = [], []
    for find in finders:
        try:
            layouts.append(find(inner, count))
        except (ValueError, OSError, ImportError) as error:
            reasons.append(str(error))
    if not layouts:
        raise ValueError("\n  ".join([f"{root}: {_NO_CLASSES}", *reasons]))
    first, *others = layouts
    notes = [*first.notes, *(f"also there: {other.text}" for other in others)]
    return replace(first, notes=tuple(notes))


def _inner(root: Path) -> Path:
    """Return the folder that holds something, below folders that hold one folder alone."""
    while len(names := [n for n in (entry.name for entry in root.iterdir()) if n[0] != "."]) == 1:
        if not (root / names[0]).is_dir() or image_names(root / names[0]):
            break
        root = root / names[0]
    return root
