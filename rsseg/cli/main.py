"""The command `rsseg`: what is done with networks and results, without any data set.

Parsing and printing only. Each verb is a sub-command: a function that names its arguments and one
that hands them to the library. Training is in `train_seg.py` and `train_cls.py`, which know the
data sets.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from rsseg.analysis import disagreement, profile
from rsseg.analysis.accuracy_plot import plot_accuracy
from rsseg.analysis.curves import plot_curves
from rsseg.analysis.results import comparison_table
from rsseg.classifiers.import_published import import_published
from rsseg.cli.cascade import add_cascade
from rsseg.cli.export import add_export
from rsseg.cli.measure import add_measure, measure, refuse_unmeasured
from rsseg.cli.pack import add_pack
from rsseg.cli.predict import add_predict
from rsseg.cli.serve import add_serve
from rsseg.common.files import check_output, write_csv, written_whole
from rsseg.doctor.examine import add_doctor


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments without the program's name; default are those of the process.

    Returns:
        Exit status: 0, 1 if `doctor` finds a fault, 2 if something that was given is wrong, 130
        after an interruption.
    """
    args = _parser().parse_args(argv)
    try:
        status: int | None = args.run(args)
    except (ValueError, OSError) as error:
        print(f"rsseg {args.verb}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"rsseg {args.verb}: interrupted; files already written are whole", file=sys.stderr)
        return 130
    return status or 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rsseg", description="Resolution switchable networks.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    add_predict(verbs.add_parser("predict", help="label maps or classes of any images"))
    _add_profile(verbs.add_parser("profile", help="parameters and multiply-adds of a network"))
    _add_compare(verbs.add_parser("compare", help="one table of the results of several runs"))
    _add_curves(verbs.add_parser("curves", help="losses and metrics of runs as a picture"))
    _add_plot(verbs.add_parser("plot", help="accuracy against resolution or multiply-adds"))
    _add_disagreement(
        verbs.add_parser("disagreement", help="which images one classifier knows, another not")
    )
    add_cascade(verbs.add_parser("cascade", help="high resolutions only for unsure answers"))
    _add_import(verbs.add_parser("import", help="a checkpoint from the paper's published weights"))
    add_pack(verbs.add_parser("pack", help="a quantised network with few bits for each weight"))
    add_export(verbs.add_parser("export", help="one file of a checkpoint for other runtimes"))
    add_serve(verbs.add_parser("serve", help="a network behind HTTP, and a page to try it"))
    add_doctor(verbs.add_parser("doctor", help="what is wrong with this machine, and the remedy"))
    return parser


def _add_profile(verb: argparse.ArgumentParser) -> None:
    verb.description = (
        "Count what a network holds and costs, without training it; or measure a trained one."
    )
    verb.set_defaults(run=_profile)
    add = verb.add_argument
    kinds = "classifier such as resnet18, ARCHITECTURE:ENCODER such as refinenet:resnet101, or .pt"
    add("network", metavar="NETWORK", help=kinds)
    add("--resolutions", type=int, nargs="+", metavar="R", help="a checkpoint has its own")
    add("--classes", type=int, metavar="K", help="default: 1000, of a segmenter 40")
    add("--json", action="store_true", help="print JSON")
    add_measure(verb)


def _profile(args: argparse.Namespace) -> None:
    if args.measure:
        measure(args)
        return
    refuse_unmeasured(args)
    counted = profile.profile(args.network, args.resolutions, classes=args.classes)
    print(json.dumps(counted.as_dict(), indent=1) if args.json else profile.layout(counted))


def _add_compare(verb: argparse.ArgumentParser) -> None:
    verb.description = "Print the metrics of several results in one table."
    verb.set_defaults(run=_compare)
    verb.add_argument("results", type=Path, nargs="+", metavar="RESULTS", help="RUN/results.json")
    verb.add_argument("--metrics", nargs="+", metavar="NAME", help="default: those of the task")


def _compare(args: argparse.Namespace) -> None:
    print(comparison_table(args.results, args.metrics))


def _add_curves(verb: argparse.ArgumentParser) -> None:
    verb.description = "Draw the losses of runs, and a metric at every resolution, as a PNG."
    verb.set_defaults(run=_curves)
    verb.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder of a run")
    verb.add_argument("--metric", help="default: mean_iou, of a classifier top1")
    verb.add_argument("--out", type=Path, required=True, metavar="PNG")
    verb.add_argument("--overwrite", action="store_true", help="write over a picture that exists")


def _curves(args: argparse.Namespace) -> None:
    check_output(args.out, overwrite=args.overwrite)
    _save(plot_curves(args.runs, args.metric), args.out)
    print(f"curves: {args.out}")


def _add_plot(verb: argparse.ArgumentParser) -> None:
    verb.description = (
        "Draw a metric of several results against the resolution or the multiply-adds. Results "
        "of one name become one line; hollow points are resolutions that were not trained."
    )
    verb.set_defaults(run=_plot)
    add = verb.add_argument
    add("results", type=Path, nargs="+", metavar="RESULTS", help="results.json, or its folder")
    add("--metric", help="default: top1, of a segmenter mean_iou")
    add("--against", choices=("resolution", "macs"), default="resolution")
    add("--names", nargs="+", metavar="NAME", help="one for each of the results")
    add("--out", type=Path, required=True, metavar="PNG")
    add("--overwrite", action="store_true", help="write over a picture that exists")


def _plot(args: argparse.Namespace) -> None:
    check_output(args.out, overwrite=args.overwrite)
    figure = plot_accuracy(args.results, metric=args.metric, axis=args.against, names=args.names)
    _save(figure, args.out)
    print(f"plot: {args.out}")


def _save(figure: Figure, path: Path) -> None:
    with written_whole(path) as temporary:
        figure.savefig(temporary, dpi=110, format=path.suffix[1:] or "png")


def _add_disagreement(verb: argparse.ArgumentParser) -> None:
    verb.description = (
        "Print, for every two models and resolutions, how many of the test images are right at "
        "the column and wrong at the row (Table 1 of the paper)."
    )
    verb.set_defaults(run=_disagreement)
    add = verb.add_argument
    add("runs", type=Path, nargs="+", metavar="RUN", help="folder with a correctness.npz")
    add("--resolutions", type=int, nargs="+", metavar="R", help="default: all that were tested")
    add("--ensemble", action="store_true", help="compare the ensembles as well")
    add("--out", type=Path, metavar="CSV", help="write the matrix to a file as well")
    add("--overwrite", action="store_true", help="write over a file that exists")


def _disagreement(args: argparse.Namespace) -> None:
    if args.out:
        check_output(args.out, overwrite=args.overwrite)
    table = disagreement.disagreement(
        args.runs, resolutions=args.resolutions, ensemble=args.ensemble
    )
    print(disagreement.layout(table))
    if args.out:
        write_csv(args.out, disagreement.as_rows(table))
        print(f"matrix: {args.out}")


def _add_import(verb: argparse.ArgumentParser) -> None:
    verb.description = "Write a published ImageNet file as a checkpoint that every command takes."
    verb.set_defaults(run=_import)
    add = verb.add_argument
    add("published", type=Path, metavar="FILE", help="such as model_best.pth.tar")
    add("--out", type=Path, required=True, metavar="PT")
    add("--resolutions", type=int, nargs="+", metavar="R", help="default: 224 192 160 128 96")
    add("--names", type=Path, metavar="TXT", help="names of the classes, one a line")


def _import(args: argparse.Namespace) -> None:
    classes = args.names.read_text(encoding="utf-8").splitlines() if args.names else None
    metadata = import_published(
        args.published, args.out, resolutions=args.resolutions, classes=classes
    )
    sides = ", ".join(map(str, metadata["resolutions"]))
    print(f"{args.out}: {metadata['model']['name']}, {len(metadata['classes'])} classes, {sides}")
