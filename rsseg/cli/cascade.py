"""The verb `rsseg cascade`: thresholds of a confidence cascade from the answers of an evaluation.

Parsing and printing only.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from rsseg.cli.options import add_overwrite


def add_cascade(verb: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    verb.description = (
        "Choose, for a target mean cost, where a classifier goes up to the next resolution because "
        "it is not sure, and compare cost and accuracy with those of the fixed resolutions."
    )
    verb.set_defaults(run=_cascade)
    add = verb.add_argument
    add("folder", type=Path, metavar="RUN", help="folder of a run, or the --out of its evaluation")
    share = "largest mean cost, as a share of the largest resolution's; default: 0.6"
    add("--cost", type=float, default=0.6, metavar="SHARE", help=share)
    add(
        "--resolutions",
        "--levels",
        type=int,
        nargs="+",
        metavar="R",
        help="default: chosen as well",
    )
    add("--latency", type=Path, metavar="JSON", help="take measured times for costs, not MACs")
    add("--executor", metavar="NAME", help="whose times; default: the only one in the table")
    add("--out", type=Path, metavar="JSON", help="default: RUN/cascade.json")
    add("--plot", type=Path, metavar="PNG", help="draw the curve as well")
    add_overwrite(verb)


def _cascade(args: argparse.Namespace) -> None:
    import json

    from rsseg.common.figures import save_figure
    from rsseg.common.files import write_whole
    from rsseg.runtime.cascade.report import layout, plot, report

    out = args.out or args.folder / "cascade.json"
    _check(args, out)
    choice = report(
        args.folder,
        target=args.cost,
        resolutions=args.resolutions,
        latency=args.latency,
        executor=args.executor,
    )
    print(layout(choice))
    write_whole(out, json.dumps(choice.as_dict(), indent=1) + "\n")
    print(f"cascade: {out}")
    if args.plot:
        save_figure(plot(choice), args.plot)
        print(f"plot: {args.plot}")


def _check(args: argparse.Namespace, out: Path) -> None:
    from rsseg.common.figures import check_figure
    from rsseg.common.files import check_output

    if not 0 < args.cost < math.inf:
        raise ValueError(f"--cost must be above 0, got {args.cost:g}")
    repeated = [side for side in args.resolutions or () if args.resolutions.count(side) > 1]
    if repeated:
        raise ValueError(f"resolution {repeated[0]} is given twice; give each once")
    if args.executor and not args.latency:
        raise ValueError("--executor says whose times of --latency; give that as well")
    check_output(out, overwrite=args.overwrite)
    if args.plot:
        check_figure(args.plot, overwrite=args.overwrite)
