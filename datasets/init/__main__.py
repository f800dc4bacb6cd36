"""Look at a folder of images and write the configuration that trains on it.

    python -m datasets.init FOLDER --out my.yaml

The layout is recognised, the label maps are measured, and a contact sheet shows what was read. What
the files do not prove stands in the configuration as a question.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from datasets.class_sheet import write_class_sheet
from datasets.contact_sheet import write_sheet
from datasets.folders import class_names, read_pair
from datasets.init.configuration import Findings, write_configuration
from datasets.init.image_configuration import write_image_configuration
from datasets.init.image_layout import ImageLayout
from datasets.init.image_measures import mean_colour, measure_images, spread
from datasets.init.known import find_preset, preset_choices, preset_class_names, preset_colours
from datasets.init.layout import Layout
from datasets.init.numbers import count_names, names_file
from datasets.init.recognise import CLASSIFICATION, SEGMENTATION, recognise
from datasets.init.values import Values, choices, measure
from rsseg.common.config import QUESTION
from rsseg.common.files import check_output, write_whole
from rsseg.common.messages import counted
from rsseg.images.reading import read_image
from rsseg.segmentation.label_files import Colour
from rsseg.segmentation.labels import LabelDecoder, LabelReading
from rsseg.segmentation.pair_lists import Pair
from rsseg.segmentation.pairs import find_pairs

_SHOWN: Final = 8  # samples on the contact sheet
_COLOURED: Final = 32  # images whose mean colour is taken


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code: 0, or 1 if the folder is not understood."""
    options = _parser().parse_args(arguments)
    try:
        _run(options)
    except (ValueError, OSError, ImportError) as error:
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
    layout = recognise(root, options.task, options.classes)
    if isinstance(layout, ImageLayout):
        measures = measure_images(layout)
        text = write_image_configuration(layout, measures, options.out)
        write_class_sheet(sheet, measures.rows)
    else:
        findings, pairs = examine(root, options.classes, layout)
        text = write_configuration(findings, options.out)
        _write_sheet(sheet, findings, pairs)
    write_whole(options.out, text)
    _report(options.out, sheet, text)


def _report(out: Path, sheet: Path, text: str) -> None:
    questions = text.count(QUESTION)
    print(f"configuration: {out}")
    if questions:
        verb = "is" if questions == 1 else "are"
        print(
            f"{counted(questions, 'question')} {verb} marked by {QUESTION}; answer before you train"
        )
    print(f"contact sheet: {sheet}")


def examine(root: Path, classes: int | None, layout: Layout) -> tuple[Findings, list[Pair]]:
    """Measure a folder of images and label maps.

    Args:
        root: The folder.
        classes: Number of classes, where it is known.
        layout: Its layout.

    Returns:
        What there is, and the training samples, or all where the splits are a question.

    Raises:
        ValueError: If a label map is damaged.
        OSError: If a file cannot be read.
    """
    preset = find_preset(root)
    parts = [find_pairs(root, place, skip=True) for place in layout.places]
    every = list(dict.fromkeys(pair for part, _ in parts for pair in part))
    pairs, skipped = parts[0] if layout.train else (every, 0)
    values = measure(every)
    names = names_file(root)
    if names and not preset:
        classes = classes or count_names(root / names)
    readings = preset_choices(preset, values) if preset else choices(values, classes)
    colour = mean_colour([read_image(pair.image) for pair in spread(pairs, _COLOURED)])
    findings = Findings(
        root=root,
        layout=layout,
        preset=preset,
        values=values,
        choices=readings,
        classes=classes,
        names=names,
        samples=len(pairs),
        skipped=skipped,
        colour=colour,
    )
    return findings, pairs


def _write_sheet(path: Path, findings: Findings, pairs: Sequence[Pair]) -> None:
    """Write the contact sheet of some samples, with the names and the colours of their labels.

    Where the reading is not proven, each value has a colour and its own number as a name, and each
    colour its own: the eye answers what it is.
    """
    colours: Sequence[Colour] | None = None
    if findings.is_proven or findings.values.is_coloured:
        choice = findings.choices[0]
        decoder, names = LabelDecoder(choice.reading, choice.classes), _class_names(findings)
        colours = choice.reading.colours
    else:
        decoder, names = _by_value(findings.values)
    if findings.preset:
        colours = preset_colours(findings.preset) or colours
    samples = [(pair.name, read_pair(pair, decoder)) for pair in spread(pairs, _SHOWN)]
    write_sheet(path, samples, names, colours)


def _class_names(findings: Findings) -> Sequence[str]:
    """Return the names of the classes: a preset's, those of the file, or else RGB or numbers."""
    choice = findings.choices[0]
    if findings.preset:
        return preset_class_names(findings.preset, findings.root)
    if choice.reading.colours:
        return [str(list(colour)) for colour in choice.reading.colours]
    return class_names(findings.names, findings.root, choice.classes)


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
