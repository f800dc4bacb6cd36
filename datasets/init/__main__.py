"""Look at a folder of images and write the configuration that trains on it.

    python -m datasets.init FOLDER --out my.yaml

The layout is recognised, the label maps are measured, and a contact sheet shows what was read. What
the files do not prove stands in the configuration as a question.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from datasets.contact_sheet import write_sheet
from datasets.folders import read_pair
from datasets.init.configuration import QUESTION, Findings, write_configuration
from datasets.init.images import ImageFolders, find_image_folders, image_configuration
from datasets.init.layout import Layout, find_layout
from datasets.init.values import Choice, Values, choices, measure
from datasets.nyudv2.folder import looks_like_nyudv2
from datasets.samples import Sample
from datasets.segmentation import NYUDV2
from rsseg.common.files import check_output, read_text, write_whole
from rsseg.images.reading import read_image
from rsseg.segmentation.labels import LabelDecoder, LabelReading
from rsseg.segmentation.pair_lists import Pair
from rsseg.segmentation.pairs import SplitConfig, find_pairs
from rsseg.segmentation.presets import preset_names, read_preset

_SHOWN: Final = 8  # samples on the contact sheet
SEGMENTATION: Final = "segmentation"
CLASSIFICATION: Final = "classification"
_NAMES: Final = ("classes.txt", "labels.txt", "names.txt", "class_names.txt")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code: 0, or 1 if the folder is not understood."""
    options = _parser().parse_args(arguments)
    try:
        _run(options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _run(options: argparse.Namespace) -> None:
    root = options.folder.expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder; give the folder of the images")
    sheet = options.sheet or options.out.with_suffix(".png")
    for path in (options.out, sheet):
        path.parent.mkdir(parents=True, exist_ok=True)
        check_output(path)
    if folders := _class_folders(root, options.task):
        _write(options.out, "\n".join(image_configuration(root, folders, options.out)))
        return
    findings, pairs = examine(root, options.classes)
    text = write_configuration(findings, options.out)
    write_sheet(sheet, *_examples(findings, pairs))
    _write(options.out, text)
    print(f"contact sheet: {sheet}")


def _class_folders(root: Path, task: str | None) -> ImageFolders | None:
    """Return the class folders to train a classifier on; None if there are none, or label maps."""
    folders = find_image_folders(root) if task != SEGMENTATION else None
    if folders is None or task == CLASSIFICATION:
        return folders
    try:
        find_layout(root)
    except (ValueError, OSError):
        return folders
    return None


def _write(out: Path, text: str) -> None:
    write_whole(out, text)
    questions = text.count(QUESTION)
    print(f"configuration: {out}")
    if questions:
        print(f"{questions} questions are marked by {QUESTION}; answer them before you train")


def examine(root: Path, classes: int | None) -> tuple[Findings, list[Pair]]:
    """Recognise and measure a folder of images and label maps.

    Raises:
        ValueError: If its layout is not recognised, or a label map is damaged.
        OSError: If a file cannot be read.
    """
    preset = _preset(root)
    layout = _preset_layout(root, preset) if preset else find_layout(root)
    pairs, skipped = find_pairs(root, layout.train, skip=True)
    values = measure([*pairs, *_test_pairs(root, layout)])
    names = next((name for name in _NAMES if (root / name).is_file()), None)
    if names and not preset:
        classes = classes or len([x for x in read_text(root / names).splitlines() if x.strip()])
    readings = _preset_choices(preset) if preset else choices(values, classes)
    colour = _mean_colour(pairs)
    return (
        Findings(root, layout, preset, values, readings, names, len(pairs), skipped, colour),
        pairs,
    )


def _test_pairs(root: Path, layout: Layout) -> list[Pair]:
    return [] if layout.test is None else find_pairs(root, layout.test, skip=True)[0]


def _mean_colour(pairs: Sequence[Pair]) -> tuple[float, float, float]:
    images = [read_image(pair.image) for pair in pairs[:: max(1, len(pairs) // 32)]]
    red, green, blue = np.mean([image.reshape(-1, 3).mean(axis=0) for image in images], axis=0)
    return red / 255, green / 255, blue / 255


def _preset(root: Path) -> str | None:
    """Return the preset whose folders there are, and whose values the label maps hold."""
    if (root / "images").is_dir() and looks_like_nyudv2(root):
        return NYUDV2
    for name in preset_names():
        preset = read_preset(name)
        if "train" not in preset:
            continue
        try:
            pairs, _ = find_pairs(root, SplitConfig(**preset["train"]))
            find_pairs(root, SplitConfig(**preset["test"]))
            decoder = LabelDecoder(LabelReading(**preset["labels"]), preset["classes"])
            values = [np.unique(decoder.read(pair.label)) for pair in pairs[:32]]
        except (ValueError, OSError):
            continue
        if preset["classes"] - 1 in np.concatenate(values):
            return name
    return None


def _preset_layout(root: Path, name: str) -> Layout:
    preset = read_preset(name)
    if "train" not in preset:  # NYUDv2, whose reader knows where its files are
        return replace(find_layout(root), text=f"folders and values of the preset {name}")
    train, test = (SplitConfig(**preset[split]) for split in ("train", "test"))
    return Layout(train, test, f"folders and values of the preset {name}")


def _preset_choices(name: str) -> list[Choice]:
    preset = read_preset(name)
    labels = preset.get("labels", {"offset": 1, "void": (0,)})
    return [Choice(preset["classes"], LabelReading(**labels), f"as in {name}")]


def _examples(
    findings: Findings, pairs: Sequence[Pair]
) -> tuple[list[tuple[str, Sample]], list[str]]:
    """Return samples for the contact sheet, and the names of their labels.

    Where the reading is not proven, each value has a colour and its own number as a name: the
    eye answers what it is.
    """
    shown = pairs[:: max(1, len(pairs) // _SHOWN)][:_SHOWN]
    if findings.is_proven or findings.values.is_coloured:
        choice = findings.choices[0]
        decoder, names = LabelDecoder(choice.reading, choice.classes), None
        labels = [f"class {index}" for index in range(choice.classes)] if names is None else names
    else:
        decoder, labels = _by_value(findings.values)
    return [(pair.name, read_pair(pair, decoder)) for pair in shown], labels


def _by_value(values: Values) -> tuple[LabelDecoder, list[str]]:
    present = [value for value in values.present if isinstance(value, int)][:255]
    reading = LabelReading(map={value: index for index, value in enumerate(present)}, void="rest")
    return LabelDecoder(reading, len(present)), [f"value {value}" for value in present]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m datasets.init",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("folder", type=Path, help="the folder that holds the images")
    add(
        "--out", type=Path, required=True, metavar="YAML", help="configuration to write, a new file"
    )
    add("--sheet", type=Path, metavar="PNG", help="contact sheet, a new file; default: beside it")
    add("--classes", type=int, metavar="K", help="number of classes, where it is known")
    tasks = (SEGMENTATION, CLASSIFICATION)
    add("--task", choices=tasks, help="default: segmentation if there are label maps")
    return parser


if __name__ == "__main__":
    sys.exit(main())
