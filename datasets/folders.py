"""Reader of images and label maps in any layout, as a configuration describes it.

Where the files are is found by `rsseg.segmentation.pairs`, what their values mean is read by
`rsseg.segmentation.labels`; here they become samples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from datasets.samples import Reader, Sample, Split, check_crop, crop_labels
from rsseg.common.files import read_text
from rsseg.images.preprocessing import LabelMap
from rsseg.images.reading import read_image
from rsseg.segmentation.config import DataConfig
from rsseg.segmentation.labels import (
    LabelDecoder,
    LabelReading,
    check_binary,
    detect_reading,
)
from rsseg.segmentation.pairs import Pair, find_pairs


class FoldersReader(Reader):
    """The samples of one split.

    Args:
        data: Where they are and what the label maps mean.
        split: "train" or "test".
        classes: Number of classes.

    Attributes:
        decoder: How their values are read.
        skipped: Images without label map that were left out.

    Raises:
        ValueError: If the files do not pair, their values prove no reading, or the names do not
            fit the number of classes.
        FileNotFoundError: If a folder or a file is missing.
    """

    def __init__(self, data: DataConfig, split: Split, classes: int) -> None:
        check_crop(data.crop)
        self.crop = data.crop
        self._root = Path(data.root).expanduser()
        self.pairs, self.skipped = _pairs(data, self._root, split)
        self.names = tuple(pair.name for pair in self.pairs)
        self.classes = class_names(data.names, self._root, classes)
        self.reading = data.labels or self._detected(data, split, classes)
        self.decoder = LabelDecoder(self.reading, classes)
        self.meaning = meaning_of(self.decoder, "stated" if data.labels else "proven by the values")
        if self.reading.binary:
            check_binary(self.label_paths)

    @property
    def label_paths(self) -> tuple[Path, ...]:
        """The label file of each sample."""
        return tuple(pair.label for pair in self.pairs)

    def read_labels(self, index: int) -> LabelMap:
        """Read the label map of a sample alone."""
        labels = self.decoder.read(self.pairs[index].label)
        return crop_labels(labels, self.crop, where=self.where(index))

    def _detected(self, data: DataConfig, split: Split, classes: int) -> LabelReading:
        """Return what the values of both splits prove: they share one reading."""
        other, _ = _pairs(data, self._root, "test" if split == "train" else "train")
        paths = dict.fromkeys([*self.label_paths, *(pair.label for pair in other)])
        return detect_reading(sorted(paths), classes)

    def where(self, index: int) -> str:
        """Return the image file of a sample."""
        return str(self.pairs[index].image)

    def read(self, index: int) -> Sample:
        """Read an image and its label map at full size."""
        return read_pair(self.pairs[index], self.decoder)


def read_pair(pair: Pair, decoder: LabelDecoder) -> Sample:
    """Read an image and its label map.

    Raises:
        ValueError: If one of them is damaged, their sizes differ, or a value has no meaning.
        OSError: If a file cannot be opened.
    """
    image, labels = read_image(pair.image), decoder.read(pair.label)
    if image.shape[:2] != labels.shape:
        sizes = [f"{width}x{height}" for height, width in (image.shape[:2], labels.shape)]
        raise ValueError(
            f"{pair.image} has {sizes[0]} pixels and {pair.label} {sizes[1]}; an image and its "
            "labels must have one size"
        )
    return Sample(image, labels, pair.name)


def meaning_of(decoder: LabelDecoder, reason: str) -> str:
    """Return what the values of label files mean and how that is known, in words."""
    return f"{decoder} ({reason}: labels: {decoder.reading})"


def class_names(names: str | Sequence[str] | None, root: Path, classes: int) -> tuple[str, ...]:
    """Return the names of the classes: as given, from a file with one a line, or by number.

    Raises:
        ValueError: If there are more or fewer names than classes.
        FileNotFoundError: If there is no such file.
    """
    if names is None:
        return tuple(f"class {index}" for index in range(classes))
    source = "data.names"
    if isinstance(names, str):
        source = str(root / names)
        names = [line.strip() for line in read_text(root / names).splitlines() if line.strip()]
    if len(names) != classes:
        raise ValueError(
            f"{source}: names {len(names)} classes, expected {classes}; set the number of classes "
            f"(model.classes: {len(names)}), and leave void out of the list"
        )
    return tuple(names)


def _pairs(data: DataConfig, root: Path, split: Split) -> tuple[list[Pair], int]:
    assert data.train is not None
    where = data.test if split == "test" and data.test is not None else data.train
    pairs, skipped = find_pairs(root, where, skip=data.unlabelled == "skip")
    if data.test_share is None:
        return pairs, skipped
    parts: dict[bool, list[Pair]] = {True: [], False: []}
    for pair in pairs:
        parts[is_kept_for_test(pair.name, data.test_share)].append(pair)
    if not parts[True] or not parts[False]:
        raise ValueError(
            f"data.test_share {data.test_share:g} of {len(pairs)} samples leaves "
            f"{len(parts[False])} for training and {len(parts[True])} for the test; change it, or "
            "name the test samples in data.test"
        )
    return parts[split == "test"], skipped


def is_kept_for_test(name: str, share: float) -> bool:
    """Return whether a sample belongs to the test, by its name: new samples move no other."""
    digest = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(digest[:4], "big") < share * 2**32
