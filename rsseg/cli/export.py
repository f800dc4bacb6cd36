"""The verb `rsseg export`: a checkpoint as one file for other runtimes.

Parsing and printing only.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rsseg.runtime.onnx.check import TOLERANCE
from rsseg.runtime.onnx.export import FORMATS, export_checkpoint


def add_export(verb: argparse.ArgumentParser) -> None:
    """Name the arguments of the verb."""
    verb.description = (
        "Write the network of a checkpoint as a file for other runtimes: all resolutions in one "
        "ONNX file, which chooses by the size of its input, or one resolution, with its BatchNorms "
        "folded. The file is run and compared with PyTorch before it gets its name."
    )
    verb.set_defaults(run=_export)
    add = verb.add_argument
    add("checkpoint", type=Path, metavar="CHECKPOINT", help="such as runs/NAME/last.pt")
    add("--out", type=Path, required=True, metavar="FILE", help="such as net.onnx")
    add("--format", choices=FORMATS, help="default: from the suffix of FILE")
    group = verb.add_mutually_exclusive_group()
    group.add_argument("--resolution", type=int, metavar="R", help="a file of this one alone")
    group.add_argument("--all", action="store_true", help="a file of all; the default for ONNX")
    add("--compact", action="store_true", help="of all: one copy of the weights in memory, slower")
    add(
        "--tolerance",
        type=float,
        default=TOLERANCE,
        metavar="D",
        help="largest difference of a logit from PyTorch; default: %(default)g",
    )
    add("--overwrite", action="store_true", help="write over a file that exists")


def _export(args: argparse.Namespace) -> None:
    try:
        export = export_checkpoint(
            args.checkpoint,
            args.out,
            resolution=args.resolution,
            kind=args.format,
            compact=args.compact,
            tolerance=args.tolerance,
            overwrite=args.overwrite,
        )
    except ImportError as error:  # An extra that is not installed is no fault of the program.
        raise ValueError(str(error)) from error
    for difference in export.differences:
        print(difference)
    print(f"{export.path}: {export.size / 2**20:.1f} MiB")
