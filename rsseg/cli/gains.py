"""The verb `rsseg gains`: the change against the I-Nets, Tables 2, 3, 7 and Fig. 5, 9."""

from __future__ import annotations

import argparse
from pathlib import Path

from rsseg.cli.options import add_out


def add_gains(verb: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    verb.description = (
        "Print how the metrics change against I-Nets, networks that were trained at one resolution "
        "each, in percentage points. Results of one name are joined: the difference of the means "
        "and, in brackets, the smallest and largest of all pairs of a run and an I-Net. With "
        "--out, drawn as bars (Fig. 5 and 9 of the paper), with the numbers as a CSV beside."
    )
    verb.set_defaults(run=_gains)
    add = verb.add_argument
    add("results", type=Path, nargs="+", metavar="RESULTS", help="results.json, or its folder")
    inets = "results of the I-Nets; several at one resolution are seeds"
    add("--base", type=Path, nargs="+", required=True, metavar="INETS", help=inets)
    add("--names", nargs="+", metavar="NAME", help="one for each of the results, to join them")
    metrics = "default: those of the task; the first is drawn"
    add("--metrics", nargs="+", metavar="NAME", help=metrics)
    add_out(verb, "PNG", "draw the changes as bars, and write them as CSV beside")


def _gains(args: argparse.Namespace) -> None:
    from rsseg.analysis.gains import gains_table, plot_gains, read_gains
    from rsseg.common.figures import check_figure, save_with_numbers

    if args.out:
        check_figure(args.out, overwrite=args.overwrite, numbers=True)
    gains = read_gains(args.results, args.base, names=args.names, metrics=args.metrics)
    print(gains_table(gains))
    if args.out:
        figure = plot_gains(gains, args.metrics[0] if args.metrics else None)
        numbers = save_with_numbers(figure, args.out, [gain.row() for gain in gains])
        print(f"bars: {args.out}\nnumbers: {numbers}")
