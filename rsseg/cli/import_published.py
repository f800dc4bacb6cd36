"""The verb `rsseg import`: a checkpoint from the weights that the paper's authors published."""

from __future__ import annotations

import argparse
from pathlib import Path

from rsseg.cli.options import add_out, add_resolutions
from rsseg.common.messages import counted


def add_import(verb: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    verb.description = "Write a published ImageNet file as a checkpoint that every command takes."
    verb.set_defaults(run=_import)
    add = verb.add_argument
    add("published", type=Path, metavar="FILE", help="such as model_best.pth.tar")
    add_resolutions(verb, "default: 224 192 160 128 96")
    add("--names", type=Path, metavar="TXT", help="names of the classes, one a line")
    add_out(verb, "PT")


def _import(args: argparse.Namespace) -> None:
    from rsseg.classifiers.import_published import import_published
    from rsseg.common.files import check_output, read_text

    check_output(args.out, overwrite=args.overwrite)
    metadata = import_published(
        args.published,
        args.out,
        resolutions=args.resolutions,
        classes=read_text(args.names).splitlines() if args.names else None,
        overwrite=args.overwrite,
    )
    sides = ", ".join(map(str, metadata.resolutions))
    print(
        f"{args.out}: {metadata.model['name']}, {counted(len(metadata.classes), 'class')}, {sides}"
    )
