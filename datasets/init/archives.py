"""Recognise images packed into tar files, shards of webdataset or parquet files."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

from datasets.imagenet.shards import list_samples
from datasets.imagenet.tars import TAR, list_tars, walk_tar
from datasets.init.image_layout import SHARE, ImageLayout, known_classes, subfolders, sure_names
from datasets.init.numbers import Classes, classes_of_numbers, count_names, names_file
from datasets.init.splits import SplitWord, split_word
from rsseg.common.messages import listed

_FIELDS: Final = ("label", "class", "cls", "target", "category", "label_id", "class_id")
_MEMBERS: Final = 64  # of a tar file that tell whether it is a shard


def _tars(root: Path) -> list[Path]:
    return sorted(path for path in root.glob(f"*{TAR}") if path.is_file())


def _has_labels(path: Path) -> bool:
    """Return whether a tar file is a shard: files KEY.cls or KEY.json beside the images."""
    names = [name for name, _, _ in islice(walk_tar(path), _MEMBERS)]
    return any(name.endswith((".cls", ".json")) for name in names)


def find_shards(root: Path, count: int | None) -> ImageLayout:
    """Recognise shards of webdataset.

    Raises:
        ValueError: If there are none.
    """
    shards = [
        file
        for folder in (".", *subfolders(root))
        for file in _tars(root / folder)
        if _has_labels(file)
    ]
    if not shards:
        raise ValueError("shards: no tar files with KEY.cls or KEY.json")
    patterns = _patterns(root, shards)
    splits = {"train": _shards_of(patterns, "train"), "val": _shards_of(patterns, "test")}
    data: dict[str, Any] = {key: pattern for key, pattern in splits.items() if pattern}
    keys = [key for key, pattern in splits.items() if pattern is None]
    question = "which shards are for training, which for the test?" if keys else None
    rest = [pattern for pattern in patterns if pattern not in data.values()]
    if label_key := _label_key(shards[0]):
        data["label_key"] = label_key
    if names := names_file(root):
        count = count or count_names(root / names)
        data["names"] = names
    numbers = {number for file in shards for _, _, number in list_samples(file, label_key)}
    return ImageLayout(
        f"wds/{root}",
        data,
        f"{len(shards)} shards of webdataset",
        classes_of_numbers(sorted(numbers), count),
        question=question,
        offers=tuple({key: pattern} for key in keys for pattern in rest),
    )


def _patterns(root: Path, shards: Sequence[Path]) -> dict[str, SplitWord | None]:
    """Return a pattern for the shards of each split, with what their names say about it."""
    groups: dict[tuple[Path, str], list[Path]] = {}
    for file in shards:
        name = file.stem.rstrip("0123456789")
        groups.setdefault((file.parent, name), []).append(file)
    patterns = {}
    for (folder, name), files in groups.items():
        below = folder.relative_to(root).as_posix()
        pattern = braces(files) if below == "." else f"{below}/{braces(files)}"
        patterns[pattern] = split_word(name) or split_word(below)
    return patterns


def _shards_of(patterns: Mapping[str, SplitWord | None], split: str) -> str | None:
    """Return the pattern of the shards of a split, if one states it; of val and test, val."""
    own = {p: word for p, word in patterns.items() if word and word.split == split}
    own = {pattern: word for pattern, word in own.items() if not word.doubt}
    val = [pattern for pattern, word in own.items() if word.is_val]
    some = val or [*own]
    return some[0] if len(some) == 1 else None


def _label_key(file: Path) -> str | None:
    """Return the field of the json file that is the class; None if there are cls files.

    Raises:
        ValueError: If no field, or several, may be the class.
    """
    place = None
    for name, offset, size in walk_tar(file):
        if name.endswith(".cls"):
            return None
        place = place or ((offset, size) if name.endswith(".json") else None)
    assert place is not None
    with file.open("rb") as stream:
        stream.seek(place[0])
        values = json.loads(stream.read(place[1]))
    fields = [key for key in values if key.lower() in _FIELDS and isinstance(values[key], int)]
    if len(fields) != 1:
        raise ValueError(
            f"shards: of the fields {listed(values)} in the json files of {file.name}, it is not "
            "known which is the class; set data.label_key"
        )
    return str(fields[0])


def braces(files: Sequence[Path]) -> str:
    """Return the names of some shards as one pattern, such as train-{0000..0009}.tar.

    Example:
        >>> braces([Path("a-08.tar"), Path("a-09.tar"), Path("a-10.tar")])
        'a-{08..10}.tar'
        >>> braces([Path("a-1.tar"), Path("a-3.tar")])
        '{a-1,a-3}.tar'
    """
    stems = [file.stem for file in files]
    if len(stems) == 1:
        return f"{stems[0]}{TAR}"
    matches = [re.fullmatch(r"(.*?)(\d+)", stem) for stem in stems]
    parts = [match.groups() for match in matches if match]
    numbers = [int(number) for _, number in parts]
    alike = (
        len({(prefix, len(number)) for prefix, number in parts}) == 1 == len({*map(bool, matches)})
    )
    if alike and len(parts) == len(stems) and numbers == [*range(numbers[0], numbers[-1] + 1)]:
        return f"{parts[0][0]}{{{parts[0][1]}..{parts[-1][1]}}}{TAR}"
    return f"{{{','.join(stems)}}}{TAR}"


def find_tars(root: Path, count: int | None) -> ImageLayout:
    """Recognise tar files of class folders, or one tar file for each class.

    Raises:
        ValueError: If there are none.
    """
    places = dict(_tar_places(root))
    train, test = sure_names([*places], "train"), sure_names([*places], "test")
    if len(train) == 1 and len(test) == 1:
        folders = places[train[0]]
        data: dict[str, Any] = {"train": train[0], "val": test[0]}
        return ImageLayout(
            str(root), data, f"tar files {train[0]}, {test[0]}", known_classes(folders), folders
        )
    if len(places) != 1:
        raise ValueError(
            f"tar files: which of {listed(places)} is for training, which for the test?"
            if places
            else "tar files: there are none with images in class folders"
        )
    [(name, folders)] = places.items()
    data = {"train": name, **SHARE}
    return ImageLayout(
        str(root), data, f"tar files {name} without a split", known_classes(folders), folders
    )


def _tar_places(root: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each folder of tar files of one class each, and each tar file, with its classes."""
    for name in (".", *subfolders(root)):
        files = [file for file in _tars(root / name) if not _has_labels(file)]
        is_divided = any(split_word(file.stem) for file in files)
        places = files if is_divided or len(files) == 1 else [root / name] if files else []
        for place in places:
            try:
                classes = list_tars(place).classes
            except ValueError:
                continue
            if len(classes) > 1:
                yield place.relative_to(root).as_posix(), classes


