"""The command line of datasets.nyudv2: download, prepare, sample, check."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from datasets.contact_sheet import write_sheet
from datasets.label_report import classes_of, describe, examples_of
from datasets.nyudv2.check import check
from datasets.nyudv2.download import URL, download
from datasets.nyudv2.prepare import prepare
from datasets.nyudv2.reader import open_nyudv2
from datasets.nyudv2.sample import write_samples
from datasets.samples import CROPS
from rsseg.common.files import check_output


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0, or 1 if something is wrong with the data."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; run the same command again", file=sys.stderr)
        return 130


def _run(options: argparse.Namespace) -> int:
    if options.command == "download":
        download(options.target, options.url)
        return 0
    labels = {
        "label_offset": options.label_offset,
        "void_value": options.void_value,
        "classes": options.classes,
    }
    if options.command == "prepare":
        is_new = prepare(options.source, options.target, **labels, packed=options.packed)
        print(f"{options.target} {'is written' if is_new else 'is complete already'}")
        return 0
    if options.command == "sample":
        reader = open_nyudv2(options.source, "test", **labels)
        names = write_samples(reader, options.target, options.count)
        print(f"{options.target} holds images and labels of {', '.join(names)}")
        return 0
    if options.sheet:
        options.sheet.parent.mkdir(parents=True, exist_ok=True)
        check_output(options.sheet)  # now, and not when all images have been read
    reports = check(options.root, crop=options.crop, **labels)
    print(*describe(reports), sep="\n")
    examples = examples_of(reports)
    if options.sheet and examples:
        write_sheet(options.sheet, examples, classes_of(reports))
        print(f"contact sheet: {options.sheet}")
    return int(any(report.faults for report in reports.values()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m datasets.nyudv2", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    fetch = commands.add_parser("download", help="fetch the official file (3 GB); resumes")
    fetch.add_argument("target", type=Path, help="folder, or file ending in .mat")
    fetch.add_argument("--url", default=URL, help="where it lies (default: %(default)s)")
    write = commands.add_parser("prepare", help="write a folder that reads fast")
    write.add_argument("source", type=Path, help=".mat file or folder")
    write.add_argument("target", type=Path, help="folder to write")
    write.add_argument(
        "--no-packed",
        dest="packed",
        action="store_false",
        help="leave out the decoded samples: saves 1.2 MB per image, and reads as images do",
    )
    few = commands.add_parser("sample", help="write a few test images and label maps as PNG")
    few.add_argument("source", type=Path, help=".mat file or folder")
    few.add_argument("target", type=Path, help="folder for images/ and labels/")
    few.add_argument("--count", type=int, default=4, help="how many (default: %(default)s)")
    look = commands.add_parser("check", help="count, measure and list every fault")
    look.add_argument("root", type=Path, help=".mat file or folder")
    look.add_argument("--sheet", type=Path, help="write a contact sheet PNG here, a new file")
    look.add_argument("--crop", choices=CROPS, help="read this part of each image")
    for command in (write, few, look):
        command.add_argument("--label-offset", type=int, help="value of the first class")
        command.add_argument("--void-value", type=int, help="value of void")
        command.add_argument("--classes", type=int, default=40, help="number of classes")
    return parser


if __name__ == "__main__":
    sys.exit(main())
