"""Layouts of images that users have: made, recognised, read, trained on.

    python -m benchmarks.layouts            # read every layout and compare it with the truth
    python -m benchmarks.layouts --train    # and train on each for an epoch (minutes)

Each layout is made in a temporary folder from the same drawn samples. It works if the labels that
are read equal the drawn ones, pixel by pixel, under the classes that the settings state; a layout
whose label maps cannot be trusted works if it is refused. Layouts of images with a class each, see
`images`, work if every image has its class. The table is that of docs/OWN_DATA.md.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image as Pictures

from benchmarks.layouts.images import (
    CLASSES,
    IMAGE_LAYOUTS,
    NEEDS_WEBDATASET,
    ClassLayout,
    DrawnImage,
    draw_images,
    same_classes,
    settings_of_images,
)
from datasets.init.__main__ import main as init
from datasets.nyudv2.mat import load_tables
from datasets.samples import Split
from datasets.segmentation import TestSamples, open_reader, training_batches
from rsseg.classifiers.config import ImageDataConfig
from rsseg.cli.train import Script
from rsseg.common.config import validate
from rsseg.common.yaml_files import read_yaml
from rsseg.images.preprocessing import VOID, Image, LabelMap
from rsseg.segmentation.config import DataConfig
from rsseg.segmentation.presets import read_preset
from rsseg.segmentation.task import SEGMENTATION

SIZE = (48, 64)
RUN = {
    "architecture": "unet",
    "encoder_name": "resnet18",
    "decoder_channels": 16,
}


class Drawn(NamedTuple):
    """A sample.

    Attributes:
        name: Its name, "SPLIT/NUMBER".
        image: RGB, uint8, shape (H, W, 3).
        labels: Classes and 255 for void, uint8, shape (H, W).
    """

    name: str
    image: Image
    labels: LabelMap

    @property
    def split(self) -> str:
        """Its split, "train" or "test"."""
        return self.name.partition("/")[0]

    @property
    def stem(self) -> str:
        """Its name without the split."""
        return self.name.partition("/")[2]


Make = Callable[[Path, Sequence[Drawn]], None]


@dataclass(frozen=True)
class Layout:
    """A layout.

    Args:
        text: What it is, in words.
        make: Writes it into a folder.
        data: The settings that read it, below `data:`.
        classes: Number of classes.
        void: Whether pixels without class are drawn.
        refused: Part of the message with which it is refused; None if it is read.
        init: What `datasets.init` makes of it, see `recognised`: without the number of classes,
            only the layout of a preset proves what its label maps mean.
        informed: The same where the number of classes is given.
    """

    text: str
    make: Make
    data: dict[str, Any] = field(default_factory=dict)
    classes: int = 5
    void: bool = True
    refused: str | None = None
    init: str = "asks"
    informed: str = "yes"


def draw(classes: int, *, void: bool, seed: int = 0, count: int = 8) -> list[Drawn]:
    """Draw samples in which every class occurs in training and in the test."""
    rng = np.random.default_rng(seed)
    samples = []
    for index in range(count):
        values = rng.permutation(np.resize(np.arange(classes), 12 * 16)).reshape(12, 16)
        labels = np.kron(values, np.ones((4, 4))).astype(np.uint8)
        if void:
            labels[:, :2] = VOID
        image = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        samples.append(Drawn(f"{'test' if index % 4 == 3 else 'train'}/{index:03d}", image, labels))
    return samples


def save(path: Path, pixels: NDArray[Any], mode: str | None = None) -> None:
    """Write a picture into a folder that is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Pictures.fromarray(pixels, mode).save(path)


def shifted(labels: LabelMap, offset: int, void: int) -> NDArray[np.uint8]:
    """Return labels as values that begin at `offset`, with another void."""
    values: NDArray[np.uint8] = np.where(labels == VOID, void, labels + offset).astype(np.uint8)
    return values


