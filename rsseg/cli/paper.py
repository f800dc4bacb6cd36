"""The verb `rsseg paper`: one page of every table and figure of the paper that runs allow."""

from __future__ import annotations

import argparse
from pathlib import Path

from rsseg.cli.options import add_out


def add_paper(verb: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    verb.description = (
        "Write one HTML page with every table and figure of the paper that the runs allow, beside "
        "the published numbers, and the commands of the runs that are missing. The page stands "
        "alone: pictures are inside."
    )
    verb.set_defaults(run=_paper)
    folders = "run folder, or a folder with run folders below"
    verb.add_argument("runs", type=Path, nargs="+", metavar="RUNS", help=folders)
    images = "folder of test images, for the features of Fig. 3"
    verb.add_argument("--images", type=Path, metavar="DIR", help=images)
    add_out(verb, "HTML")


def _paper(args: argparse.Namespace) -> None:
    from rsseg.analysis.paper_page import report
    from rsseg.analysis.paper_runs import find_runs
    from rsseg.common.files import check_output, write_whole

    out = args.out if args.out.suffix else args.out.with_suffix(".html")
    check_output(out, overwrite=args.overwrite)
    runs, messages = find_runs(args.runs)
    write_whole(out, report(runs, messages, args.images))
    print(f"page of {len(runs)} runs: {out}")
