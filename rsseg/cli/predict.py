"""The verb `rsseg predict`: label maps of a segmenter, or classes of a classifier.

Parsing and printing only. The checkpoint tells which of the two it holds. Images are predicted at
several resolutions, the frames of a video each at one.
"""

from __future__ import annotations

import argparse
import statistics
from collections import Counter
from pathlib import Path

from rsseg.common.device import choose_device
from rsseg.images.preprocessing import Preprocessing
from rsseg.load import head_of, load_checkpoint
from rsseg.runtime.predict.classify import Classifier, classify_files, predictions_file
from rsseg.runtime.predict.classify import table as class_table
from rsseg.runtime.predict.row import Predictor
from rsseg.runtime.predict.segment import FIGURE_ROWS, OutputFolder, predict_files, table
from rsseg.runtime.predict.truth import TruthFiles, find_images
from rsseg.runtime.predict.video import FPS, Frame, predict_video
from rsseg.runtime.predictor import Predictor as FramePredictor
from rsseg.switchable.net import SwitchableNet
from rsseg.switchable.unseen import RULES
from rsseg.training.metadata import RunMetadata

TOP = 3
# Options that one kind of network has no use for; silence would look like obedience.
_SEGMENTERS = ("compare", "compare_name", "labels", "label_offset", "void_value", "name")
_CLASSIFIERS = ("top",)
_VIDEOS = ("fps", "budget_ms", "show")
Loaded = tuple[SwitchableNet, Preprocessing, RunMetadata]


def add_predict(verb: argparse.ArgumentParser) -> None:
    """Name the arguments of the verb."""
    verb.description = (
        "Predict images at several resolutions. A segmenter writes label maps (PNG, class of each "
        "pixel), overlays, one side-by-side picture per image and, for several images, the first "
        f"{FIGURE_ROWS} in one figure. A classifier prints the most probable classes."
    )
    verb.set_defaults(run=_predict)
    add = verb.add_argument
    add("checkpoint", type=Path, metavar="CHECKPOINT", help="such as runs/NAME/last.pt")
    add("images", type=Path, nargs="+", metavar="IMAGE", help="image files, or folders of them")
    add("--out", type=Path, help="folder for the results, which a segmenter needs; or video file")
    add("--resolutions", type=int, nargs="+", metavar="R", help="default: those trained")
    add("--unseen", choices=RULES, help="BatchNorm of resolutions that were not trained")
    add("--device", default="auto", help="auto, cpu or cuda; default: auto")
    add("--overwrite", action="store_true", help="write over results that exist")
    add = verb.add_argument_group("classifiers").add_argument
    add("--top", type=int, metavar="N", help=f"how many classes; default: {TOP}")
    add = verb.add_argument_group("segmenters").add_argument
    add("--compare", type=Path, metavar="CHECKPOINT", help="a second network, in a row of its own")
    add("--name", help="name of the network in pictures; default: from the checkpoint")
    add("--compare-name", metavar="NAME", help="name of the second network")
    add("--labels", type=Path, metavar="PATH", help="ground truth: folder of PNGs, or one PNG")
    add("--label-offset", type=int, metavar="N", help="value of the first class there; default: 0")
    add("--void-value", type=int, metavar="N", help="value without class there; default: 255")
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
    _refuse(args, _VIDEOS, "to predict images")
    images = find_images(args.images)
    loaded = load_checkpoint(args.checkpoint)
    if not head_of(loaded[2].task).dense:
        _refuse(args, _SEGMENTERS, "a classifier")
        _classify(args, images, loaded)
    else:
        _refuse(args, _CLASSIFIERS, "a segmenter")
        _segment(args, images, loaded)


def _refuse(args: argparse.Namespace, options: tuple[str, ...], kind: str) -> None:
    given = [option for option in options if getattr(args, option) is not None]
    if given:
        flags = ", ".join(f"--{option.replace('_', '-')}" for option in given)
        raise ValueError(f"{args.checkpoint} is {kind}, which takes no {flags}; leave it out")


