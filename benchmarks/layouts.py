"""Layouts of images and label maps that users have: made, recognised, read, trained on.

    python benchmarks/layouts.py            # read every layout and compare it with the truth
    python benchmarks/layouts.py --train    # and train on each for an epoch (minutes)

Each layout is made in a temporary folder from the same drawn samples. It works if the labels that
are read equal the drawn ones, pixel by pixel, under the classes that the settings state; a layout
whose label maps cannot be trusted works if it is refused. The table is that of docs/OWN_DATA.md.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image as Pictures

if not __package__:  # Run as a script: nothing is installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from datasets.init.__main__ import main as init
from datasets.nyudv2.mat import load_tables
from datasets.samples import Split
from datasets.segmentation import TestSamples, open_reader, training_batches
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
    """

    text: str
    make: Make
    data: dict[str, Any] = field(default_factory=dict)
    classes: int = 5
    void: bool = True
    refused: str | None = None


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
_COLOURS = [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128]]


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
    ),
    "binary_255": Layout(
        "masks of 0 and 255",
        partial(write, encode=lambda labels: labels * 255),
        {**_BESIDE, "preset": "binary"},
        classes=2,
        void=False,
    ),
    "binary_1": Layout(
        "masks of 0 and 1", write, {**_BESIDE, "preset": "binary"}, classes=2, void=False
    ),
    "one_bit": Layout(
        "PNGs of 1 bit",
        partial(write, encode=lambda labels: labels.astype(np.bool_)),
        {**_BESIDE, "preset": "binary"},
        classes=2,
        void=False,
    ),
    "sixteen_bits": Layout(
        "PNGs of 16 bits, any numbers",
        partial(write, encode=ids_of_16_bits),
        {**_BESIDE, "labels": {"map": {1000 + 100 * i: i for i in range(5)}, "void": [0]}},
    ),
    "grey_alpha": Layout("grey with an alpha channel", partial(write, encode=with_alpha), _BESIDE),
    "colours": Layout(
        "a colour for each class, RGB",
        partial(write, encode=in_colour),
        {**_BESIDE, "labels": {"colours": _COLOURS, "void": [[255, 255, 255]]}},
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
    ),
    "voc": Layout("PASCAL VOC 2012", with_palette, {"preset": "voc"}, classes=21),
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
    ),
    "nyudv2": Layout(
        "NYUDv2 as a folder, 0 void and 1..40", nyudv2_folder, {"preset": "nyudv2"}, classes=40
    ),
    "doubtful": Layout(
        "0..5 for five classes, nothing stated",
        partial(write, encode=partial(shifted, offset=0, void=5)),
        _BESIDE,
        refused="labels: {offset: 1, void: [0]}",
    ),
    "jpeg": Layout(
        "label maps as JPEG",
        as_jpeg,
        {**_BESIDE, "labels": _OFFSET},
        refused="JPEG changes the values",
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


def recognised(root: Path, out: Path, samples: Sequence[Drawn]) -> str:
    """Return what `python -m datasets.init` makes of a folder: "yes", "asks" or "no".

    "yes" is a configuration without a question that reads the true labels.
    """
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        status = init([str(root), "--out", str(out)])
    if status or "question" in text.getvalue():
        return "no" if status else "asks"
    values = read_yaml(out)
    data = validate(DataConfig, values["data"], out.name)
    return "yes" if same_labels(data, values["model"]["classes"], samples) else "WRONG"


def refusal(layout: Layout, root: Path, samples: Sequence[Drawn]) -> str:
    """Return the message with which a layout is refused, "" if it is read."""
    try:
        same_labels(settings_of(layout, root), layout.classes, samples)
    except (ValueError, OSError) as error:
        return str(error)
    return ""


def trains(layout: Layout, root: Path, folder: Path) -> bool:
    """Train on a layout for an epoch; return whether that ends well."""
    config = folder / "run.yaml"
    settings = {
        "data": {"root": str(root), **layout.data},
        "model": {**RUN, "classes": layout.classes},
        "resolutions": [64, 32],
        "augmentation": {"shorter_side": 64, "crop": 64},
        "epochs": 1,
        "batch_size": 2,
        "optim": {"lr": 0.01},
        "workers": 0,
        "device": "cpu",
    }
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        script = Script(SEGMENTATION, training_batches, TestSamples, "train_seg.py")
        return script.main([str(config), "--run", str(folder / "run")]) == 0


def rows(*, train: bool) -> Iterator[list[str]]:
    """Yield the lines of the table: layout, settings, recognised, works."""
    for layout in LAYOUTS.values():
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            samples = draw(layout.classes, void=layout.void)
            layout.make(folder / "data", samples)
            if layout.refused is not None:
                works = layout.refused in refusal(layout, folder / "data", samples)
                seen = "refused" if works else "NOT REFUSED"
            else:
                data = settings_of(layout, folder / "data")
                works = same_labels(data, layout.classes, samples)
                works = works and (not train or trains(layout, folder / "data", folder))
                seen = "yes" if works else "NO"
            yield [
                layout.text,
                f"`{json.dumps(layout.data)}`".replace('"', ""),
                recognised(folder / "data", folder / "my.yaml", samples),
                seen,
            ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; return 1 if a layout does not work."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", action="store_true", help="train on each for an epoch")
    options = parser.parse_args(arguments)
    lines = list(rows(train=options.train))
    print("| layout | below `data:` | recognised by `datasets.init` | works |")
    print("| --- | --- | --- | --- |")
    for line in lines:
        print(f"| {' | '.join(line)} |")
    return int(any(cell in _FAILURES for line in lines for cell in line))


if __name__ == "__main__":
    sys.exit(main())