def write(
    root: Path,
    samples: Sequence[Drawn],
    *,
    image: str = "images/{split}/{stem}.jpg",
    label: str = "labels/{split}/{stem}.png",
    encode: Callable[[LabelMap], NDArray[Any]] = lambda labels: labels,
    words: tuple[str, str] = ("train", "val"),
    lists: dict[str, str] | None = None,
    line: str = "{stem}",
    head: str | None = None,
) -> None:
    """Write samples by patterns of their files.

    Args:
        root: The folder.
        samples: What is written.
        image: Pattern of the images.
        label: Pattern of the label maps.
        encode: From labels to what is written.
        words: What the folders of the two splits are called.
        lists: File of the list of each split.
        line: Pattern of its lines; the patterns of the files are known as image and label.
        head: Its first line.
    """
    lines: dict[str, list[str]] = {split: [head] if head else [] for split in ("train", "test")}
    for sample in samples:
        values = {"split": words[sample.split == "test"], "stem": sample.stem, "city": "ulm"}
        paths = {"image": image.format(**values), "label": label.format(**values)}
        save(root / paths["image"], sample.image)
        save(root / paths["label"], encode(sample.labels))
        lines[sample.split].append(line.format(**values, **paths))
    for split, place in (lists or {}).items():
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_text("\n".join(lines[split]) + "\n", encoding="utf-8")


def with_palette(root: Path, samples: Sequence[Drawn]) -> None:
    """Write PASCAL VOC's layout: palette PNGs, and lists of both splits."""
    write(
        root,
        samples,
        image="JPEGImages/{stem}.jpg",
        label="SegmentationClass/{stem}.png",
        lists={split: f"ImageSets/Segmentation/{word}.txt" for split, word in _VOC.items()},
    )
    colours = [channel for colour in read_preset("voc")["colours"] for channel in colour]
    for sample in samples:
        picture = Pictures.fromarray(sample.labels, "P")
        picture.putpalette([*colours, *[0] * (765 - len(colours)), 224, 224, 192])
        picture.save(root / f"SegmentationClass/{sample.stem}.png")


_SPLITS: tuple[Split, ...] = ("train", "test")
_FAILURES = ("NO", "NOT REFUSED", "WRONG")
_VOC = {"train": "train", "test": "val"}
_LISTS = {"train": "train.txt", "test": "test.txt"}
# Sorted, as `datasets.init` lists them: which colour is which class, only names would say.
_COLOURS = [[0, 0, 0], [0, 0, 128], [0, 128, 0], [128, 0, 0], [128, 128, 0]]


def in_colour(labels: LabelMap) -> NDArray[np.uint8]:
    """Return labels as colours, white for void."""
    table = np.full((256, 3), 255, dtype=np.uint8)
    table[: len(_COLOURS)] = _COLOURS
    return table[labels]


def with_alpha(labels: LabelMap) -> NDArray[np.uint8]:
    """Return labels as grey values with an opaque alpha channel."""
    return np.stack([labels, np.full_like(labels, 255)], axis=-1)


def ids_of_16_bits(labels: LabelMap) -> NDArray[np.uint16]:
    """Return labels as numbers of 16 bits, far apart."""
    return np.where(labels == VOID, 0, 1000 + 100 * labels.astype(np.uint16)).astype(np.uint16)


def cityscapes_ids(labels: LabelMap) -> NDArray[np.uint8]:
    """Return labels as the published numbers of Cityscapes, void as several of the rest."""
    of_class = {index: value for value, index in read_preset("cityscapes")["labels"]["map"].items()}
    table = np.full(256, 3, dtype=np.uint8)  # "out of roi"
    for index, value in of_class.items():
        table[index] = value
    return table[labels]


def as_jpeg(root: Path, samples: Sequence[Drawn]) -> None:
    """Write label maps as JPEG, which changes their values."""
    write(root, samples, label="labels/{split}/{stem}.jpg", encode=lambda labels: labels * 9)


def nyudv2_folder(root: Path, samples: Sequence[Drawn]) -> None:
    """Write NYUDv2 as it is found: values 0..40, lists, classes."""
    write(
        root,
        samples,
        image="images/{stem}.jpg",
        label="labels40/{stem}.png",
        encode=partial(shifted, offset=1, void=0),
        lists=_LISTS,
    )
    (root / "classes.txt").write_text("\n".join(load_tables().classes), encoding="utf-8")


def of_splits(images: str, labels: str, train: str = "train", test: str = "val") -> dict[str, Any]:
    """Return the settings of two splits whose patterns differ in a word."""
    return {
        key: {"images": images.format(word), "labels": labels.format(word)}
        for key, word in (("train", train), ("test", test))
    }


