"""The verb `rsseg features`: Fig. 3 of the paper."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from rsseg.cli.options import add_out, add_resolutions

LIMIT: Final = 1000


def add_features(verb: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    verb.description = (
        "Draw how the globally pooled features of classifiers are distributed over the same images "
        "under the random crop of their training and under the preprocessing of the test (Fig. 3 "
        "of the paper), and print how far the two are apart. The curves are written as a CSV "
        "beside the picture."
    )
    verb.set_defaults(run=_features)
    add = verb.add_argument
    add("runs", type=Path, nargs="+", metavar="RUN", help="run folder or checkpoint")
    images = "folder of images, searched with its sub-folders, such as those of the test"
    add("--images", type=Path, required=True, metavar="DIR", help=images)
    limit = "images to use at most, evenly spaced; default: %(default)s"
    add("--limit", type=int, default=LIMIT, metavar="N", help=limit)
    add_resolutions(verb, "default: those each network was trained at; at others it is only tested")
    add("--names", nargs="+", metavar="NAME", help="one for each of the networks")
    add("--device", default="auto", help="auto, cpu or cuda; default: %(default)s")
    add_out(verb, "PNG")


def _features(args: argparse.Namespace) -> None:
    from rsseg.analysis import features
    from rsseg.common.device import choose_device
    from rsseg.common.figures import check_figure, save_with_numbers
    from rsseg.common.messages import counted

    check_figure(args.out, overwrite=args.overwrite, numbers=True)
    if args.limit < 1:
        raise ValueError(f"--limit must be at least 1, got {args.limit}")
    if args.names and len(args.names) != len(args.runs):
        raise ValueError(
            f"{counted(len(args.runs), 'network')}, but {counted(len(args.names), 'name')}"
        )
    device = choose_device(args.device)
    images = features.find_samples(args.images, args.limit)
    names = args.names or [None] * len(args.runs)
    # All are opened before the first computes.
    networks = [
        features.open_classifier(run, name) for run, name in zip(args.runs, names, strict=True)
    ]
    rows = [
        row
        for network in networks
        for row in features.distributions(network, images, args.resolutions, device=device)
    ]
    numbers = save_with_numbers(
        features.plot_features(rows), args.out, [line for row in rows for line in row.rows()]
    )
    print(f"{counted(len(images), 'image')}\n{features.features_table(rows)}")
    print(f"features: {args.out}\nnumbers: {numbers}")