def _predict_video(args: argparse.Namespace) -> None:
    _refuse(args, (*_SEGMENTERS, *_CLASSIFIERS, "unseen"), "to predict a video")
    if len(args.images) > 1:
        raise ValueError(f"--video takes one source, got {len(args.images)}; give one by one")
    if args.resolutions and len(args.resolutions) > 1:
        raise ValueError("a frame is predicted at one resolution; give --resolutions R, or none")
    if args.resolutions and args.budget_ms:
        raise ValueError("--budget-ms chooses the resolution; leave out --resolutions, or that")
    exported = args.checkpoint.suffix == ".onnx"
    if exported and args.device not in ("auto", "cpu"):
        raise ValueError(f"{args.checkpoint} runs on the CPU; leave out --device {args.device}")
    if args.resolutions and args.fps:
        raise ValueError("--fps chooses the resolution; leave out --resolutions, or that")
    device = "cpu" if exported else args.device
    try:
        predictor = FramePredictor.open(args.checkpoint, device=device)
    except ImportError as error:  # An extra that is not installed.
        raise ValueError(str(error)) from error
    frames = predict_video(
        predictor,
        str(args.images[0]),
        args.out,
        fps=FPS if args.fps is None else args.fps,
        budget_ms=args.budget_ms,
        resolution=args.resolutions[0] if args.resolutions else None,
        show=bool(args.show),
        overwrite=args.overwrite,
    )
    print(_video_summary(frames))
    if args.out:
        print(f"video: {args.out}")


def _video_summary(frames: list[Frame]) -> str:
    if not frames:
        return "0 frames"
    took = statistics.median(frame.milliseconds for frame in frames)
    counted = Counter(frame.resolution for frame in frames)
    shares = ", ".join(f"{count} at {side} px" for side, count in sorted(counted.items())[::-1])
    return f"{len(frames)} frames ({shares}), {took:.1f} ms a frame, {1000 / took:.1f} per second"


def _classify(args: argparse.Namespace, images: list[Path], loaded: Loaded) -> None:
    net, preprocessing, metadata = loaded
    net.unseen = args.unseen or net.unseen
    device = choose_device(args.device)
    answers = classify_files(
        Classifier(net, preprocessing, metadata.classes, device=device),
        images,
        resolutions=args.resolutions or list(dict.fromkeys(net.resolutions)),
        top=TOP if args.top is None else args.top,
        out=args.out,
        overwrite=args.overwrite,
    )
    print(class_table(answers))
    if args.out:
        print(f"predictions: {predictions_file(args.out)}")


def _segment(args: argparse.Namespace, images: list[Path], loaded: Loaded) -> None:
    if args.out is None:
        raise ValueError(f"{args.checkpoint} is a segmenter, which writes files; give --out DIR")
    predictors = _predictors(args, loaded)
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


def _predictors(args: argparse.Namespace, loaded: Loaded) -> list[Predictor]:
    """Make the segmenters that are asked for ready."""
    device = choose_device(args.device)
    asked = [(args.checkpoint, args.name, args.compare, loaded)]
    if args.compare:
        other = load_checkpoint(args.compare)
        asked.append((args.compare, args.compare_name, args.checkpoint, other))
    predictors = []
    for path, given, other_path, (net, preprocessing, metadata) in asked:
        if not metadata.classes or not head_of(metadata.task).dense:
            raise ValueError(
                f"{path} is no segmenter with named classes; give the checkpoint of one"
            )
        net.unseen = args.unseen or net.unseen
        name = given or metadata.name or _name(path, other_path)
        predictors.append(Predictor(net, preprocessing, metadata.classes, name=name, device=device))
    return predictors


def _name(path: Path, other: Path | None) -> str:
    """Name a network after its file, or after the folder of a run, whose files are all alike."""
    folder = path.resolve().parent.name
    name = folder if path.stem in ("last", "best") else path.stem
    return name if other is None or _name(other, None) != name else f"{folder} {path.stem}"