def _from_lists(images: str, labels: str, suffix: str = ".txt") -> dict[str, Any]:
    where = {"images": images, "labels": labels}
    return {key: {**where, "list": f"{key}{suffix}"} for key in ("train", "test")}


_OFFSET = {"offset": 0, "void": [255]}
_BESIDE = of_splits("images/{}", "labels/{}")

LAYOUTS: dict[str, Layout] = {
    "splits": Layout("images/SPLIT and labels/SPLIT, 255 is void", write, _BESIDE),
    "splits_inside": Layout(
        "SPLIT/images and SPLIT/masks",
        partial(write, image="{split}/images/{stem}.jpg", label="{split}/masks/{stem}.png"),
        of_splits("{}/images", "{}/masks"),
    ),
    "suffix": Layout(
        "one folder, label maps NAME_mask.png",
        partial(write, image="{stem}.png", label="{stem}_mask.png"),
        {"train": {"images": "*.png", "labels": "*_mask.png"}, "test_share": 0.3},
    ),
    "nested": Layout(
        "scenes of any depth: SCENE/rgb and SCENE/sem",
        partial(write, image="a/{stem}/rgb/{stem}.jpg", label="a/{stem}/sem/{stem}.png"),
        {"train": {"images": "**/rgb/*.jpg", "labels": "**/sem/*.png"}, "test_share": 0.3},
    ),
    "from_one": Layout(
        "classes from 1, 0 is void",
        partial(write, encode=partial(shifted, offset=1, void=0)),
        {**_BESIDE, "labels": {"offset": 1, "void": [0]}},
        informed="asks",
    ),
    "binary_255": Layout(
        "masks of 0 and 255",
        partial(write, encode=lambda labels: labels * 255),
        {**_BESIDE, "preset": "binary"},
        classes=2,
        void=False,
        informed="asks",
    ),
    "binary_1": Layout(
        "masks of 0 and 1",
        write,
        {**_BESIDE, "preset": "binary"},
        classes=2,
        void=False,
        informed="asks",
    ),
    "one_bit": Layout(
        "PNGs of 1 bit",
        partial(write, encode=lambda labels: labels.astype(np.bool_)),
        {**_BESIDE, "preset": "binary"},
        classes=2,
        void=False,
        informed="asks",
    ),
    "sixteen_bits": Layout(
        "PNGs of 16 bits, any numbers",
        partial(write, encode=ids_of_16_bits),
        {**_BESIDE, "labels": {"map": {1000 + 100 * i: i for i in range(5)}, "void": [0]}},
        informed="asks",
    ),
    "grey_alpha": Layout("grey with an alpha channel", partial(write, encode=with_alpha), _BESIDE),
    "colours": Layout(
        "a colour for each class, RGB",
        partial(write, encode=in_colour),
        {**_BESIDE, "labels": {"colours": _COLOURS, "void": [[255, 255, 255]]}},
        informed="asks",
    ),
    "capitals": Layout(
        "file names in capitals, .JPG and .PNG",
        partial(write, image="images/{split}/{stem}.JPG", label="labels/{split}/{stem}.PNG"),
        _BESIDE,
    ),
    "names_list": Layout(
        "lists of names, one a line",
        partial(write, image="img/{stem}.jpg", label="gt/{stem}.png", lists=_LISTS),
        _from_lists("img", "gt"),
    ),
    "pairs_list": Layout(
        "lists of two columns, paths of another machine",
        partial(
            write,
            image="img/{stem}.jpg",
            label="gt/{stem}.png",
            lists=_LISTS,
            line="/data/set/{image} /data/set/{label}",
        ),
        {key: {"list": f"{key}.txt"} for key in ("train", "test")},
    ),
    "csv": Layout(
        "CSV files with a head",
        partial(
            write,
            image="img/{stem}.jpg",
            label="gt/{stem}.png",
            lists={"train": "train.csv", "test": "test.csv"},
            line="{image},{label}",
            head="image,mask",
        ),
        {key: {"list": f"{key}.csv"} for key in ("train", "test")},
    ),
    "camvid": Layout(
        "CamVid, 0..10 and 11 void",
        partial(
            write,
            image="{split}/{stem}.png",
            label="{split}annot/{stem}.png",
            encode=partial(shifted, offset=0, void=11),
            words=("train", "test"),
        ),
        {"preset": "camvid"},
        classes=11,
        init="yes",
    ),
    "voc": Layout("PASCAL VOC 2012", with_palette, {"preset": "voc"}, classes=21, init="yes"),
    "cityscapes": Layout(
        "Cityscapes, labelIds",
        partial(
            write,
            image="leftImg8bit/{split}/{city}/{city}_{stem}_leftImg8bit.png",
            label="gtFine/{split}/{city}/{city}_{stem}_gtFine_labelIds.png",
            encode=cityscapes_ids,
        ),
        {"preset": "cityscapes"},
        classes=19,
        init="yes",
    ),
    "ade20k": Layout(
        "ADE20K, 0 void and 1..150",
        partial(
            write,
            image="images/{split}/{stem}.jpg",
            label="annotations/{split}/{stem}.png",
            encode=partial(shifted, offset=1, void=0),
            words=("training", "validation"),
        ),
        {"preset": "ade20k"},
        classes=150,
        init="yes",
    ),
    "nyudv2": Layout(
        "NYUDv2 as a folder, 0 void and 1..40",
        nyudv2_folder,
        {"preset": "nyudv2"},
        classes=40,
        init="yes",
    ),
    "doubtful": Layout(
        "0..5 for five classes, nothing stated",
        partial(write, encode=partial(shifted, offset=0, void=5)),
        _BESIDE,
        refused="labels: {offset: 1, void: [0]}",
        informed="asks",
    ),
    "jpeg": Layout(
        "label maps as JPEG",
        as_jpeg,
        {**_BESIDE, "labels": _OFFSET},
        refused="JPEG changes the values",
        init="no",
        informed="no",
    ),
}


