"""The verb `rsseg compare`: one table of several results."""

from __future__ import annotations

import argparse
from pathlib import Path

from rsseg.cli.options import add_json


def add_compare(verb: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    verb.description = (
        "Print the metrics of several results in one table, in percent: a line for each run, a "
        "column for each resolution. With --json, the same as shares, 0..1. With --names, results "
        "of one name are one line: mean, smallest and largest of several seeds."
    )
    verb.set_defaults(run=_compare)
    verb.add_argument(
        "results", type=Path, nargs="+", metavar="RESULTS", help="results.json, or its folder"
    )
    verb.add_argument("--metrics", nargs="+", metavar="NAME", help="default: those of the task")
    names = "one for each of the results, to join those of one name"
    verb.add_argument("--names", nargs="+", metavar="NAME", help=names)
    add_json(verb)


def _compare(args: argparse.Namespace) -> None:
    import json

    from rsseg.analysis.results import comparison_table, grouped_table, read_comparison

    if args.json and args.names:
        raise ValueError("--json gives each result by itself; leave out --names")
    runs = read_comparison(args.results, args.metrics)
    if args.names:
        print(grouped_table(runs, args.names))
    elif args.json:
        print(json.dumps([run.plain() for run in runs], indent=1))
    else:
        print(comparison_table(runs))
