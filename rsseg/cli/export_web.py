"""The option --web of `rsseg export`: a folder that runs a network in the browser."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path


def add_web(verb: argparse.ArgumentParser) -> None:
    """Add --web and --runtime-files."""
    group = verb.add_argument_group("a demo in the browser")
    group.add_argument(
        "--web",
        type=Path,
        metavar="DIR",
        help="in place of --out: a folder for any file server, whose page runs the network (here "
        "also an exported .onnx) in the browser; fetches onnxruntime-web from npm, 33 MB",
    )
    group.add_argument(
        "--runtime-files",
        type=Path,
        metavar="DIR",
        help="holds onnxruntime-web already: its folder dist, or one that --web wrote",
    )


def export_web_folder(args: argparse.Namespace) -> None:
    """Write the folder that the arguments ask for, and say how it is opened."""
    from rsseg.common.file_kinds import FileKind, file_kind
    from rsseg.runtime.onnx.check import TOLERANCE
    from rsseg.runtime.onnx.export import export_checkpoint
    from rsseg.runtime.web.export import export_web

    if args.out is not None:
        raise ValueError("--out and --web are both given; --web writes a folder of its own")
    if args.format != "onnx":
        raise ValueError(f"--web runs the ONNX file in the browser, not --format {args.format}")
    options = {
        "--resolution": args.resolution,
        "--compact": args.compact,
        "--int8": args.int8,
        "--tolerance": args.tolerance,
    }
    given = [name for name, value in options.items() if value]
    if given and file_kind(args.checkpoint) is FileKind.EXPORTED:
        raise ValueError(f"{args.checkpoint} is exported already; leave {', '.join(given)} out")
    write = partial(
        export_checkpoint,
        resolution=args.resolution,
        compact=args.compact,
        calibrate=args.calibrate,
        tolerance=TOLERANCE if args.tolerance is None else args.tolerance,
        allow_builder=args.allow_builder,
    )
    export = export_web(args.checkpoint, args.web, write=write, runtime_folder=args.runtime_files)
    for name, size in export.sizes.items():
        print(f"{export.folder / name}: {size / 2**20:.1f} MiB")
    print(f"try it: python -m http.server --bind 127.0.0.1 --directory '{export.folder}' 8000")
    print("then open http://127.0.0.1:8000; a browser runs nothing of it from file://")
