"""The verb `rsseg curves`: losses and metrics over a run, drawn."""

from __future__ import annotations

import argparse
from pathlib import Path

from rsseg.cli.options import add_out


def add_curves(verb: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    verb.description = (
        "Draw the losses of runs, a metric at every resolution and, with an ensemble, the share "
        "alpha of each (appendix A of the paper), as a PNG."
    )
    verb.set_defaults(run=_curves)
    verb.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder of a run")
    verb.add_argument("--metric", help="default: that of the task")
    add_out(verb, "PNG")


def _curves(args: argparse.Namespace) -> None:
    from rsseg.analysis.curves import plot_curves
    from rsseg.common.figures import check_figure, save_figure

    check_figure(args.out, overwrite=args.overwrite)
    save_figure(plot_curves(args.runs, args.metric), args.out)
    print(f"curves: {args.out}")
