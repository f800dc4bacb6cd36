"""The command `rsseg`: what is done with a trained network, without any data set.

Parsing and printing only. Each verb is a sub-command: a function that names its arguments and one
that hands them to the library. Training is in `train_seg.py`, which knows the data sets.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rsseg.curves import plot_curves
from rsseg.device import choose_device
from rsseg.load import load_checkpoint
from rsseg.run import comparison_table
from rsseg.segmentation.files import TruthFiles, find_images
from rsseg.segmentation.predict import Predictor
from rsseg.segmentation.predict_files import FIGURE_ROWS, OutputFolder, predict_files, table
from rsseg.unseen import RULES
from rsseg.writing import written_whole

METRICS = ("pixel_accuracy", "mean_accuracy", "mean_iou")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments without the program's name; default are those of the process.

    Returns:
        Exit status: 0, 2 if something that was given is wrong, 130 after an interruption.
    """
    args = _parser().parse_args(argv)
    try:
        args.run(args)
    except (ValueError, OSError) as error:
        print(f"rsseg {args.verb}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"rsseg {args.verb}: interrupted; files already written are whole", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rsseg", description="Resolution switchable networks.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    _add_predict(verbs.add_parser("predict", help="label maps and pictures of any images"))
    _add_compare(verbs.add_parser("compare", help="one table of the results of several runs"))
    _add_curves(verbs.add_parser("curves", help="losses and metrics of runs as a picture"))
    return parser


def _add_predict(verb: argparse.ArgumentParser) -> None:
    verb.description = (
        "Segment images at several resolutions. Writes label maps (PNG, class of each pixel), "
        "overlays, one side-by-side picture per image and, for several images, the first "
        f"{FIGURE_ROWS} in one figure."
    )
    verb.set_defaults(run=_predict)
    add = verb.add_argument
    add("checkpoint", type=Path, metavar="CHECKPOINT", help="such as runs/NAME/last.pt")
    add("images", type=Path, nargs="+", metavar="IMAGE", help="image files, or folders of them")
    add("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    add("--resolutions", type=int, nargs="+", metavar="R", help="default: those trained")
    add("--unseen", choices=RULES, help="BatchNorm of resolutions that were not trained")
    add("--compare", type=Path, metavar="CHECKPOINT", help="a second network, in a row of its own")
    add("--name", help="name of the network in pictures; default: from the checkpoint")
    add("--compare-name", metavar="NAME", help="name of the second network")
    add("--labels", type=Path, metavar="PATH", help="ground truth: folder of PNGs, or one PNG")
    add("--label-offset", type=int, metavar="N", help="value of the first class there; default: 0")
    add("--void-value", type=int, metavar="N", help="value without class there; default: 255")
    add("--device", default="auto", help="auto, cpu or cuda; default: auto")
    add("--overwrite", action="store_true", help="write over results that exist")


def _predict(args: argparse.Namespace) -> None:
    images = find_images(args.images)
    predictors = _predictors(args)
    classes = len(predictors[0].classes)
    truth = (
        TruthFiles(args.labels, classes, args.label_offset, args.void_value)
        if args.labels
        else None
    )
    results = predict_files(
        predictors,
        images,
        args.out,
        resolutions=args.resolutions or list(dict.fromkeys(predictors[0].net.resolutions)),
        truth=truth,
        overwrite=args.overwrite,
    )
    print(table(results))
    folder = OutputFolder(args.out)
    print(f"label maps, overlays, pictures: {', '.join(map(str, folder.folders))}")
    if len(images) > 1:
        print(f"figure of the first {min(len(images), FIGURE_ROWS)} images: {folder.figure}")


def _add_compare(verb: argparse.ArgumentParser) -> None:
    verb.description = "Print the metrics of several results in one table."
    verb.set_defaults(run=_compare)
    verb.add_argument("results", type=Path, nargs="+", metavar="RESULTS", help="RUN/results.json")
    verb.add_argument("--metrics", nargs="+", default=METRICS, metavar="NAME")


def _compare(args: argparse.Namespace) -> None:
    print(comparison_table(args.results, args.metrics))


def _add_curves(verb: argparse.ArgumentParser) -> None:
    verb.description = "Draw the losses of runs, and a metric at every resolution, as a PNG."
    verb.set_defaults(run=_curves)
    verb.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder of a run")
    verb.add_argument("--metric", default="mean_iou", help="default: mean_iou")
    verb.add_argument("--out", type=Path, required=True, metavar="PNG")
    verb.add_argument("--overwrite", action="store_true", help="write over a picture that exists")


def _curves(args: argparse.Namespace) -> None:
    if args.out.exists() and not args.overwrite:
        raise ValueError(f"{args.out} exists; choose another name, or give --overwrite")
    figure = plot_curves(args.runs, args.metric)
    with written_whole(args.out) as temporary:
        figure.savefig(temporary, dpi=110, format=args.out.suffix[1:] or "png")
    print(f"curves: {args.out}")


def _predictors(args: argparse.Namespace) -> list[Predictor]:
    """Load the networks that are asked for."""
    device = choose_device(args.device)
    asked = [(args.checkpoint, args.name, args.compare)]
    if args.compare:
        asked.append((args.compare, args.compare_name, args.checkpoint))
    predictors = []
    for path, given, other in asked:
        net, preprocessing, metadata = load_checkpoint(path)
        if not metadata.get("classes"):
            raise ValueError(f"{path} names no classes; give the checkpoint of a segmenter")
        if args.unseen:
            net.unseen = args.unseen
        name = given or metadata.get("name") or _name(path, other)
        predictors.append(
            Predictor(net, preprocessing, metadata["classes"], name=name, device=device)
        )
    return predictors


def _name(path: Path, other: Path | None) -> str:
    """Name a network after its file, or after the folder of a run, whose files are all alike."""
    folder = path.resolve().parent.name
    name = folder if path.stem in ("last", "best") else path.stem
    return name if other is None or _name(other, None) != name else f"{folder} {path.stem}"
