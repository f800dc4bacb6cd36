"""The verb `rsseg plot`: a metric against resolution, multiply-adds or milliseconds, drawn."""

from __future__ import annotations

import argparse
from pathlib import Path

from rsseg.cli.options import add_out


def add_plot(verb: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    verb.description = (
        "Draw a metric of several results against the resolution, the multiply-adds or the "
        "milliseconds of one image. Results of one name become one line, those of several seeds "
        "its mean and range; hollow points are resolutions that were not trained."
    )
    verb.set_defaults(run=_plot)
    add = verb.add_argument
    add("results", type=Path, nargs="+", metavar="RESULTS", help="results.json, or its folder")
    add("--metric", help="default: that of the task")
    add("--against", choices=("resolution", "macs", "milliseconds"), default="resolution")
    latency = "NAME.latency.json of `rsseg profile --measure`, for milliseconds"
    add("--latency", type=Path, metavar="FILE", help=latency)
    add("--executor", help="whose times; default: the first in the file")
    points = (
        "numbers of other works besides: a CSV with the columns name, metric, value (percent), and "
        "resolution or macs (1e6); or an item of the paper, such as 'Table 4' for S- and "
        "US-MobileNetV2 (Fig. 1)"
    )
    add("--points", metavar="CSV", help=points)
    add("--names", nargs="+", metavar="NAME", help="one for each of the results")
    add_out(verb, "PNG")


def _plot(args: argparse.Namespace) -> None:
    from rsseg.analysis.accuracy_plot import plot_accuracy
    from rsseg.analysis.published import numbers_of
    from rsseg.common.figures import check_figure, save_figure

    check_figure(args.out, overwrite=args.overwrite)
    if args.points and args.against == "milliseconds":
        raise ValueError("--points have no milliseconds of this machine; draw --against macs")
    times, end_to_end = _times(args)
    figure = plot_accuracy(
        args.results,
        metric=args.metric,
        axis="end_to_end" if end_to_end else args.against,
        names=args.names,
        times=times,
        points=numbers_of(args.points) if args.points else (),
    )
    save_figure(figure, args.out)
    print(f"plot: {args.out}")


def _times(args: argparse.Namespace) -> tuple[dict[int, float] | None, bool]:
    """Read the milliseconds of one image by resolution; None where they are not asked for.

    Returns:
        The milliseconds, and whether they begin with the bytes of the image: tables of earlier
        versions know nothing of decoding.
    """
    if (args.against == "milliseconds") != (args.latency is not None):
        raise ValueError(
            "--against milliseconds and --latency FILE go together; FILE is written by "
            "`rsseg profile CHECKPOINT --measure`"
        )
    if args.latency is None:
        return None, False
    from rsseg.runtime.budget.table import read_entries

    entries = read_entries(args.latency)
    names = list(dict.fromkeys(entry.executor for entry in entries))
    chosen = [entry for entry in entries if args.executor in (None, entry.executor)]
    if not chosen:
        raise ValueError(
            f"{args.latency} has no times of executor {args.executor}; it has those of "
            f"{', '.join(names) or 'none'}"
        )
    rows = chosen[0].rows
    times = {row.resolution: row.decode_ms + row.median_ms for row in rows}
    return times, all(row.stages is not None for row in rows)
