"""The verb `rsseg paper`: one page of every table and figure of the paper that runs allow."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rsseg.cli.options import add_labels, add_out, label_reading

SCENES = 4  # photos in Fig. 8


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
    scenes = f"folder of photos for Fig. 8; {SCENES} are shown, evenly spaced"
    verb.add_argument("--scenes", type=Path, metavar="DIR", help=scenes)
    add_labels(verb.add_argument_group("ground truth of the photos of Fig. 8"))
    add_out(verb, "HTML")


def _paper(args: argparse.Namespace) -> None:
    from rsseg.analysis.paper_page import report
    from rsseg.analysis.paper_runs import find_runs
    from rsseg.common.files import check_output, write_whole

    out = args.out if args.out.suffix else args.out.with_suffix(".html")
    check_output(out, overwrite=args.overwrite)
    if args.scenes is None and args.labels is not None:
        raise ValueError("--labels is the ground truth of photos; give them with --scenes DIR")
    scenes = None if args.scenes is None else _scenes(args)
    runs, messages = find_runs(args.runs)
    write_whole(out, report(runs, messages, args.images, scenes))
    print(f"page of {len(runs)} runs: {out}")


def _scenes(args: argparse.Namespace) -> Any:
    """Return what draws checkpoints under their names on the photos."""
    from rsseg.analysis.features import find_samples
    from rsseg.runtime.predict.scenes import scenes_figure
    from rsseg.runtime.predict.truth import TruthFiles
    from rsseg.runtime.predictor import Predictor

    photos = find_samples(args.scenes, SCENES)
    reading = label_reading(args)

    def draw(networks: dict[str, Path]) -> Any:
        opened = [Predictor.open(path) for path in networks.values()]
        for predictor, name in zip(opened, networks, strict=True):
            predictor.name = name
        first = opened[0].description
        labels = reading or first.labels
        truth = TruthFiles(args.labels, len(first.classes), labels) if args.labels else None
        return scenes_figure(opened, photos, truth)

    return draw
