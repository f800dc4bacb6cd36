"""Recognise images in a folder for each class."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from datasets.init.image_layout import (
    SHARE,
    ImageLayout,
    image_names,
    known_classes,
    list_files,
    subfolders,
    sure_names,
)
from datasets.init.splits import split_word
from rsseg.common.messages import listed


def find_class_folders(root: Path, count: int | None) -> ImageLayout:
    """Recognise a folder for each class, with folders of splits or without.

    Raises:
        ValueError: If there are none.
    """
    trees = {name: _class_folders(root / name) for name in subfolders(root)}
    trees = {name: folders for name, folders in trees.items() if folders}
    if not trees:
        return _unsplit_folders(root)
    train, test = sure_names([*trees], "train"), sure_names([*trees], "test")
    if len(train) == len(test) == 1:
        return _split_folders(root, trees, train[0], test[0])
    if len(train) == 1 and not test and (flat := _flat_test(root)):
        folders = trees[train[0]]
        data = {"train": train[0], "val": flat[0], "val_labels": flat[1]}
        text = f"class folders in {train[0]}/, test images in {flat[0]}/ with {flat[1]}"
        return ImageLayout(str(root), data, text, known_classes(folders), folders)
    return _asked_folders(root, trees, train, test)


def _unsplit_folders(root: Path) -> ImageLayout:
    folders = _class_folders(root)
    if not folders:
        raise ValueError("class folders: there are no two folders with images")
    if splits := [name for name in folders if split_word(name)]:
        raise ValueError(
            f"class folders: {listed(folders)} hold images, and {listed(splits, 3)} may be a split "
            "or a class; put the images of each class into a folder below the split"
        )
    empty = [name for name in subfolders(root) if name not in folders]
    notes = (f"folders without images, which are no classes: {listed(empty)}",) if empty else ()
    if empty:
        raise ValueError(f"class folders: {listed(empty)} hold no images; remove or fill them")
    text = f"{len(folders)} class folders without a split"
    return ImageLayout(
        str(root), {"train": ".", **SHARE}, text, known_classes(folders), folders, notes=notes
    )


def _split_folders(
    root: Path, trees: Mapping[str, tuple[str, ...]], train: str, test: str
) -> ImageLayout:
    folders, rest = trees[train], sorted(trees.keys() - {train, test})
    notes = (f"left out, not of the two splits: {listed(rest)}",) if rest else ()
    if foreign := {*trees[test]} - {*folders}:
        raise ValueError(
            f"class folders: {test}/ has {listed(foreign, 3)}, which {train}/ has not; give both "
            "the same class folders"
        )
    data = {"train": train, "val": test}
    text = f"class folders in {train}/ and {test}/"
    return ImageLayout(str(root), data, text, known_classes(folders), folders, notes=notes)


def _asked_folders(
    root: Path, trees: Mapping[str, tuple[str, ...]], train: list[str], test: list[str]
) -> ImageLayout:
    """Return a layout whose splits are a question: each folder of classes may be one."""
    if len(trees) == 1:  # One folder of classes, whatever it is called.
        [(name, folders)] = trees.items()
        text = f"class folders in {name}/ without a split"
        data = {"train": name, **SHARE}
        return ImageLayout(str(root), data, text, known_classes(folders), folders)
    first = train[0] if len(train) == 1 else next(iter(trees))
    rest = [name for name in trees if [name] not in (train, test)]
    splits = {"train": train, "val": test}
    offers = [{key: n} for key, own in splits.items() if len(own) != 1 for n in rest]
    data = {key: own[0] for key, own in splits.items() if len(own) == 1}
    question = f"which of {listed(trees)} is for training, which for the test?"
    return ImageLayout(
        str(root),
        data,
        "class folders of several splits",
        known_classes(trees[first]),
        trees[first],
        question,
        (*offers, SHARE),
    )


def _flat_test(root: Path) -> tuple[str, str] | None:
    """Return a flat folder of test images and the list of their classes."""
    for name in sure_names(subfolders(root), "test"):
        images = image_names(root / name)
        lists = [p for p in list_files(root) if (w := split_word(p.stem)) and w.split == "test"]
        if images and lists:
            return name, lists[0].relative_to(root).as_posix()
    return None


def _class_folders(folder: Path) -> tuple[str, ...]:
    """Return the folders with images in a folder that holds none itself; () if it is another.

    Folders that are all called after splits are no classes.
    """
    names = [name for name in subfolders(folder) if image_names(folder / name)]
    if len(names) < 2 or image_names(folder) or all(map(split_word, names)):
        return ()
    return tuple(names)
