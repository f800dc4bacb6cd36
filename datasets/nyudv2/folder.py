"""Reader of a folder of images and label PNGs, as `prepare` writes it or as found elsewhere.

images/NAME.jpg | .jpeg | .png
labels40/NAME.png or labels/NAME.png
train.txt, test.txt     one NAME per line
classes.txt             optional, one class per line
dataset.json            optional, the label convention: {"label_offset": 0, "void_value": 255}
train.packed, ...       optional, the samples of a list, decoded (see `packed`): read instead
                        of the files above while these are as they were
"""

from __future__ import annotations

import warnings
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Final, get_args

from datasets.nyudv2.mat import load_tables
from datasets.nyudv2.packed import PackedFile, StalePackedError, files_state, write_packed
from datasets.samples import Reader, Sample, Split, check_crop
from rsseg.common.files import read_json, read_text
from rsseg.images.reading import read_image
from rsseg.segmentation.labels import (
    LabelConvention,
    complete_convention,
    detect_convention,
    read_label_values,
)

IMAGE_SUFFIXES: Final = (".jpg", ".png", ".jpeg")
LABEL_FOLDERS: Final = ("labels40", "labels")


class FolderReader(Reader):
    """The samples of one split of a folder.

    Args:
        root: The folder.
        split: "train" or "test".
        crop: Name of a crop, or None.
        classes: Number of classes.
        label_offset: Value of the first class in the label files; None takes it from
            dataset.json, else from the files.
        void_value: Value of void in the label files; None as above.
        partial: Leave out the samples without image or label, instead of refusing the folder;
            `missing` then names the absent files.
        packed: Read the packed file of the split, if there is one; a stale one is left alone, with
            a warning.

    Raises:
        ValueError: If lists, classes, label convention or packed file are faulty.
        FileNotFoundError: If a list, an image or a label is missing.
    """

    def __init__(
        self,
        root: Path,
        split: Split,
        *,
        crop: str | None = None,
        classes: int = 40,
        label_offset: int | None = None,
        void_value: int | None = None,
        partial: bool = False,
        packed: bool = True,
    ) -> None:
        check_crop(crop)
        self.root, self.crop = root.resolve(), crop
        self.packed_path = self.root / f"{split}.packed"
        self.classes = _read_classes(self.root, classes)
        self.missing = self._find(read_names(self.root / f"{split}.txt"))
        if self.missing and not partial:
            more = " ..." if len(self.missing) > 5 else ""
            raise FileNotFoundError(
                f"{root}: {len(self.missing)} files of {split}.txt are missing: "
                f"{', '.join(self.missing[:5])}{more}; add them or take the names out of "
                f"{split}.txt"
            )
        self.convention = (
            complete_convention(classes, label_offset, void_value)
            or _recorded_convention(self.root, classes)
            or detect_convention(_labels_of_all_splits(self.root), classes)
        )
        self._packed: PackedFile | None = None
        try:
            self._packed = self.open_packed() if packed else None
        except StalePackedError as stale:
            warnings.warn(str(stale), stacklevel=2)
        if crop and self.names:
            self[0]  # a crop that does not fit is refused here and not in the first epoch

    def _find(self, names: list[str]) -> tuple[str, ...]:
        """Set the files of each name, and return those that are missing."""
        labels = _label_folder(self.root)
        samples: list[tuple[str, Path, Path]] = []
        missing: list[str] = []
        for name in names:
            image = find_image(self.root / "images", name)
            label = labels / f"{name}.png"
            if image and label.is_file():
                samples.append((name, image, label))
                continue
            if not image:
                missing.append(f"images/{name}.jpg (or .png, .jpeg)")
            if not label.is_file():
                missing.append(f"{labels.name}/{name}.png")
        self.names = tuple(name for name, _, _ in samples)
        self.image_paths = tuple(image for _, image, _ in samples)
        self.label_paths = tuple(label for _, _, label in samples)
        return tuple(missing)

    def where(self, index: int) -> str:
        """Return the image file of a sample."""
        return str(self.image_paths[index])

    def read(self, index: int) -> Sample:
        """Read an image and its labels at full size."""
        if self._packed:
            return self._packed.read(index)
        image = read_image(self.image_paths[index])
        path = self.label_paths[index]
        labels = self.convention.decode(read_label_values(path), where=path)
        if image.shape[:2] != labels.shape:
            sizes = [f"{width}x{height}" for height, width in (image.shape[:2], labels.shape)]
            raise ValueError(
                f"{self.where(index)} has {sizes[0]} pixels and {path} {sizes[1]}; an image and "
                "its labels must have one size"
            )
        return Sample(image, labels, self.names[index])

    def open_packed(self) -> PackedFile | None:
        """Open the packed file of these samples; None if there is none.

        Raises:
            StalePackedError: If the list, an image, a label file or the label convention is not
                what it was made of.
            ValueError: If it is damaged.
            OSError: If it cannot be read.
        """
        if not self.packed_path.is_file():
            return None
        packed = PackedFile(self.packed_path, classes=len(self.classes))
        if (packed.state, packed.names) != (self._state(), self.names):
            raise StalePackedError(
                f"{self.packed_path}: stale, the list, an image, a label file or the label "
                "convention has changed since; the files themselves are read, slowly, until "
                f"python -m datasets.nyudv2 prepare SOURCE {self.root} has written it again"
            )
        return packed

    def pack(self) -> bool:
        """Write the packed file of these samples, unless there is one that open_packed opens.

        Returns:
            Whether it was written now.

        Raises:
            ValueError: If a sample is faulty.
            OSError: If reading or writing fails; the file is as it was before.
        """
        with suppress(ValueError):  # stale or damaged: written anew
            if self.open_packed():
                return False
        write_packed(self.packed_path, self, self._state())
        return True

    def _state(self) -> str:
        """Hash what the samples come from."""
        files = [*self.image_paths, *self.label_paths]
        return files_state(self.root, files, str(self.convention), *self.names)


