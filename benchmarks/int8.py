"""A trained network in 8 bits against the same in floats: accuracy, size and time of its files.

Of a checkpoint four kinds of ONNX files are written: `rsseg export` in floats; with `--int8`, whose
scales of activations are private to each resolution; the control of it, in which all resolutions
have the scales that one calibration at the largest one gives; and a file of 8 bits for each
resolution. The test images are those that `train_*.py --evaluate` reads, and the metrics the same;
"same class" is the share of images, of a segmenter of the logits' places, whose most probable class
is that of the file of floats. Times are those of one view, batch 1, files and runtimes in turn.

On a machine with other work to do, give --processor-time: it counts the time of the processor.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from tqdm import tqdm

if not __package__:  # Run as a script: nothing is installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import Work, interleaved
from benchmarks.machine import describe as describe_machine
from benchmarks.onnx_files import image
from benchmarks.runner import positive_count
from benchmarks.tools import DOCUMENT, put_between
from classification.task import CLASSIFICATION
from datasets.classification import test_images
from datasets.segmentation import TestSamples
from rsseg.common.files import written_whole
from rsseg.common.messages import counted, markdown_table, message_of
from rsseg.heads import head_of
from rsseg.load import load_checkpoint
from rsseg.runtime.checkpoints import describe
from rsseg.runtime.onnx.calibration import CalibrationViews, calibration_images
from rsseg.runtime.onnx.export import export_checkpoint, save
from rsseg.runtime.onnx.int8 import RULE, integer_model
from rsseg.runtime.opening import open_executor
from rsseg.runtime.protocol import Executor, Logits
from rsseg.segmentation.task import SEGMENTATION
from rsseg.training.evaluate_checkpoint import check_classes, evaluation_config
from rsseg.training.evaluation import Evaluator, update
from rsseg.training.metadata import RunMetadata
from rsseg.training.task import EvalData, Task

FLOATS, INT8 = "floats", "8 bits"
CONTROL, OWN = "one calibration", "a file of its own"
VARIANTS: Final = (FLOATS, INT8, CONTROL, OWN)
TIMED: Final = (FLOATS, INT8, OWN)
RUNTIMES: Final = {"onnxruntime": "", "openvino": "OpenVINO: "}
PARTS: Final = ("accuracy", "latency")
_WIDTH: Final = 120  # columns of the document
# What is shown of a task: top-5 says little of few classes.
METRICS: Final = {"top1": "top-1", "pixel_accuracy": "pixel accuracy", "mean_iou": "mean IoU"}
Open = Callable[[Any], EvalData]
TASKS: Final[dict[str, tuple[Task[Any], Open]]] = {
    CLASSIFICATION.head.name: (CLASSIFICATION, test_images),
    SEGMENTATION.head.name: (SEGMENTATION, TestSamples),
}


@dataclass(frozen=True)
class Files:
    """Exported files of a checkpoint, each written when it is asked for and not yet there.

    Args:
        checkpoint: The network.
        calibrate: Folder of images to calibrate with.
        folder: Where the files are.
    """

    checkpoint: Path
    calibrate: Path
    folder: Path

    @functools.cached_property
    def resolutions(self) -> tuple[int, ...]:
        """Trained resolutions, each once, largest first."""
        return tuple(dict.fromkeys(load_checkpoint(self.checkpoint)[0].resolutions))

    def path(self, variant: str, resolution: int) -> Path:
        """Return the file of a variant, to be used at a resolution."""
        only = resolution if variant == OWN else None
        path = self.folder / f"{variant} {only or ''}".rstrip().replace(" ", "_")
        path = path.with_suffix(".onnx")
        if not path.exists():
            print(f"write {path.name}", flush=True)
            self._write(variant, path, only)
        return path

    def _write(self, variant: str, path: Path, only: int | None) -> None:
        if variant == CONTROL:
            self._write_control(path)
        else:
            images = None if variant == FLOATS else self.calibrate
            export_checkpoint(self.checkpoint, path, resolution=only, calibrate=images)

    def _write_control(self, path: Path) -> None:
        net, _, metadata = load_checkpoint(self.checkpoint)
        description = describe(metadata, self.checkpoint, unseen=RULE)
        views = CalibrationViews(calibration_images(self.calibrate), description.preprocessing)
        model = integer_model(net, description, views.batches, one_calibration=True)
        save(model, replace(description, bits=8), path)


def _open(path: Path, runtime: str = "onnxruntime") -> Executor:
    """Open a file, to compute in one thread."""
    return open_executor(path, runtime, threads=1)[0]


# Accuracy.


@dataclass
class Outcome:
    """What a file answers at a resolution.

    Args:
        evaluator: Has seen the logits of all test images.
        same: Of each image the share of the places with the class that the floats give.
    """

    evaluator: Evaluator
    same: list[float] = field(default_factory=list)


Outcomes = Mapping[tuple[str, int], Outcome]


def open_data(metadata: RunMetadata, settings: Sequence[str]) -> tuple[Task[Any], EvalData]:
    """Open the test images of a checkpoint, as `train_*.py --evaluate` does.

    Args:
        metadata: Of the checkpoint.
        settings: Changes of its settings, such as "data.root=PATH".

    Raises:
        ValueError: If a setting is not one of evaluation, or the data has other classes.
        OSError: If a folder or a file is missing.
    """
    task, opened = TASKS[metadata.task]
    data = opened(evaluation_config(task.config, metadata, settings))
    if not metadata.imported:  # Imported classes have no names.
        check_classes(data.classes, metadata.classes)
    return task, data


def accuracies(files: Files, task: Task[Any], data: EvalData) -> Outcomes:
    """Compute what each file answers to the test images, at each resolution."""
    sides = files.resolutions
    keys = [(kind, side) for side in sides for kind in VARIANTS]
    opened = {path: _open(path) for path in {files.path(*key) for key in keys}}
    outcomes = {key: Outcome(task.evaluator(data)) for key in keys}
    normalise = load_checkpoint(files.checkpoint)[1].normalise
    for views, target in tqdm(data.batches(sides), desc="evaluate", unit="batch", leave=False):
        for side, view in zip(sides, views, strict=True):
            normalised = normalise(view).numpy()
            logits = {
                kind: opened[files.path(kind, side)].logits(normalised, side) for kind in VARIANTS
            }
            for kind, own in logits.items():
                update(outcomes[kind, side].evaluator, torch.from_numpy(own), target)
                outcomes[kind, side].same += same_class(own, logits[FLOATS])
    return outcomes


def same_class(logits: Logits, floats: Logits) -> list[float]:
    """Return of each image the share of the places with the same most probable class."""
    same = logits.argmax(axis=1) == floats.argmax(axis=1)
    shares: list[float] = same.reshape(len(same), -1).mean(axis=1).tolist()
    return shares


def accuracy_table(outcomes: Outcomes) -> str:
    """Lay out the metrics in percent as Markdown, a line for each resolution."""
    sides = list(dict.fromkeys(side for _, side in outcomes))
    rows = [
        ["resolution", *VARIANTS, *(f"same class: {kind}" for kind in VARIANTS if kind != FLOATS)]
    ]
    for side in sides:
        own = {kind: outcomes[kind, side] for kind in VARIANTS}
        metrics = [_metrics(own[kind].evaluator.result()) for kind in VARIANTS]
        same = [f"{100 * float(np.mean(own[k].same)):.1f} %" for k in VARIANTS if k != FLOATS]
        rows.append([str(side), *metrics, *same])
    return markdown_table(rows)


def _metrics(result: Mapping[str, float]) -> str:
    return " / ".join(f"{100 * result[name]:.1f}" for name in METRICS if name in result)


def accuracy_text(files: Files, outcomes: Outcomes) -> str:
    """Return what was measured, the table, and the sizes of the files."""
    first = next(iter(outcomes.values()))
    names = " / ".join(METRICS[name] for name in METRICS if name in first.evaluator.result())
    images = counted(len(first.same), "test image")
    text = textwrap.fill(sizes(files), _WIDTH)
    return f"In percent {names}, {images}:\n\n{accuracy_table(outcomes)}\n\n{text}"


def sizes(files: Files) -> str:
    """Return a sentence with the sizes of the files, and what they are of that of floats."""
    count = len(files.resolutions)
    size = {
        kind: sum(path.stat().st_size for path in {files.path(kind, r) for r in files.resolutions})
        for kind in VARIANTS
    }
    parts = [
        f"{name} {size[kind] / 2**20:.2f} MiB ({size[kind] / size[FLOATS]:.2f})"
        for kind, name in (
            (INT8, INT8),
            (CONTROL, CONTROL),
            (OWN, f"the {counted(count, 'file')} of one resolution together"),
        )
    ]
    return f"Files: floats {size[FLOATS] / 2**20:.2f} MiB, {', '.join(parts)}."


# Latency.


def works(files: Files, resolution: int, passes: int) -> dict[tuple[str, str], Work]:
    """Prepare views through each kind of file in each runtime, one after the other."""
    view = image(resolution)
    return {
        (runtime, kind): Work(
            functools.partial(
                _repeat, _open(files.path(kind, resolution), runtime), view, resolution, passes
            ),
            units=passes,
        )
        for runtime in RUNTIMES
        for kind in TIMED
    }


def _repeat(executor: Executor, view: Any, resolution: int, passes: int) -> None:
    for _ in range(passes):
        executor.logits(view, resolution)


def latency_table(files: Files, options: argparse.Namespace) -> str:
    """Time the files in turn and lay out the medians as Markdown, a line for each resolution."""
    heads = [f"{label}{kind}" for label in RUNTIMES.values() for kind in TIMED]
    rows = [["resolution", *heads]]
    clock = time.process_time if options.processor_time else time.perf_counter
    for side in files.resolutions:
        prepared = works(files, side, options.passes)
        named = {" ".join(key): work for key, work in prepared.items()}
        times = interleaved(named, options.rounds, clock=clock)
        rows.append([str(side), *(f"{1e3 * statistics.median(times[n]):.2f}" for n in named)])
        print("  ".join(rows[-1]), flush=True)
    return markdown_table(rows)


def latency_text(files: Files, options: argparse.Namespace) -> str:
    """Return what was measured, and the table."""
    kind = "time of the processor, " if options.processor_time else ""
    machine = describe_machine(torch.device("cpu"))
    text = (
        f"Milliseconds of one thread for a view, batch 1, {kind}median of {options.rounds} rounds "
        f"in turn; ONNX Runtime, then OpenVINO; {machine['cpu']} ({machine['class']}):"
    )
    return f"{textwrap.fill(text, _WIDTH)}\n\n{latency_table(files, options)}"


# The command.


def markers(noun: str, part: str) -> tuple[str, str]:
    """Return the markers around what is written of a kind of network."""
    return f"<!-- int8, {part} of a {noun}: begin -->", f"<!-- int8, {part} of a {noun}: end -->"


def write_document(texts: Mapping[str, str], noun: str, document: Path) -> None:
    """Put what was measured between its markers in a document.

    Raises:
        ValueError: If they are not there, each once.
    """
    text = document.read_text(encoding="utf-8")
    for part, content in texts.items():
        text = put_between(text, content, *markers(noun, part))
    with written_whole(document) as temporary:
        temporary.write_text(text, encoding="utf-8")


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.int8",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("checkpoint", type=Path, metavar="CHECKPOINT", help="runs/NAME/last.pt")
    what = "folder of images that ranges of activations are measured on, such as data/train"
    add("--calibrate", type=Path, required=True, metavar="FOLDER", help=what)
    add("--test", metavar="DATA", help="root of the test data (default: as it was trained)")
    what = "other settings of --evaluate, such as workers=0"
    add("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help=what)
    add("--rounds", type=positive_count, default=11, help="rounds that are timed (default: 11)")
    add("--passes", type=positive_count, default=10, help="views in a round (default: 10)")
    add("--processor-time", action="store_true", help="count the time of the processor")
    add("--skip", choices=PARTS, help="leave a part out")
    add("--files", type=Path, help="folder of the exported files, kept and used again")
    add("--write", action="store_true", help=f"put the tables into {DOCUMENT}")
    return parser


def measure(files: Files, options: argparse.Namespace) -> dict[str, str]:
    """Measure what is not left out; return the texts by part."""
    texts = {}
    if options.skip != "accuracy":
        settings = [*options.set, *([f"data.root={options.test}"] if options.test else [])]
        task, data = open_data(load_checkpoint(files.checkpoint)[2], settings)
        outcomes = accuracies(files, task, data)
        texts["accuracy"] = accuracy_text(files, outcomes)
    if options.skip != "latency":
        texts["latency"] = latency_text(files, options)
    return texts


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        try:
            noun = head_of(load_checkpoint(options.checkpoint)[2].task).noun
            calibration_images(options.calibrate)  # What is wrong is said at once.
            folder = options.files or Path(temporary)
            folder.mkdir(parents=True, exist_ok=True)
            texts = measure(Files(options.checkpoint, options.calibrate, folder), options)
            print("\n" + "\n\n".join(texts.values()))
            if options.write:
                write_document(texts, noun, DOCUMENT)
        except (ValueError, OSError, ImportError) as error:
            parser.error(message_of(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
