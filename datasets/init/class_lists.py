"""Recognise lists of images and their classes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from datasets.imagenet.labels import are_numbers, is_image
from datasets.imagenet.lists import LabelList, read_label_list
from datasets.init.image_layout import SHARE, ImageLayout, list_files, subfolders
from datasets.init.numbers import Classes, classes_of_numbers, count_names, names_file
from datasets.init.splits import SplitWord, split_word
from rsseg.common.messages import counted, listed

_LOOKED_FOR: Final = 50  # images of a list that must exist


def find_lists(root: Path, count: int | None) -> ImageLayout:
    """Recognise lists of images and their classes.

    Raises:
        ValueError: If there is none, or their images are not found.
    """
    lists, reasons = {}, []
    for path in list_files(root):
        try:
            lists[path] = _read_list(root, path)
        except ValueError as error:
            reasons.append(str(error))
    if not lists:
        raise ValueError("\n  lists: ".join(["lists: none of images and classes", *reasons[:2]]))
    words = {path: split_word(path.stem) for path in lists}
    train, test = (_list_of(words, split) for split in ("train", "test"))
    one = next(iter(lists)) if len(lists) == 1 else None
    train = train or one
    if train is None or (test is None and len(lists) > 1):
        names = listed(path.name for path in lists)
        raise ValueError(f"lists: which of {names} is for training, which for the test?")
    used = [train] if test in (None, train) else [train, test]
    if len({lists[path][0] for path in used}) > 1:
        raise ValueError(
            f"lists: {listed(map(str, used))} count their paths from different folders"
        )
    return _layout_of_lists(root, used, lists, count)


def _list_of(words: Mapping[Path, SplitWord | None], split: str) -> Path | None:
    own = [(p, w) for p, w in words.items() if w and w.split == split and not w.doubt]
    val = [path for path, word in own if word.is_val]
    return next(iter(val or [path for path, _ in own]), None)


def _read_list(root: Path, path: Path) -> tuple[Path, LabelList]:
    """Return the folder that a list's paths count from, and its lines."""
    lines = read_label_list(path, "data.train")
    if any(is_image(name.rpartition("/")[2]) for name in lines.names):
        raise ValueError(f"{path.name} lists pairs of images")
    some = lines.files[:: max(1, len(lines.files) // _LOOKED_FOR)]
    for base in dict.fromkeys((root, path.parent, *(root / name for name in subfolders(root)))):
        if all((base / file).is_file() for file in some):
            return base, lines
    raise ValueError(f"{path.name}: {some[0]} is in no folder of {root}")


def _layout_of_lists(
    root: Path,
    used: Sequence[Path],
    lists: Mapping[Path, tuple[Path, LabelList]],
    count: int | None,
) -> ImageLayout:
    base = lists[used[0]][0]
    both = [lists[path][1] for path in used]
    if len(both) > 1 and (shared := {*both[0].files} & {*both[1].files}):
        raise ValueError(
            f"lists: {used[0].name} and {used[1].name} share {counted(len(shared), 'image')} "
            f"({listed(shared, 3)}); correct them"
        )
    names = [name for lines in both for name in lines.names]
    places = [os.path.relpath(path, base).replace(os.sep, "/") for path in used]
    data: dict[str, Any] = {"train": places[0]}
    data.update({"val": places[1]} if len(places) > 1 else SHARE)
    if file := names_file(root):
        data["names"] = os.path.relpath(root / file, base).replace(os.sep, "/")
        count = count or count_names(root / file)
    classes = Classes(len({*both[0].names}), is_known=True)
    if are_numbers(names, ()):
        classes = classes_of_numbers([int(name) for name in names], count)
    rest = [path.name for path in lists if path not in used]
    notes = (f"left out: the lists {listed(rest)}",) if rest else ()
    text = f"lists of images and classes, {listed(places)}"
    return ImageLayout(str(base), data, text, classes, notes=notes)