def find_parquet(root: Path, count: int | None) -> ImageLayout:
    """Recognise a folder of parquet files, as Hugging Face keeps data sets.

    Raises:
        ValueError: If there are none, or they hold no images with classes.
        ImportError: If their library is not installed.
    """
    files = sorted(root.rglob("*.parquet"))
    if not files:
        raise ValueError("parquet: there are no parquet files")
    table = _parquet_classes(files)
    words = {file: split_word(file.stem) or split_word(file.parent.name) for file in files}
    splits = {split_name(word) for word in words.values() if word}
    data: dict[str, Any] = {"image_key": table.image, "label_key": table.label}
    if "train" in splits and len(splits) > 1:
        test = "validation" if "validation" in splits else "test"
        data = {"train": "train", "val": test, **data}
    elif not splits or splits == {"train"}:
        data = {"train": "train", **SHARE, **data}
    else:
        raise ValueError(f"parquet: no split is called train; there are {listed(splits)}")
    classes = Classes(len(table.names), is_known=True)
    if not table.names:
        classes = classes_of_numbers(table.numbers, count)
    return ImageLayout(f"hfds/{root}", data, f"{len(files)} parquet files", classes)


def split_name(word: SplitWord) -> str:
    """Return what the library of Hugging Face calls a split."""
    return "train" if word.split == "train" else "validation" if word.is_val else "test"


class _ParquetClasses(NamedTuple):
    """The columns of images and classes.

    Attributes:
        image: Column of the images.
        label: Column of the classes.
        names: Names of the classes, where the files tell them.
        numbers: The numbers that occur, where they do not.
    """

    image: str
    label: str
    names: tuple[str, ...]
    numbers: list[int]


def _parquet_classes(files: Sequence[Path]) -> _ParquetClasses:
    """Read which columns of parquet files are images and classes.

    Raises:
        ValueError: If there is not one of each.
        ImportError: If pyarrow is not installed.
    """
    try:
        library = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise ImportError(
            "parquet files need pyarrow, which is not installed; pip install 'rsseg[readers]'",
            name="pyarrow",
        ) from error
    schema: Any = library.read_schema(files[0])
    images = [f.name for f in schema if str(f.type).startswith("struct") and "bytes" in str(f.type)]
    labels = [f.name for f in schema if str(f.type).startswith(("int", "uint"))]
    if len(images) != 1 or len(labels) != 1:
        raise ValueError(
            f"parquet: {files[0].name} has {len(images)} columns of images ({listed(images)}) and "
            f"{len(labels)} of whole numbers ({listed(labels)}), expected one of each; write "
            "data.image_key and data.label_key as in configs/own/huggingface.yaml"
        )
    metadata = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    feature = metadata.get("info", {}).get("features", {}).get(labels[0], {})
    names = tuple(feature.get("names", ()))
    numbers: set[int] = set()
    for file in [] if names else files:
        numbers |= {*library.read_table(file, columns=labels)[labels[0]].unique().to_pylist()}
    return _ParquetClasses(images[0], labels[0], names, sorted(numbers))
