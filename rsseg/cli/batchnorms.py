"""The verb `rsseg batchnorms`: Fig. 6 of the paper."""

from __future__ import annotations

import argparse
from pathlib import Path

from rsseg.cli.options import add_allow_builder, add_out


def add_batchnorms(verb: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    verb.description = (
        "Draw the means over the channels of gamma, beta, running mean and running variance of "
        "each BatchNorm layer, a curve for each resolution (Fig. 6 of the paper). The numbers are "
        "written as a CSV beside the picture."
    )
    verb.set_defaults(run=_batchnorms)
    meaning = "checkpoint (.pt) or packed file (.safetensors) of any network"
    verb.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help=meaning)
    add_out(verb, "PNG")
    add_allow_builder(verb)


def _batchnorms(args: argparse.Namespace) -> None:
    from rsseg.analysis.batchnorms import channel_means, plot_batchnorms
    from rsseg.common.figures import check_figure, save_with_numbers
    from rsseg.load import load_checkpoint

    check_figure(args.out, overwrite=args.overwrite, numbers=True)
    net, _, _ = load_checkpoint(args.checkpoint, allow_builder=args.allow_builder)
    means = channel_means(net.network)
    numbers = save_with_numbers(plot_batchnorms(means), args.out, [one.row() for one in means])
    print(f"batchnorms: {args.out}\nnumbers: {numbers}")
