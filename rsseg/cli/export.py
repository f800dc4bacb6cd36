"""The verb `rsseg export`: a checkpoint as one file for other runtimes."""

from __future__ import annotations

import argparse
from pathlib import Path

from rsseg.cli.export_web import add_web, export_web_folder
from rsseg.cli.options import add_allow_builder, add_out


def add_export(verb: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    verb.description = (
        "Write the network of a checkpoint as a file for other runtimes: all resolutions in one "
        "file, or one resolution, with its BatchNorms folded. An ONNX file chooses by the size of "
        "its input; the other formats hold a model of fixed shape for each resolution, for phones "
        "and accelerators. What was written is run and compared with PyTorch before it gets its "
        "name."
    )
    verb.set_defaults(run=_export)
    add = verb.add_argument
    add("checkpoint", type=Path, metavar="CHECKPOINT", help="runs/NAME/last.pt, or packed")
    formats = "onnx (the default), executorch (a .pte) or openvino (a folder)"
    add("--format", default="onnx", metavar="NAME", help=formats)
    group = verb.add_mutually_exclusive_group()
    group.add_argument("--resolution", type=int, metavar="R", help="a file of this one alone")
    group.add_argument("--all", action="store_true", help="a file of all; the default")
    compact = "ONNX file of all: one copy of the weights in memory, slower"
    add("--compact", action="store_true", help=compact)
    add("--int8", action="store_true", help="weights and activations of 8 bits; --calibrate too")
    images = "folder of images, some hundred, that ranges of activations are measured on"
    add("--calibrate", type=Path, metavar="DIR", help=images)
    tolerance = "largest difference of a logit from PyTorch; default: 0.001"
    add("--tolerance", type=float, metavar="D", help=tolerance)
    add_allow_builder(verb)
    add_out(verb, "FILE", "file to write; needed without --web")
    add_web(verb)


def _export(args: argparse.Namespace) -> None:
    check_int8(args.int8, args.calibrate, args.tolerance)
    if args.web is not None:
        export_web_folder(args)
        return
    if args.out is None:
        raise ValueError("give --out, the file to write, or --web DIR")
    from rsseg.common.messages import check_name
    from rsseg.runtime.fixed_shapes.export import FORMATS, export_fixed
    from rsseg.runtime.onnx.check import TOLERANCE
    from rsseg.runtime.onnx.export import export_checkpoint

    check_name("format", args.format, ["onnx", *FORMATS])
    options = {
        "resolution": args.resolution,
        "tolerance": TOLERANCE if args.tolerance is None else args.tolerance,
        "overwrite": args.overwrite,
        "allow_builder": args.allow_builder,
    }
    if args.format == "onnx":
        export = export_checkpoint(
            args.checkpoint, args.out, compact=args.compact, calibrate=args.calibrate, **options
        )
    elif args.compact or args.int8:
        option = "--compact" if args.compact else "--int8"
        raise ValueError(f"{option} is a form of the ONNX file; leave it out, or leave --format")
    else:
        export = export_fixed(args.checkpoint, args.out, args.format, **options)
    for difference in (*export.differences, *export.agreements):
        print(difference)
    print(f"{export.path}: {export.size / 2**20:.1f} MiB")


def check_int8(int8: bool, calibrate: Path | None, tolerance: float | None) -> None:
    """Raise a ValueError for what does not belong together around --int8."""
    if int8 and calibrate is None:
        raise ValueError(
            "--int8 needs --calibrate DIR, a folder with some hundred images of the kind that the "
            "network will see"
        )
    if calibrate is not None and not int8:
        raise ValueError("--calibrate is for files of 8 bits; give --int8 too, or leave it out")
    if int8 and tolerance is not None:
        raise ValueError("--tolerance is for files of floats; 8 bits are compared on the images")
