"""One ONNX file of all resolutions against a file for each, and what a change of resolution costs.

The peer is the folded network of the one resolution, in a file and a session of its own, in ONNX
Runtime; "speed" is its time over that of the file of all, so 0.91 is a latency of 1.10 times.
"file" is the size over that of the peer's file. Opening a file counts the time, and the memory at
the peak, until a session has computed its first image. "change" is how much longer the first image
after a change of the resolution takes than the second; where another file is opened, that is part
of it. Networks have random weights. Other runtimes are left out.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
import torchvision
from torch import nn

if not __package__:  # Run as a script: nothing is installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import Case, Work
from benchmarks.runner import make_parser, run
from rsseg.images.preprocessing import Preprocessing
from rsseg.runtime.description import Description
from rsseg.runtime.onnx import export, int8
from rsseg.segmentation import RefineNet
from rsseg.switchable.net import SwitchableNet
from rsseg.switchable.resolutions import Resolutions

RESOLUTIONS: Final = (224, 160, 96)
NETWORKS: Final[dict[str, tuple[str, Callable[[], nn.Module]]]] = {
    "resnet18": ("classification", torchvision.models.resnet18),
    "resnet50": ("classification", torchvision.models.resnet50),
    "mobilenetv2": ("classification", torchvision.models.mobilenet_v2),
    "refinenet-resnet18": ("segmentation", lambda: RefineNet("resnet18", classes=40)),
}
ALL, COMPACT, ONE = "all resolutions", "all, compact", "one resolution"
FLOATS: Final = (ONE, ALL, COMPACT)
INT8, INT8_ONE = "all, 8 bits", "one, 8 bits"  # calibrated with noise: times do not depend on it
Predict = Callable[[int], object]


def make_net(name: str, resolutions: Sequence[int]) -> SwitchableNet:
    """Build a network whose BatchNorm sets differ, in evaluation mode."""
    net = SwitchableNet(NETWORKS[name][1](), resolutions)
    for key, tensor in net.state_dict().items():
        if ".sets." in key and tensor.is_floating_point():
            positive = key.endswith(("weight", "running_var"))
            tensor.uniform_(*((0.5, 1.5) if positive else (-0.3, 0.3)))
    return net.eval()


def describe(
    name: str,
    resolutions: Sequence[int],
    resolution: int | None,
    *,
    layout: Literal["one", "fixed", "all"] | None = None,
) -> Description:
    """Describe a network with classes that have no names, in a file of one resolution or of all."""
    return Description(
        task="segmentation" if NETWORKS[name][0] == "segmentation" else "classification",
        name=name,
        classes=("none",),
        resolutions=Resolutions(resolutions),
        preprocessing=Preprocessing(),
        layout=layout or ("all" if resolution is None else "one"),
        resolution=resolution,
    )


@dataclass(frozen=True)
class Files:
    """Exported files of one network, made when they are asked for and not yet there.

    Args:
        folder: Where they are.
        name: Of the network.
        resolutions: That it has sets for.
    """

    folder: Path
    name: str
    resolutions: tuple[int, ...]

    def path(self, variant: str, resolution: int) -> Path:
        """Return the file of a variant, to be used at a resolution."""
        only = resolution if variant in (ONE, INT8_ONE) else None
        path = self.folder / f"{self.name} {variant} {only or ''}.onnx"
        if path.exists():
            return path
        description = describe(self.name, self.resolutions, only)
        if variant in (INT8, INT8_ONE):
            model = int8.integer_model(self.net, description, lambda side: iter([image(side)]))
            export.save(model, description, path)
        else:
            export.write(self.net, description, path, compact=variant == COMPACT)
        return path

    @functools.cached_property
    def net(self) -> SwitchableNet:
        """The network itself."""
        torch.manual_seed(0)  # The same in each process, whoever writes a file.
        return make_net(self.name, self.resolutions)


def open_session(path: Path, threads: int) -> Any:
    """Open a file for the CPU."""
    import onnxruntime  # noqa: PLC0415 An extra.

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Threads wait for more work actively; those of one session would slow the next one down.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@functools.cache
def image(resolution: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Make one normalised image."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((1, 3, resolution, resolution)).astype(np.float32)


def latency(files: Files, variant: str, resolution: int, options: argparse.Namespace) -> Work:
    """Prepare images through a session, one after the other."""
    path = files.path(variant, resolution)
    session, given = open_session(path, options.threads), {"images": image(resolution)}
    peer = files.path(ONE, resolution).stat().st_size

    def call() -> None:
        for _ in range(options.passes):
            session.run(None, given)

    size = path.stat().st_size
    return Work(call, units=options.passes, notes={"file, MiB": size / 2**20, "file": size / peer})


def opening(files: Files, variant: str, resolution: int, options: argparse.Namespace) -> Work:
    """Prepare the opening of a file and a first image."""
    path = files.path(variant, resolution)

    def call() -> None:
        open_session(path, options.threads).run(None, {"images": image(resolution)})

    return Work(call)


def changing(predictor: Callable[[], Predict], ends: tuple[int, int], passes: int) -> Work:
    """Prepare a pair of images at one resolution, then a pair at the other, and so on."""
    predict = predictor()
    order = [*ends] * passes

    def call() -> None:
        for resolution in order:
            predict(resolution)
            predict(resolution)

    call()
    costs = []
    for resolution in order:
        begin = time.perf_counter()
        predict(resolution)
        middle = time.perf_counter()
        predict(resolution)
        costs.append(2 * middle - begin - time.perf_counter())
    notes = {"change, ms": 1000 * statistics.median(costs)}
    return Work(call, units=2 * len(order), notes=notes)


def by_files(files: Files, options: argparse.Namespace) -> Predict:
    """Prepare a function that opens the file of a resolution when it is another than before."""
    opened: dict[int, Any] = {}

    def predict(resolution: int) -> object:
        if resolution not in opened:
            opened.clear()
            opened[resolution] = open_session(files.path(ONE, resolution), options.threads)
        return opened[resolution].run(None, {"images": image(resolution)})

    return predict


def by_session(files: Files, variant: str, options: argparse.Namespace) -> Predict:
    """Prepare a function that computes any resolution in one session."""
    session = open_session(files.path(variant, files.resolutions[0]), options.threads)
    return lambda resolution: session.run(None, {"images": image(resolution)})


def by_switching(files: Files) -> Predict:
    """Prepare the switchable network itself, in PyTorch."""

    def predict(resolution: int) -> object:
        with torch.inference_mode():
            return files.net.predict(torch.from_numpy(image(resolution)))

    return predict


def cases(options: argparse.Namespace) -> Iterator[Case]:
    """Yield the latency at each resolution, the opening of files, and changes of the resolution."""
    options.passes = options.passes or (5 if options.short else 10)
    files = Files(options.files, options.network, tuple(options.resolutions))
    sizes = {"network": options.network, "batch": 1, "sets": list(files.resolutions)}
    for resolution in files.resolutions:
        variants = variants_of(latency, files, resolution, options, (*FLOATS, INT8, INT8_ONE))
        yield Case(f"{resolution} pixels", variants, sizes, memory=False)
    ends = (files.resolutions[0], files.resolutions[-1])
    yield Case("open a file", variants_of(opening, files, ends[0], options, FLOATS), sizes)
    predictors: dict[str, Callable[[], Predict]] = {
        "another file": functools.partial(by_files, files, options),
        ALL: functools.partial(by_session, files, ALL, options),
        COMPACT: functools.partial(by_session, files, COMPACT, options),
        "switch, PyTorch": functools.partial(by_switching, files),
    }
    variants = {
        name: functools.partial(changing, predictor, ends, options.passes)
        for name, predictor in predictors.items()
    }
    yield Case("change", variants, {**sizes, "ends": ends}, memory=False)


def variants_of(
    prepare: Callable[..., Work],
    files: object,
    resolution: int,
    options: argparse.Namespace,
    names: Sequence[str],
) -> Mapping[str, Callable[[], Work]]:
    """Return the variants of a case: `prepare` for each kind of file, by its name."""
    return {
        variant: functools.partial(prepare, files, variant, resolution, options)
        for variant in names
    }


def run_on_files(
    script: str,
    parser: argparse.ArgumentParser,
    cases: Callable[[argparse.Namespace], Iterator[Case]],
    arguments: Sequence[str] | None,
) -> int:
    """Run a benchmark of exported files, which are written once for all of its processes.

    Args:
        script: Its file.
        parser: Of its own arguments; those of the network and the files are added.
        cases: Of it, given the options.
        arguments: Of the command line; None reads them.
    """
    parser.add_argument("--network", choices=NETWORKS, default="resnet18")
    parser.add_argument("--resolutions", type=int, nargs="+", default=RESOLUTIONS)
    parser.add_argument("--passes", type=int, help="in one round (default: 10, short: 5)")
    parser.add_argument("--files", type=Path, help="folder of the exported files (default: none)")
    given = list(sys.argv[1:] if arguments is None else arguments)
    with tempfile.TemporaryDirectory() as temporary:
        # Named in the arguments, so that processes of its own find the files that are there.
        own = [] if parser.parse_args(given).files else ["--files", temporary]
        return run(script, parser, cases, [*given, *own])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = make_parser("onnx_files", str(__doc__), threads=2, device="cpu")
    return run_on_files(__file__, parser, cases, arguments)


if __name__ == "__main__":
    sys.exit(main())
