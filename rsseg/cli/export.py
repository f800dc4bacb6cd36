"""The verb `rsseg export`: a checkpoint as one ONNX file for other runtimes."""

from __future__ import annotations

import argparse
from pathlib import Path

from rsseg.cli.options import add_allow_builder, add_out


def add_export(verb: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    verb.description = (
        "Write the network of a checkpoint as an ONNX file for other runtimes: all resolutions in "
        "one file, which chooses by the size of its input, or one resolution, with its BatchNorms "
        "folded. The file is run and compared with PyTorch before it gets its name."
    )
    verb.set_defaults(run=_export)
    add = verb.add_argument
    add("checkpoint", type=Path, metavar="CHECKPOINT", help="runs/NAME/last.pt, or packed")
    group = verb.add_mutually_exclusive_group()
    group.add_argument("--resolution", type=int, metavar="R", help="a file of this one alone")
    group.add_argument("--all", action="store_true", help="a file of all; the default")
    add("--compact", action="store_true", help="of all: one copy of the weights in memory, slower")
    tolerance = "largest difference of a logit from PyTorch; default: 0.001"
    add("--tolerance", type=float, metavar="D", help=tolerance)
    add_allow_builder(verb)
    add_out(verb, "FILE")


def _export(args: argparse.Namespace) -> None:
    from rsseg.runtime.onnx.check import TOLERANCE
    from rsseg.runtime.onnx.export import export_checkpoint

    export = export_checkpoint(
        args.checkpoint,
        args.out,
        resolution=args.resolution,
        compact=args.compact,
        tolerance=TOLERANCE if args.tolerance is None else args.tolerance,
        overwrite=args.overwrite,
        allow_builder=args.allow_builder,
    )
    for difference in export.differences:
        print(difference)
    print(f"{export.path}: {export.size / 2**20:.1f} MiB")
