"""The verb `rsseg compare`: one table of several results."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_compare(verb: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    verb.description = "Print the metrics of several results in one table."
    verb.set_defaults(run=_compare)
    verb.add_argument(
        "results", type=Path, nargs="+", metavar="RESULTS", help="results.json, or its folder"
    )
    verb.add_argument("--metrics", nargs="+", metavar="NAME", help="default: those of the task")


def _compare(args: argparse.Namespace) -> None:
    from rsseg.analysis.results import comparison_table

    print(comparison_table(args.results, args.metrics))
