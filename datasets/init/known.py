"""Data sets that a preset knows: recognised by their folders and by what their label maps hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np

from datasets.folders import class_names
from datasets.init.layout import Layout, find_layout
from datasets.init.places import shared_files
from datasets.init.values import Choice, Values
from datasets.nyudv2.folder import looks_like_nyudv2
from datasets.nyudv2.mat import load_tables
from datasets.samples import Split
from datasets.segmentation import NYUDV2
from rsseg.images.preprocessing import VOID
from rsseg.segmentation.label_files import Colour
from rsseg.segmentation.labels import LabelDecoder, LabelReading, complete_reading
from rsseg.segmentation.pairs import SplitConfig, find_pairs
from rsseg.segmentation.presets import preset_names, read_preset


def find_preset(root: Path) -> str | None:
    """Return the preset whose folders there are, and whose values the label maps hold."""
    if (root / "images").is_dir() and looks_like_nyudv2(root) and _has_lists(root):
        return NYUDV2
    return next((name for name in preset_names() if _fits(root, name)), None)


def _has_lists(root: Path) -> bool:
    """Return whether there are the lists of both splits, without which NYUDv2 is not read."""
    return all((root / f"{split}.txt").is_file() for split in get_args(Split))


def _fits(root: Path, name: str) -> bool:
    preset = read_preset(name)
    if "train" not in preset:
        return False
    train, test = (SplitConfig(**preset[split]) for split in ("train", "test"))
    try:
        pairs, _ = find_pairs(root, train)
        find_pairs(root, test)
        decoder = LabelDecoder(LabelReading(**preset["labels"]), preset["classes"])
        values = [np.unique(decoder.read(pair.label)) for pair in pairs[:32]]
    except (ValueError, OSError):
        return False
    is_last = preset["classes"] - 1 in np.concatenate(values)
    return is_last and not shared_files(root, train, test)


def preset_layout(root: Path, name: str) -> Layout:
    """Return the layout of a preset."""
    preset = read_preset(name)
    if "train" not in preset:  # NYUDv2, whose reader knows where its files are
        return replace(find_layout(root), text=f"folders and values of the preset {name}")
    train, test = (SplitConfig(**preset[split]) for split in ("train", "test"))
    return Layout(train, test, f"folders and values of the preset {name}")


def preset_choices(name: str, values: Values) -> list[Choice]:
    """Return what the label maps of a preset mean; NYUDv2's 255 tells that its classes begin at 0.

    Args:
        name: The preset.
        values: What the label maps hold.
    """
    preset = read_preset(name)
    labels = preset.get("labels")
    reading = LabelReading(**labels) if labels else complete_reading(None, _void(values))
    return [Choice(preset["classes"], reading, f"as in {name}")]


def _void(values: Values) -> int:
    return VOID if VOID in values.present else 0


def preset_class_names(name: str, root: Path) -> tuple[str, ...]:
    """Return the names of a preset's classes, as a training on the folder has them."""
    preset = read_preset(name)
    if name != NYUDV2:
        return class_names(preset.get("names"), root, preset["classes"])
    file = "classes.txt"
    if (root / file).is_file():
        return class_names(file, root, preset["classes"])
    return load_tables().classes


def preset_colours(name: str) -> list[Colour] | None:
    """Return the colour of each class of a preset, None where it has none."""
    colours: list[Colour] | None = read_preset(name).get("colours")
    return colours
