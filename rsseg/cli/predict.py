"""The verb `rsseg predict`: label maps of a segmenter, or classes of a classifier.

Parsing and printing only; what computes is imported where it runs. The file tells which network it
holds. Images are predicted at several resolutions, the frames of a video each at one.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rsseg.cli.options import (
    add_allow_builder,
    add_executor,
    add_full_decode,
    add_labels,
    add_network,
    add_overwrite,
    add_resolutions,
    label_reading,
)

TOP = 3
# Those of `runtime.predict.video` and `switchable.unseen`, which load PyTorch.
FPS = 25.0
RULES = ("interpolate", "nearest", "extrapolate")
# Options that one kind of network has no use for; silence would look like obedience.
_SEGMENTERS = (
    *("compare", "compare_name", "name", "labels", "no_legend", "no_pictures"),
    *("label_reading", "label_offset", "void_value"),
)
_CLASSIFIERS = ("top",)
_VIDEOS = ("fps", "budget_ms", "show")


def add_predict(verb: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    verb.description = (
        "Predict images at several resolutions. A segmenter writes label maps (PNG, class of each "
        "pixel), overlays, one side-by-side picture per image and, for several images, the first "
        "in one figure. A classifier prints the most probable classes. Milliseconds are those from "
        "the image's file to the answer, and of each stage on the way."
    )
    verb.set_defaults(run=_predict)
    add = verb.add_argument
    add_network(verb)
    add("images", type=Path, nargs="+", metavar="IMAGE", help="image files, or folders of them")
    add("--out", type=Path, help="folder for the results, which a segmenter needs; or video file")
    add_resolutions(verb, "default: those trained, of both networks with --compare")
    add("--unseen", choices=RULES, help="BatchNorm of resolutions that were not trained")
    add_executor(verb, device="auto")
    add_allow_builder(verb)
    add_full_decode(verb)
    add_overwrite(verb)
    add = verb.add_argument_group("classifiers").add_argument
    add("--top", type=int, metavar="N", help=f"how many classes; default: {TOP}")
    segmenters = verb.add_argument_group("segmenters")
    add = segmenters.add_argument
    second = "a second network, in a row of its own; its file may be of another kind"
    add("--compare", type=Path, metavar="NETWORK", help=second)
    add("--name", help="name of the network in pictures; default: from the file")
    add("--compare-name", metavar="NAME", help="name of the second network")
    add_labels(segmenters)
    add("--no-legend", action="store_true", default=None, help="overlays without their legend")
    alone = "label maps alone: no overlays, which need whole photos, and no pictures"
    add("--no-pictures", action="store_true", default=None, help=alone)
    _add_video(verb)


def _add_video(verb: argparse.ArgumentParser) -> None:
    add = verb.add_argument_group("videos").add_argument
    video = "IMAGE is a video file, or the number of a camera"
    add("--video", action="store_true", help=video)
    add("--fps", type=float, metavar="N", help=f"frames per second to keep; default: {FPS:g}")
    add("--budget-ms", type=float, metavar="MS", help="for one frame; default: 1000 / fps")
    add("--show", action="store_true", default=None, help="in a window; q closes it")


def _predict(args: argparse.Namespace) -> None:
    if args.video:
        _predict_video(args)
        return
    from rsseg.runtime.predict.images import find_images

    _refuse(args, _VIDEOS, "to predict images")
    images = find_images(args.images)
    predictor = _open(args, args.network, args.executor)
    if not predictor.head.dense:
        _refuse(args, _SEGMENTERS, "a classifier")
        _classify(args, images, predictor)
    else:
        _refuse(args, _CLASSIFIERS, "a segmenter")
        _segment(args, images, predictor)


def _refuse(args: argparse.Namespace, options: tuple[str, ...], kind: str) -> None:
    given = [option for option in options if getattr(args, option) is not None]
    if given:
        flags = ", ".join(f"--{option.replace('_', '-')}" for option in given)
        raise ValueError(f"{args.network} is {kind}, which takes no {flags}; leave it out")


# Of type Any below: naming the type of a predictor would load PyTorch.


def _open(
    args: argparse.Namespace, path: Path, executor: str | None, device: str | None = None
) -> Any:
    """Return the predictor of a file."""
    from rsseg.runtime.predictor import Predictor

    return Predictor.open(
        path,
        executor,
        threads=args.threads,
        device=device or args.device,
        unseen=args.unseen,
        allow_builder=args.allow_builder,
        full_decode=args.full_decode,
    )


def _predict_video(args: argparse.Namespace) -> None:
    _refuse(args, (*_SEGMENTERS, *_CLASSIFIERS), "to predict a video")
    if len(args.images) > 1:
        raise ValueError(f"--video takes one source, got {len(args.images)}; give one by one")
    if args.resolutions and len(args.resolutions) > 1:
        raise ValueError("a frame is predicted at one resolution; give --resolutions R, or none")
    for option in ("budget_ms", "fps"):
        if args.resolutions and getattr(args, option):
            flag = f"--{option.replace('_', '-')}"
            raise ValueError(f"{flag} chooses the resolution; leave out --resolutions, or that")
    from rsseg.runtime.predict.video import predict_video, summary

    frames = predict_video(
        _open(args, args.network, args.executor),
        str(args.images[0]),
        args.out,
        fps=FPS if args.fps is None else args.fps,
        budget_ms=args.budget_ms,
        resolution=args.resolutions[0] if args.resolutions else None,
        show=bool(args.show),
        overwrite=args.overwrite,
    )
    print(summary(frames))
    if args.out:
        print(f"video: {args.out}")


def _classify(args: argparse.Namespace, images: list[Path], predictor: Any) -> None:
    from rsseg.runtime.predict.classify import (
        classify_files,
        predictions_file,
        table,
    )

    answers = classify_files(
        predictor,
        images,
        resolutions=args.resolutions or predictor.resolutions,
        top=TOP if args.top is None else args.top,
        out=args.out,
        overwrite=args.overwrite,
    )
    print(table(answers))
    if args.out:
        print(f"predictions: {predictions_file(args.out)}")


def _segment(args: argparse.Namespace, images: list[Path], predictor: Any) -> None:
    from rsseg.runtime.predict.segment import (
        FIGURE_ROWS,
        OutputFolder,
        predict_files,
        table,
    )
    from rsseg.runtime.predict.truth import TruthFiles

    if args.out is None:
        raise ValueError(f"{args.network} is a segmenter, which writes files; give --out DIR")
    truth = None
    if args.labels:
        reading = label_reading(args) or predictor.description.labels
        truth = TruthFiles(args.labels, len(predictor.classes), reading)
        images = truth.photos(images)
    results = predict_files(
        _networks(args, predictor),
        images,
        args.out,
        resolutions=args.resolutions,
        truth=truth,
        legend=not args.no_legend,
        pictures=not args.no_pictures,
        overwrite=args.overwrite,
    )
    print(table(results))
    folder = OutputFolder(args.out)
    if args.no_pictures:
        print(f"label maps: {folder.folders[0]}")
        return
    print(f"label maps, overlays, pictures: {', '.join(map(str, folder.folders))}")
    if len(images) > 1:
        print(f"figure of the first {min(len(images), FIGURE_ROWS)} images: {folder.figure}")


def _networks(args: argparse.Namespace, predictor: Any) -> list[Any]:
    """Return the segmenter and the one that it is compared with, under their names."""
    predictors, paths = [predictor], [args.network]
    if args.compare:
        from rsseg.runtime.opening import takes

        # --executor and --device are for the files that take them: a checkpoint on a CUDA device
        # is compared with an ONNX file.
        executor = args.executor if args.executor and takes(args.executor, args.compare) else None
        device = args.device if takes("torch", args.compare) else "auto"
        predictors.append(_open(args, args.compare, executor, device))
        paths.append(args.compare)
    names = _distinct_names([one.name for one in predictors], paths)
    for one, name, given in zip(predictors, names, (args.name, args.compare_name), strict=False):
        one.name = given or name
    return predictors


def _distinct_names(names: list[str], paths: list[Path]) -> list[str]:
    """Return names that tell networks apart: as given, with the folder's, or of the files."""
    with_folders = [f"{path.resolve().parent.name} {path.stem}" for path in paths]
    for candidates in (names, with_folders, [path.name for path in paths]):
        if len(set(candidates)) == len(candidates):
            return candidates
    return names