def same_labels(data: DataConfig, classes: int, samples: Sequence[Drawn]) -> bool:
    """Return whether every sample is in one split, with its labels."""
    truth = {sample.stem: sample.labels for sample in samples}
    seen: list[str] = []
    for split in _SPLITS:
        for sample in open_reader(data, split, classes):
            # A name holds the folders that the wildcards stand for.
            stem = sample.name.rpartition("/")[2].removeprefix("ulm_")
            if not np.array_equal(sample.labels, truth[stem]):
                return False
            seen.append(stem)
    return sorted(seen) == sorted(truth)


def settings_of(layout: Layout, root: Path) -> DataConfig:
    """Return the settings that read a layout."""
    return validate(DataConfig, {"root": str(root), **layout.data}, "layout")


def recognised(
    root: Path, out: Path, works: Callable[[dict[str, Any]], bool], *, classes: int | None = None
) -> str:
    """Return what `python -m datasets.init` makes of a folder.

    Args:
        root: The folder.
        out: The configuration to write.
        works: Whether a configuration, as a mapping, reads the truth.
        classes: The number of classes to give.

    Returns:
        "yes": without a question, it reads the truth; "asks": one of the answers that it offers
        does; "no": it is refused; "WRONG": neither it nor an answer reads the truth.
    """
    text = io.StringIO()
    options = ["--classes", str(classes)] if classes else []
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        status = init([str(root), "--out", str(out), *options])
    if status:
        return "no"
    values = read_yaml(out)
    if "QUESTION" not in out.read_text(encoding="utf-8"):
        return "yes" if works(values) else "WRONG"
    return "asks" if any(works(answer) for answer in answers(values, out)) else "WRONG"


def answers(values: dict[str, Any], out: Path) -> Iterator[dict[str, Any]]:
    """Yield a configuration with each answer that it offers for the classes."""
    lines = out.read_text(encoding="utf-8").splitlines()
    number = re.compile(r"(\d+) class(?:es)?[:,]|\? (\d+), if")
    for line in lines:
        match = number.search(line)
        if match is None:
            continue
        data = dict(values["data"])
        if line.startswith("  # "):
            data |= yaml.safe_load(line.removeprefix("  # "))
        yield {**values, "data": data, "model": {"classes": int(match[1] or match[2])}}


