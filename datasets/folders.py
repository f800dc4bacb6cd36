"""Reader of images and label maps in any layout, as a configuration describes it.

Where the files are is found by `rsseg.segmentation.pairs`, what their values mean is read by
`rsseg.segmentation.labels`; here they become samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datasets.samples import (
    Reader,
    Sample,
    Split,
    check_crop,
    crop_labels,
    is_kept_for_test,
)
from rsseg.common.files import read_text
from rsseg.common.messages import counted, listed
from rsseg.images.preprocessing import Image, LabelMap
from rsseg.images.reading import read_image, read_orientation
from rsseg.segmentation.config import DataConfig, Orientation
from rsseg.segmentation.labels import (
    PROVEN,
    LabelDecoder,
    check_label_files,
    detect_reading,
)
from rsseg.segmentation.pair_lists import Pair
from rsseg.segmentation.pairs import find_images, find_pairs


class FoldersReader(Reader):
    """The samples of one split.

    Args:
        data: Where they are and what the label maps mean.
        split: "train" or "test".
        classes: Number of classes.
        train_labels: Whether the training images have label maps, which then have to prove the
            same reading as those of the test.

    Attributes:
        decoder: How their values are read.
        skipped: Images without label map that were left out.

    Raises:
        ValueError: If the files do not pair, their values prove no reading, or the names do not
            fit the number of classes.
        FileNotFoundError: If a folder or a file is missing.
    """

    def __init__(
        self, data: DataConfig, split: Split, classes: int, *, train_labels: bool = True
    ) -> None:
        check_crop(data.crop)
        self.crop = data.crop
        self._root, self._orientation = Path(data.root).expanduser(), data.orientation
        self.pairs, self.skipped = _pairs(data, self._root, split)
        self.names = tuple(pair.name for pair in self.pairs)
        self.classes = class_names(data.names, self._root, classes)
        paths = self._paths_of_both(data, split) if train_labels else self._own_paths(data)
        self.reading = data.labels or detect_reading(paths, classes)
        self.decoder = LabelDecoder(self.reading, classes)
        self.meaning = meaning_of(self.decoder, "stated" if data.labels else PROVEN)
        check_label_files(paths, self.reading)

    @property
    def label_paths(self) -> tuple[Path, ...]:
        """The label file of each sample."""
        return tuple(pair.label for pair in self.pairs)

    def read_labels(self, index: int) -> LabelMap:
        """Read the label map of a sample alone."""
        labels = self.decoder.read(self.pairs[index].label)
        return crop_labels(labels, self.crop, where=self.where(index))

    def _paths_of_both(self, data: DataConfig, split: Split) -> list[Path]:
        """Return the label files of both splits, which share one reading and no image."""
        other, _ = _pairs(data, self._root, "test" if split == "train" else "train")
        self._check_shared(data, split, {pair.image for pair in other})
        return sorted({*self.label_paths, *(pair.label for pair in other)})

    def _own_paths(self, data: DataConfig) -> list[Path]:
        """Return the label files of the test, whose images are not among those of the training."""
        assert data.train is not None
        if data.test_share is None:
            train = find_images(self._root, data.train)
            self._check_shared(data, "test", {image.image for image in train})
        return sorted(self.label_paths)

    def _check_shared(self, data: DataConfig, split: Split, other: set[Path]) -> None:
        shared = {pair.image for pair in self.pairs} & other
        if shared and not data.allow_shared:
            raise ValueError(
                f"{counted(len(shared), 'image')} of the {split} samples "
                f"({listed(map(str, shared), 3)}) would be trained on and tested on; correct "
                "data.train and data.test, or set data.allow_shared: true if that is meant"
            )

    def where(self, index: int) -> str:
        """Return the image file of a sample."""
        return str(self.pairs[index].image)

    def read(self, index: int) -> Sample:
        """Read an image and its label map at full size."""
        return read_pair(self.pairs[index], self.decoder, self._orientation)


def read_pair(pair: Pair, decoder: LabelDecoder, orientation: Orientation | None = None) -> Sample:
    """Read an image and its label map.

    Args:
        pair: Their files.
        decoder: What the values of the label map mean.
        orientation: Whether label maps are of the pixels as turned by the orientation that a
            camera noted in the image ("applied"), or as they lie in the file ("ignored"). None: as
            their sizes prove it.

    Raises:
        ValueError: If one of them is damaged, their sizes differ, a value has no meaning, or the
            orientation is in doubt.
        OSError: If a file cannot be opened.
    """
    labels = decoder.read(pair.label)
    image = read_image(pair.image, upright=orientation != "ignored")
    noted = read_orientation(pair.image) if orientation is None else 1
    if noted != 1:
        image = _as_labelled(pair, image, labels.shape, noted)
    if image.shape[:2] != labels.shape:
        note = f" (its EXIF orientation {noted} is applied)" if noted != 1 else ""
        sizes = [f"{width}x{height}" for height, width in (image.shape[:2], labels.shape)]
        raise ValueError(
            f"{pair.image} has {sizes[0]} pixels{note} and {pair.label} {sizes[1]}; an image and "
            "its labels must have one size"
        )
    return Sample(image, labels, pair.name)


def _as_labelled(pair: Pair, image: Image, size: tuple[int, ...], noted: int) -> Image:
    """Return an image turned or not, as the size of its label map proves."""
    raw = read_image(pair.image, upright=False)
    if (image.shape[:2] == size) != (raw.shape[:2] == size):
        return image if image.shape[:2] == size else raw
    if image.shape[:2] != size:
        return image
    raise ValueError(
        f"{pair.image} notes the EXIF orientation {noted}, and whether {pair.label} is of the "
        "image as viewers show it or of its pixels as they lie in the file is not known; choose "
        "by one of these lines below data:\n"
        "    orientation: applied    # label maps fit the image as viewers show it\n"
        "    orientation: ignored    # label maps fit the pixels as they lie in the file"
    )


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
            f"{source}: names {counted(len(names), 'class')}, expected {classes}; set their number "
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
            f"data.test_share {data.test_share:g} of {counted(len(pairs), 'sample')} leaves "
            f"{len(parts[False])} for training and {len(parts[True])} for the test; change it, or "
            "name the test samples in data.test"
        )
    return parts[split == "test"], skipped
