"""The verb `rsseg disagreement`: Table 1 of the paper."""

from __future__ import annotations

import argparse
from pathlib import Path

from rsseg.cli.options import add_out, add_resolutions


def add_disagreement(verb: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    verb.description = (
        "Print, for every two models and resolutions, how many of the test images are right at "
        "the column and wrong at the row (Table 1 of the paper)."
    )
    verb.set_defaults(run=_disagreement)
    add = verb.add_argument
    add("runs", type=Path, nargs="+", metavar="RUN", help="folder with a correctness.npz")
    add_resolutions(verb, "default: all that were tested")
    add("--ensemble", action="store_true", help="compare the ensembles as well")
    add_out(verb, "CSV", "write the matrix to a file as well")


def _disagreement(args: argparse.Namespace) -> None:
    from rsseg.analysis import disagreement
    from rsseg.common.files import check_output, write_csv

    if args.out:
        check_output(args.out, overwrite=args.overwrite)
    table = disagreement.disagreement(
        args.runs, resolutions=args.resolutions, ensemble=args.ensemble
    )
    print(disagreement.layout(table))
    if args.out:
        write_csv(args.out, disagreement.as_rows(table))
        print(f"matrix: {args.out}")
