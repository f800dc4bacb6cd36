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
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, get_args

import numpy as np
from pydantic import ValidationError

from datasets.folders import class_names, meaning_of, read_pair
from datasets.nyudv2.mat import load_tables
from datasets.nyudv2.packed import PackedFile, StalePackedError, files_state, write_packed
from datasets.samples import Reader, Sample, Split, check_crop, crop_labels
from rsseg.common.files import read_json, read_text
from rsseg.common.messages import counted
from rsseg.images.preprocessing import VOID, LabelMap
from rsseg.images.reading import IMAGE_SUFFIXES
from rsseg.segmentation.label_files import read_label_values
from rsseg.segmentation.labels import (
    PROVEN,
    LabelDecoder,
    LabelReading,
    check_label_files,
    complete_reading,
    detect_reading,
)
from rsseg.segmentation.pair_lists import Pair

LABEL_FOLDERS: Final = ("labels40", "labels")
OFFICIAL_CLASSES: Final = 40
_SCANNED: Final = 16  # label files that tell the two readings of NYUDv2 apart


class FolderReader(Reader):
    """The samples of one split of a folder.

    Args:
        root: The folder.
        split: "train" or "test".
        crop: Name of a crop, or None.
        classes: Number of classes.
        reading: What the values of the label files mean; None takes it from dataset.json, else
            from the values.
        is_nyudv2: Whether the folder is known to hold NYUDv2: 40 classes have its names then, and
            its values are 1..40 with void 0, or 0..39 with void 255.
        partial: Leave out the samples without image or label, instead of refusing the folder;
            `missing` then names the absent files.
        packed: Read the packed file of the split, if there is one; a stale one is left alone, with
            a warning.
        convention: Splits whose label files tell the label convention; default: both.

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
        reading: LabelReading | None = None,
        is_nyudv2: bool = True,
        partial: bool = False,
        packed: bool = True,
        convention: Sequence[Split] = get_args(Split),
    ) -> None:
        check_crop(crop)
        self.root, self.crop = root.resolve(), crop
        self.packed_path = self.root / f"{split}.packed"
        is_nyudv2 = is_nyudv2 and classes == OFFICIAL_CLASSES
        self.classes = _read_classes(self.root, classes, is_nyudv2=is_nyudv2)
        self.missing = self._find(read_names(self.root / f"{split}.txt"))
        if self.missing and not partial:
            more = " ..." if len(self.missing) > 5 else ""
            raise FileNotFoundError(
                f"{root}: {counted(len(self.missing), 'missing file')} of {split}.txt: "
                f"{', '.join(self.missing[:5])}{more}; add them or take the names out of "
                f"{split}.txt"
            )
        label_files = _labels_of(self.root, convention)
        self.reading, reason = self._find_reading(
            reading, classes, label_files, is_nyudv2=is_nyudv2
        )
        self.decoder = LabelDecoder(self.reading, classes)
        self.meaning = meaning_of(self.decoder, reason)
        check_label_files(label_files, self.reading)
        self._packed: PackedFile | None = None
        try:
            self._packed = self.open_packed() if packed else None
        except StalePackedError as stale:
            warnings.warn(str(stale), stacklevel=2)
        if crop and self.names:
            self[0]  # a crop that does not fit is refused here and not in the first epoch

    def _find_reading(
        self,
        reading: LabelReading | None,
        classes: int,
        paths: Sequence[Path],
        *,
        is_nyudv2: bool,
    ) -> tuple[LabelReading, str]:
        """Return what the values mean, and how that is known."""
        if reading is not None:
            return reading, "stated"
        recorded = _recorded_reading(self.root)
        if recorded is not None:
            return recorded, "as dataset.json says"
        if is_nyudv2:
            return _detect_official(paths), "NYUDv2"
        return detect_reading(paths, classes), PROVEN

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
        pair = Pair(self.names[index], self.image_paths[index], self.label_paths[index])
        return read_pair(pair, self.decoder)

    def read_labels(self, index: int) -> LabelMap:
        """Read the label map of a sample alone."""
        labels = self.decoder.read(self.label_paths[index])
        return crop_labels(labels, self.crop, where=self.where(index))

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
        is_shifted = self.decoder.reading.offset is not None
        reading = str(self.decoder) if is_shifted else str(self.decoder.reading)
        return files_state(self.root, files, reading, *self.names)


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


def _labels_of(root: Path, splits: Sequence[Split]) -> list[Path]:
    """Return the label files that the lists of some splits name."""
    lists = [root / f"{split}.txt" for split in splits]
    names = dict.fromkeys(name for path in lists if path.is_file() for name in _lines(path))
    paths = [_label_folder(root) / f"{name}.png" for name in names]
    return [path for path in paths if path.is_file()]


def _read_classes(root: Path, classes: int, *, is_nyudv2: bool) -> tuple[str, ...]:
    path = root / "classes.txt"
    if is_nyudv2 and not path.is_file():
        return load_tables().classes
    return class_names(path.name if path.is_file() else None, root, classes)


def looks_like_nyudv2(root: Path) -> bool:
    """Return whether a folder names its labels, or its classes, as NYUDv2's are named."""
    names = root / "classes.txt"
    official = load_tables().classes
    return (root / LABEL_FOLDERS[0]).is_dir() or (
        names.is_file() and tuple(_lines(names)) == official
    )


def _detect_official(paths: Sequence[Path]) -> LabelReading:
    """Return which of NYUDv2's two readings the values in some label files are of."""
    step = max(1, len(paths) // _SCANNED)
    values = {path: {*np.unique(read_label_values(path)).tolist()} for path in paths[::step]}
    from_one = [path for path, present in values.items() if OFFICIAL_CLASSES in present]
    from_zero = [path for path, present in values.items() if VOID in present]
    if from_one and from_zero:
        raise ValueError(
            f"{from_one[0]} holds {OFFICIAL_CLASSES}, so classes begin at 1, and {from_zero[0]} "
            f"holds {VOID}, so they begin at 0; write all label maps in one of the two ways"
        )
    if from_one or from_zero:
        return complete_reading(1 if from_one else 0, None)
    return detect_reading(paths, OFFICIAL_CLASSES)


def _recorded_reading(root: Path) -> LabelReading | None:
    """Read the reading from dataset.json; return None where it is not written."""
    path = root / "dataset.json"
    if not path.is_file():
        return None
    facts = read_json(path)
    if not isinstance(facts, dict):
        raise ValueError(f"{path}: not a JSON object; repair or remove it")
    offset, void = facts.get("label_offset"), facts.get("void_value")
    if any(value is not None and type(value) is not int for value in (offset, void)):
        raise ValueError(f"{path}: label_offset and void_value must be whole numbers or absent")
    if offset is None and void is None:
        return None
    try:
        return complete_reading(offset, void)
    except ValidationError as error:
        raise ValueError(
            f"{path}: label_offset {offset} and void_value {void} do not fit"
        ) from error