def reads_labels(values: dict[str, Any], samples: Sequence[Drawn]) -> bool:
    """Return whether a configuration reads the drawn labels."""
    data = validate(DataConfig, values["data"], "my.yaml")
    try:
        return same_labels(data, values["model"]["classes"], samples)
    except ValueError:
        return False


def reads_classes(values: dict[str, Any], samples: Sequence[DrawnImage]) -> bool:
    """Return whether a configuration reads the drawn images with their classes."""
    data = validate(ImageDataConfig, values["data"], "my.yaml")
    try:
        return same_classes(data, values["model"]["classes"], samples)
    except ValueError:
        return False


def refusal(layout: Layout, root: Path, samples: Sequence[Drawn]) -> str:
    """Return the message with which a layout is refused, "" if it is read."""
    try:
        same_labels(settings_of(layout, root), layout.classes, samples)
    except (ValueError, OSError) as error:
        return str(error)
    return ""


def run_settings(data: Mapping[str, Any], classes: int) -> dict[str, Any]:
    """Return the settings of an epoch over some data, as small as can be."""
    return {
        "data": dict(data),
        "model": {**RUN, "classes": classes},
        "resolutions": [64, 32],
        "augmentation": {"shorter_side": 64, "crop": 64},
        "epochs": 1,
        "batch_size": 2,
        "optim": {"lr": 0.01},
        "workers": 0,
        "device": "cpu",
    }


def trains(layout: Layout, root: Path, folder: Path) -> bool:
    """Train on a layout for an epoch; return whether that ends well."""
    config = folder / "run.yaml"
    settings = run_settings({"root": str(root), **layout.data}, layout.classes)
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        script = Script(SEGMENTATION, training_batches, TestSamples, "train_seg.py")
        return script.main([str(config), "--run", str(folder / "run")]) == 0


def rows(*, train: bool) -> Iterator[list[str]]:
    """Yield the lines of the table: layout, settings, recognised, works."""
    for layout in LAYOUTS.values():
        with tempfile.TemporaryDirectory() as name:
            yield _row(layout, Path(name), train=train)
    for key, images in IMAGE_LAYOUTS.items():
        if key in NEEDS_WEBDATASET and importlib.util.find_spec("webdataset") is None:
            continue
        with tempfile.TemporaryDirectory() as name:
            yield _image_row(images, Path(name))


def _row(layout: Layout, folder: Path, *, train: bool) -> list[str]:
    samples, root = draw(layout.classes, void=layout.void), folder / "data"
    layout.make(root, samples)
    if layout.refused is not None:
        works = layout.refused in refusal(layout, root, samples)
        seen = "refused" if works else "NOT REFUSED"
    else:
        works = same_labels(settings_of(layout, root), layout.classes, samples)
        works = works and (not train or trains(layout, root, folder))
        seen = "yes" if works else "NO"
    test = partial(reads_labels, samples=samples)
    return [layout.text, _settings_text(layout.data), *_both(folder, test, layout.classes), seen]


def _image_row(layout: ClassLayout, folder: Path) -> list[str]:
    samples, root = draw_images(), folder / "data"
    layout.make(root, samples)
    works = same_classes(settings_of_images(layout, root), len(CLASSES), samples)
    test = partial(reads_classes, samples=samples)
    both = _both(folder, test, len(CLASSES))
    data = {**layout.data, "root": str(layout.data["root"]).replace("{root}", "PATH")}
    return [layout.text, _settings_text(data), *both, "yes" if works else "NO"]


def _both(folder: Path, works: Callable[[dict[str, Any]], bool], classes: int) -> list[str]:
    """Return what init makes of a folder, without and with the number of classes."""
    names = {"my.yaml": None, "informed.yaml": classes}
    return [recognised(folder / "data", folder / n, works, classes=k) for n, k in names.items()]


def _settings_text(data: Mapping[str, Any]) -> str:
    return f"`{json.dumps(data)}`".replace('"', "")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; return 1 if a layout does not work."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", action="store_true", help="train on each for an epoch")
    options = parser.parse_args(arguments)
    lines = list(rows(train=options.train))
    print("| layout | below `data:` | `datasets.init` | with `--classes` | works |")
    print("| --- | --- | --- | --- | --- |")
    for line in lines:
        print(f"| {' | '.join(line)} |")
    return int(any(cell in _FAILURES for line in lines for cell in line))
