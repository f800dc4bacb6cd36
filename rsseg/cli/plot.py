"""The verb `rsseg plot`: a metric against the resolution or the multiply-adds, drawn."""

from __future__ import annotations

import argparse
from pathlib import Path

from rsseg.cli.options import add_out


def add_plot(verb: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    verb.description = (
        "Draw a metric of several results against the resolution or the multiply-adds. Results "
        "of one name become one line; hollow points are resolutions that were not trained."
    )
    verb.set_defaults(run=_plot)
    add = verb.add_argument
    add("results", type=Path, nargs="+", metavar="RESULTS", help="results.json, or its folder")
    add("--metric", help="default: that of the task")
    add("--against", choices=("resolution", "macs"), default="resolution")
    add("--names", nargs="+", metavar="NAME", help="one for each of the results")
    add_out(verb, "PNG")


def _plot(args: argparse.Namespace) -> None:
    from rsseg.analysis.accuracy_plot import plot_accuracy
    from rsseg.common.figures import check_figure, save_figure

    check_figure(args.out, overwrite=args.overwrite)
    figure = plot_accuracy(args.results, metric=args.metric, axis=args.against, names=args.names)
    save_figure(figure, args.out)
    print(f"plot: {args.out}")