def read_names(path: Path) -> list[str]:
    """Read a list of names, one per line.

    Raises:
        ValueError: If the list is empty or names a sample twice.
        FileNotFoundError: If the list does not exist.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: missing; expected a list with one name per line")
    names = _lines(path)
    if not names:
        raise ValueError(f"{path}: empty; expected one name per line")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{path}: names {twice[0]} twice; expected each name once")
    return names


def find_image(folder: Path, name: str) -> Path | None:
    """Return the path of the image of a name; None if it does not exist.

    Raises:
        ValueError: If there are several.
    """
    paths = [folder / f"{name}{suffix}" for suffix in IMAGE_SUFFIXES]
    existing = [path for path in paths if path.is_file()]
    if len(existing) > 1:
        both = " and ".join(path.name for path in existing)
        raise ValueError(f"{folder}: both {both} exist; keep one image per name")
    return existing[0] if existing else None


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]


def _label_folder(root: Path) -> Path:
    folders = [folder for folder in LABEL_FOLDERS if (root / folder).is_dir()]
    return root / (folders or LABEL_FOLDERS)[0]


def _labels_of_all_splits(root: Path) -> list[Path]:
    """Return the label files of all lists: both splits share one convention."""
    lists = [root / f"{split}.txt" for split in get_args(Split)]
    names = dict.fromkeys(name for path in lists if path.is_file() for name in _lines(path))
    paths = [_label_folder(root) / f"{name}.png" for name in names]
    return [path for path in paths if path.is_file()]


def _read_classes(root: Path, classes: int) -> tuple[str, ...]:
    path = root / "classes.txt"
    if path.is_file():
        names = tuple(_lines(path))
        if len(names) != classes:
            raise ValueError(
                f"{path}: names {len(names)} classes, expected {classes}; set the number of "
                "classes, and leave void out of the list"
            )
        return names
    official = load_tables().classes
    return official if classes == len(official) else tuple(f"class {i}" for i in range(classes))


def _recorded_convention(root: Path, classes: int) -> LabelConvention | None:
    """Read the convention from dataset.json; return None where it is not written."""
    path = root / "dataset.json"
    if not path.is_file():
        return None
    facts = read_json(path)
    if not isinstance(facts, dict):
        raise ValueError(f"{path}: not a JSON object; repair or remove it")
    offset, void = facts.get("label_offset"), facts.get("void_value")
    if any(value is not None and type(value) is not int for value in (offset, void)):
        raise ValueError(f"{path}: label_offset and void_value must be whole numbers or absent")
    try:
        return complete_convention(classes, offset, void)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
